"""Prints a line of JSON for every file below FOLDER that Pillow reads: its path, and the mean red, green and blue.

Transparent pixels lie on white. Samples of 16 bits are scaled by their stated number of bits, which `convert("RGB")`
does not do. The mean is null where Pillow's values have no defined white: floating-point values, signed integers and
integers of 32 bits.
"""
import json
import os
import sys
import warnings

import numpy as np
from PIL import Image

warnings.simplefilter("ignore")
MOST_PIXELS = 50_000_000


def mean(path):
    image = Image.open(path)
    if image.width * image.height > MOST_PIXELS:
        raise ValueError("too large")
    tags = dict(image.tag_v2) if image.format == "TIFF" else {}
    image.load()
    if 2 in tags.get(339, ()) or image.mode in ("I", "F"):
        return None
    if image.mode.startswith("I;16"):
        bits = tags.get(258, (16,))[0]
        values = np.asarray(image).astype(float) * 255 / (2**bits - 1)
        return [255 - values.mean() if tags.get(262) == 0 else values.mean()] * 3
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        white.alpha_composite(image)
        image = white
    return np.asarray(image.convert("RGB"), float).mean((0, 1)).tolist()


for folder, folders, files in os.walk(sys.argv[1]):
    folders.sort()
    for name in sorted(files):
        path = os.path.join(folder, name)
        try:
            print(json.dumps({"path": path, "mean": mean(path)}), flush=True)
        except Exception:
            pass
