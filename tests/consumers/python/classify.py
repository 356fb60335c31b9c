"""Classifies images with a file of milenas-export in ONNX Runtime, without this project's programs.

    python classify.py model.onnx photo.jpg more/*.png

prints a JSON line an image: path, label, probability. Everything it must know is in the file's metadata, under
`milenas.card`; docs/guide/deploy.md has the input contract in prose. Needs: pip install onnxruntime numpy Pillow.
"""
import json
import sys

import numpy as np
import onnxruntime as ort
from PIL import Image, ImageOps


class Classifier:
    def __init__(self, path, threads=0):
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        card = json.loads(self.session.get_modelmeta().custom_metadata_map["milenas.card"])
        self.labels, self.input = card["labels"], card["input"]
        # A file made with --input uint8 takes bytes as they are and scales them itself.
        self.takes_bytes = self.session.get_inputs()[0].type == "tensor(uint8)"
        self.gives_logits = self.session.get_outputs()[0].name == "logits"

    def prepare(self, path):
        """A picture at the network's size: bytes [H, W, C], or floats [C, H, W]."""
        return self.normalise(prepare(Image.open(path), self.input))

    def normalise(self, pixels):
        if self.takes_bytes:
            return pixels
        mean, std = (np.array(self.input[key], dtype=np.float32) for key in ("mean", "std"))
        return ((pixels.astype(np.float32) / np.float32(255) - mean) / std).transpose(2, 0, 1)

    def probabilities(self, pictures):
        """[N, classes] of what `prepare` gave for N pictures."""
        x = np.ascontiguousarray(np.stack(pictures))
        y = self.session.run(None, {self.session.get_inputs()[0].name: x})[0]
        if self.gives_logits:
            y = np.exp(y - y.max(1, keepdims=True))
            y /= y.sum(1, keepdims=True)
        return y


def prepare(image, recipe):
    """Upright, over the background, resized and cropped: bytes [H, W, C]."""
    image = ImageOps.exif_transpose(image)
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if transparent and recipe["background"] is not None:
        canvas = Image.new("RGBA", image.size, tuple(recipe["background"]) + (255,))
        image = Image.alpha_composite(canvas, image.convert("RGBA"))
    image = image.convert("RGB")
    size = (recipe["width"], recipe["height"])
    if image.size != size:
        if recipe["resize"] == "stretch":
            image = image.resize(size, Image.Resampling.BILINEAR)
        else:
            side, shorter = recipe["resize"]["shorter_side"]["side"], min(image.size)
            image = image.resize([max(length * side // shorter, least) for length, least in zip(image.size, size)],
                                 Image.Resampling.BILINEAR)
            left, top = (round((length - least) / 2) for length, least in zip(image.size, size))
            image = image.crop((left, top, left + size[0], top + size[1]))
    pixels = np.asarray(image.convert("L") if recipe["channels"] == 1 else image)
    return pixels.reshape(recipe["height"], recipe["width"], recipe["channels"])


def main():
    model = Classifier(sys.argv[1])
    for path in sys.argv[2:]:
        row = model.probabilities([model.prepare(path)])[0]
        best = int(row.argmax())
        print(json.dumps({"path": path, "label": model.labels[best], "probability": round(float(row[best]), 6)}))


if __name__ == "__main__":
    main()
