"""Exported files pass onnx's full check, and ONNX Runtime, OpenVINO and OpenCV agree with the programs of this project.

    python tests/onnxruntime_check.py target/debug

DARTS_V2 at the paper's size is checked and run. Small networks of DARTS_V2 and of a genotype with every primitive are
trained on pictures that this script draws: ONNX Runtime's labels and probabilities on them and on noise, in batches of
1, 2 and 7, equal those that `milenas-infer classify` prints. Every option of the file's form gives the same answers,
in OpenVINO and in the runtimes `ort` and `candle-onnx` of milenas-infer too; `ort` also runs a file of another program. So it
is with larger pictures in several formats, which Pillow brings to the network's size there.
"""
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import openvino
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))
import parity  # noqa: E402

TOLERANCE = 1e-4

EVERY_PRIMITIVE = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_5x5', 1), ('dil_conv_3x3', 0), ('dil_conv_5x5', 2), "
    "('max_pool_3x3', 1), ('avg_pool_3x3', 2), ('skip_connect', 0), ('none', 3)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('skip_connect', 0), ('none', 1), ('sep_conv_7x7', 0), ('conv_7x1_1x7', 1), ('max_pool_3x3', 0), "
    "('avg_pool_3x3', 1), ('dil_conv_5x5', 0), ('sep_conv_3x3', 2)], reduce_concat=[2, 3, 4, 5])")


def run(*command):
    print("$", *command[:4], "..." if len(command) > 4 else "")
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def session(path):
    onnx.checker.check_model(str(path), full_check=True)
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def openvino_answers(path, fed):
    """In float32, where the processor would have OpenVINO choose fewer bits."""
    core = openvino.Core()
    model = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return model(fed)[0]


def opencv_answers(path, fed):
    """OpenCV's importer asks for every attribute by its presence, as other readers do not."""
    network = cv2.dnn.readNetFromONNX(str(path))
    network.setInput(fed)
    return network.forward()


def close(name, found, expected, tolerance=TOLERANCE):
    scale = max(1.0, float(np.abs(expected).max()))
    worst = float(np.abs(found - expected).max()) / scale
    print(f"{name}: differs by {worst:.1e} of {scale:.2f}")
    if not worst <= tolerance:
        sys.exit(f"{name}: over {tolerance}")


def published(bin_dir, folder):
    """DARTS_V2 at the paper's size, for every target: the full check, the same logits, and any batch size."""
    sessions = {}
    for target in ("candle-onnx", "onnxruntime", "portable"):
        path = folder / f"{target}.onnx"
        run(bin_dir / "milenas-export", "DARTS_V2", "--target", target, "--seed", "1", "-o", path)
        sessions[target] = s = session(path)
    x = np.random.default_rng(2).standard_normal((2, 3, 32, 32), dtype=np.float32)
    logits = {target: s.run(None, {"input": x})[0] for target, s in sessions.items()}
    # An untrained network of this depth turns a last bit into more than a trained one does.
    for target in ("candle-onnx", "onnxruntime"):
        close(f"--target {target}", logits[target], logits["portable"], 3e-3)
    for target in sessions:
        opencv(folder / f"{target}.onnx", x, logits[target], 3e-3)
    for batch in (1, 2, 7):
        x = np.zeros((batch, *s.get_inputs()[0].shape[1:]), dtype=np.float32)
        assert s.run(None, {"input": x})[0].shape == (batch, 10)


def trained(bin_dir, folder, genotype):
    """A network trained for a moment on pictures drawn here, on those pictures and on noise."""
    rng = np.random.default_rng(1)
    for part, count in [("train", 24), ("test", 7)]:
        for label, tint in [("reddish", (200, 60, 60)), ("bluish", (60, 60, 200))]:
            where = folder / "images" / part / label
            where.mkdir(parents=True)
            for i in range(count):
                noise = rng.integers(-50, 50, (16, 16, 3))
                Image.fromarray(np.clip(noise + tint, 0, 255).astype(np.uint8)).save(where / f"{i:02}.png")
    sets = ["--set", "train.epochs=1", "--set", "train.channels=4", "--set", "train.layers=3"]
    run(bin_dir / "milenas-search", "train", "--genotype", genotype, "--data", folder / "images",
        "--out", folder / "network", *sets)
    model = folder / "model.onnx"
    run(bin_dir / "milenas-export", folder / "network/weights.safetensors", "-o", model)
    s = session(model)
    card = json.loads(s.get_modelmeta().custom_metadata_map["milenas.card"])
    mean, std = (np.array(card["input"][k], dtype=np.float32) for k in ("mean", "std"))
    for i in range(7):
        noise = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "images/test/reddish" / f"noise{i}.png")
    files = sorted((folder / "images/test").rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(f).convert("RGB"), dtype=np.float32) for f in files])
    x = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).copy()
    integers(bin_dir, folder, files, x)
    for batch in (1, 2, 7):
        table = folder / f"predictions_{batch}.csv"
        run(bin_dir / "milenas-infer", "classify", model, *files, "-o", table, "--batch", batch)
        rows = list(csv.DictReader(table.open()))
        assert [r["path"] for r in rows] == [str(f) for f in files], "rows keep the order of the inputs"
        logits = np.concatenate([s.run(None, {"input": x[i:i + batch]})[0] for i in range(0, len(x), batch)])
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        assert [int(r["index"]) for r in rows] == p.argmax(1).tolist(), "the same labels"
        close(f"milenas-infer, batch {batch}", np.array([float(r["score"]) for r in rows]), p.max(1))


def integers(bin_dir, folder, files, x):
    """Eight bits: what `milenas-infer` rounds as the file says, ONNX Runtime computes with its kernels on integers."""
    for method in ("min-max", "percentile", "entropy"):
        path, fused = folder / "int8.onnx", folder / "fused.onnx"
        run(bin_dir / "milenas-export", folder / "network/weights.safetensors", "--int8", "--calibrate", folder / "images",
            "--calibration-method", method, "--accuracy-gate", "100", "--output", "probabilities", "-o", path)
        options = ort.SessionOptions()
        options.optimized_model_filepath, options.log_severity_level = str(fused), 3
        s = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        onnx.checker.check_model(str(path), full_check=True)
        kinds = {node.op_type for node in onnx.load(str(fused)).graph.node}
        assert "QLinearConv" in kinds and not kinds & {"Conv", "Relu", "Add", "Concat", "AveragePool"}, kinds
        rows = list(csv.DictReader(run(bin_dir / "milenas-infer", "classify", path, *files).splitlines()))
        p = s.run(None, {"input": x})[0]
        # A number on the edge between two integers may fall to either side.
        close(f"--int8, {method}", np.array([float(r["score"]) for r in rows]), p[range(len(p)), [int(r["index"]) for r in rows]], 3e-2)
        close("  OpenVINO", openvino_answers(path, x), p, 3e-2)
        opencv(path, x, p, 1e-2)


def opencv(path, fed, expected, tolerance):
    close("  OpenCV", opencv_answers(path, fed).reshape(expected.shape), expected, tolerance)


def formats(bin_dir, folder):
    """Each way to write a file down: the same answers from ONNX Runtime as from the plain file."""
    small = ("DARTS_V2", "--channels", "4", "--layers", "3", "--size", "16", "--seed", "1")
    export = bin_dir / "milenas-export"
    plain = folder / "plain.onnx"
    run(export, *small, "-o", plain)
    card = json.loads(session(plain).get_modelmeta().custom_metadata_map["milenas.card"])
    mean, std = (np.array(card["input"][k], dtype=np.float32) for k in ("mean", "std"))
    pixels = np.random.default_rng(3).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    x = ((pixels.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2).copy()
    logits = session(plain).run(None, {"input": x})[0]
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    cases = [(["--target", target], x, logits, TOLERANCE) for target in ("portable", "onnxruntime", "candle-onnx")]
    cases += [(["--opset", str(n)], x, logits, TOLERANCE) for n in range(13, 23)]
    cases += [
        (["--batch", "4"], x, logits, TOLERANCE),
        (["--output", "probabilities"], x, p, TOLERANCE),
        (["--input", "uint8"], pixels, logits, TOLERANCE),
        (["--fp16"], x, logits, 2e-2),
        (["--opset", "13", "--batch", "4", "--input", "uint8", "--output", "probabilities", "--fp16"], pixels, p, 2e-2),
    ]
    for options, fed, expected, tolerance in cases:
        path = folder / "case.onnx"
        run(export, *small, *options, "-o", path)
        close(" ".join(options), session(path).run(None, {"input": fed})[0], expected, tolerance)
        close("  OpenVINO", openvino_answers(path, fed), expected, tolerance)
        opencv(path, fed, session(path).run(None, {"input": fed})[0], 1e-5)
        files = [folder / f"{i}.png" for i in range(3)]
        for file, image in zip(files, pixels):
            Image.fromarray(image).save(file)
        for runtime in ["native", "ort", *["candle-onnx"] * ("candle-onnx" in options)]:
            rows = classified(bin_dir, path, files, "--runtime", runtime)
            assert [int(r["index"]) for r in rows] == p[:3].argmax(1).tolist(), "the same labels"
            close(f"  milenas-infer, {runtime}", np.array([float(r["score"]) for r in rows]), p[:3].max(1), tolerance)


def foreign(bin_dir, folder):
    """A classifier that another program wrote, for pictures of any size, and what Pillow and ONNX Runtime say of it."""
    rng = np.random.default_rng(4)
    tensor = lambda name, *shape: onnx.numpy_helper.from_array(rng.standard_normal(shape, dtype=np.float32), name)
    node = onnx.helper.make_node
    info = lambda name, *shape: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    graph = onnx.helper.make_graph([
        node("Conv", ["image", "w"], ["a"], kernel_shape=[3, 3], strides=[2, 2]), node("HardSwish", ["a"], ["b"]),
        node("GlobalAveragePool", ["b"], ["c"]), node("Flatten", ["c"], ["d"]),
        node("MatMul", ["d", "v"], ["e"]), node("Softmax", ["e"], ["f"]),
    ], "foreign", [info("image", "n", 3, "h", "w")], [info("f", "n", 4)], [tensor("w", 6, 3, 3, 3), tensor("v", 6, 4)])
    path, labels = folder / "foreign.onnx", folder / "labels.txt"
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    labels.write_text("ant\nbee\ncat\ndog\n")
    files, x = [folder / f"{i}.png" for i in range(5)], []
    for file in files:
        image = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        image.save(file)
        # As torchvision's Resize(32), CenterCrop(28).
        image = image.resize((42, 32), Image.Resampling.BILINEAR).crop((7, 2, 35, 30))
        x.append((np.asarray(image, dtype=np.float32) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225])
    p = session(path).run(None, {"image": np.stack(x).transpose(0, 3, 1, 2).astype(np.float32)})[0]
    rows = classified(bin_dir, path, files, "--runtime", "ort", "--size", "28", "--labels", labels)
    assert [r["label"] for r in rows] == [["ant", "bee", "cat", "dog"][i] for i in p.argmax(1)], "the same labels"
    # A resized pixel may differ by one.
    close("a foreign file in ort", np.array([float(r["score"]) for r in rows]), p.max(1), 5e-3)


def classified(bin_dir, model, files, *options):
    library = next(Path(ort.__file__).parent.glob("capi/libonnxruntime.*"))
    options = [*options, "--ort-lib", library] if "ort" in options else options
    return list(csv.DictReader(run(bin_dir / "milenas-infer", "classify", model, *files, *options).splitlines()))


def larger(bin_dir, folder):
    """Pictures of 200 to 900 pixels, waves and edges, that have to be resized and cropped."""
    rng = np.random.default_rng(5)
    forms = [("jpg", {"quality": 85}), ("jpg", {"quality": 90, "progressive": True}), ("png", {}), ("webp", {"lossless": True})]
    for i in range(60):
        height, width = rng.integers(200, 900, 2)
        y, x = np.mgrid[0:height, 0:width] / 900
        waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(-25, 25, (3, 3))]
        picture = 128 + 70 * np.stack(waves, 2) + 50 * ((x > rng.uniform(0, 0.3)) & (y > rng.uniform(0, 0.3)))[..., None]
        where = folder / "images" / ("low", "high")[i % 2]
        where.mkdir(parents=True, exist_ok=True)
        ending, options = forms[i // 2 % 4]
        picture = np.clip(picture * (0.6 + 0.4 * (i % 2)), 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(where / f"{i:02}.{ending}", **options)
    sets = ["train.epochs=3", "train.channels=4", "train.layers=3", "train.batch=8", "data.size=24"]
    run(bin_dir / "milenas-search", "train", "--genotype", "DARTS_V2", "--data", folder / "images", "--out",
        folder / "network", *(word for each in sets for word in ("--set", each)))
    run(bin_dir / "milenas-export", folder / "network/weights.safetensors", "-o", folder / "model.onnx")
    difference = parity.compare(bin_dir / "milenas-infer", folder / "model.onnx", [folder / "images"], 60)
    if not difference <= 2e-2:
        sys.exit("resized pictures: over 2e-2")


def main():
    bin_dir = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        published(bin_dir, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        formats(bin_dir, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        larger(bin_dir, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        foreign(bin_dir, Path(folder))
    for genotype in ("DARTS_V2", EVERY_PRIMITIVE):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "genotype.txt"
            file.write_text(genotype)
            trained(bin_dir, Path(folder), "DARTS_V2" if genotype == "DARTS_V2" else file)
    print("ONNX Runtime", ort.__version__, "OpenVINO", openvino.__version__, "and OpenCV", cv2.__version__, "agree")


if __name__ == "__main__":
    main()
