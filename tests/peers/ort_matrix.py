"""Our files against torch.onnx's with the same weights, in ONNX Runtime: the table of docs/benchmarks.md.

    python ort_matrix.py target/debug --images 160

makes each network in PyTorch, exports it by torch.onnx and, with the weights carried over, by milenas-export for ONNX Runtime
in float32 and int8; asserts that the float32 files give the same logits; then runs the three in turn and prints how many
times as fast as PyTorch's each of ours is (medians over the rounds). The weights are random, so int8 is calibrated on
noise with its gate open: speed does not depend on it. Needs: pip install torch onnx onnxruntime safetensors numpy Pillow.
"""
import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from PIL import Image

import ort_ratio
import torch_network as tn

NETWORKS = {"DARTS_V2": "DARTS_V2", "r101": "MILENAS_R101", "V2_r2_e100": "MILENAS_V2_R2_E100",
            "GDAS_MIXED_LEVEL2": "MILENAS_GDAS2"}
LAYERS, SIZE, CLASSES = 20, 32, 10


def noise(folder):
    rng = np.random.default_rng(0)
    for part, count in (("train", 10), ("test", 1)):
        for label in "ab":
            where = folder / part / label
            where.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(where / f"{i}.png")
    return folder


def files(name, channels, bin_dir, folder, images):
    torch.manual_seed(0)
    with torch.no_grad():
        net = tn.Network(tn.GENOTYPES[NETWORKS[name]], channels, CLASSES, LAYERS).eval()
        tn.randomise_statistics(net)
        paths = [folder / f"{kind}.onnx" for kind in ("torch", "float32", "int8")]
        weights = folder / "weights.safetensors"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tn.export(net, SIZE, str(paths[0]))
        tn.save(net, tn.GENOTYPES[NETWORKS[name]], channels, LAYERS, CLASSES, SIZE, weights)
    int8 = ["--int8", "--calibrate", images, "--accuracy-gate", "100"]
    for path, options in zip(paths[1:], ([], int8)):
        command = [bin_dir / "milenas-export", weights, "--target", "onnxruntime", *options, "-o", path]
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(done.stdout + done.stderr)
    x = np.random.default_rng(1).standard_normal((2, 3, SIZE, SIZE), dtype=np.float32)
    a, b = (ort_ratio.session(str(p), 1).run(None, {"input": x})[0] for p in paths[:2])
    worst = float(np.abs(a - b).max() / np.abs(a).max())
    # An untrained network of this depth turns a last bit into more than a trained one does.
    if not worst < 5e-3:
        sys.exit(f"{name}: logits differ by {worst:.1e}")
    return [str(p) for p in paths]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin_dir", type=Path)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--channels", type=int, nargs="+", default=[36, 32])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--images", type=int, default=320, help="for each file and setting")
    a = parser.parse_args()
    print("ONNX Runtime", ort.__version__)
    columns = [(b, t) for b in a.batch for t in a.threads]
    heads = [f"{b}, {t}" for b, t in columns]
    print("| network | channels | file | " + " | ".join(heads) + " |")
    print("| --- " * (3 + len(heads)) + "|")
    for name in a.networks:
        for channels in a.channels:
            with tempfile.TemporaryDirectory() as folder:
                folder = Path(folder)
                paths = files(name, channels, a.bin_dir, folder, noise(folder / "noise"))
                rows = [ort_ratio.ratios(paths, batch, threads, a.images) for batch, threads in columns]
            for k, kind in enumerate(("float32", "int8"), 1):
                print(f"| {name} | {channels} | {kind} | " + " | ".join(f"{row[k]:.2f}" for row in rows) + " |", flush=True)


if __name__ == "__main__":
    main()
