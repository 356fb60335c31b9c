"""Does `milenas-infer` say what Pillow and ONNX Runtime say of real images?

    python parity.py ../target/debug model.onnx DATA... --count 1000

classifies up to COUNT images, spread evenly over the folders and tars DATA, with `milenas-infer classify` and with
tests/consumers/python/classify.py, which reads the same file, and prints on how many the two name the same class, the
largest difference of a probability of any class. Fails under 99.9 % agreement.
Needs: pip install onnxruntime numpy Pillow.
"""
import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "consumers/python"))
from classify import Classifier  # noqa: E402

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm"}
AGREEMENT = 0.999


def images(data, scratch, count):
    """Files, in the order of their names; of a tar as it is unpacked in `scratch`."""
    found = []
    for i, path in enumerate(data):
        if path.is_file():
            with tarfile.open(path) as tar:
                tar.extractall(scratch / str(i), filter="data")
            path = scratch / str(i)
        found += sorted(p for p in path.rglob("*") if p.suffix.lower() in ENDINGS)
    step = max(1, len(found) // count)
    return found[::step][:count]


def ours(binary, model, files, scratch):
    """[N, classes], to six digits."""
    listed = scratch / "list"
    listed.write_text("".join(f"{f}\n" for f in files))
    command = [binary, "classify", model, "--list", listed, "--format", "jsonl", "--all-scores"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["path"] for row in rows] == [str(f) for f in files], "rows keep the order of the inputs"
    return np.array([row["scores"] for row in rows])


def theirs(model, files, batch=32):
    classifier = Classifier(model)
    parts = [files[i:i + batch] for i in range(0, len(files), batch)]
    return np.concatenate([classifier.probabilities([classifier.prepare(f) for f in part]) for part in parts])


def compare(binary, model, data, count, wanted=AGREEMENT):
    with tempfile.TemporaryDirectory() as scratch:
        files = images(data, Path(scratch), count)
        a, b = ours(binary, model, files, Path(scratch)), theirs(model, files)
    same = a.argmax(1) == b.argmax(1)
    difference = np.abs(a - b).max(1)
    classes = len(np.unique(b.argmax(1)))
    print(f"{len(files)} images, {classes} classes predicted: the same class on {100 * same.mean():.2f} %, "
          f"probabilities differ by at most {difference.max():.1e}, on average {difference.mean():.1e}")
    for i in np.flatnonzero(~same):
        print(f"  {files[i]}: {a[i].argmax()} {a[i].max():.4f} here, {b[i].argmax()} {b[i].max():.4f} there")
    if same.mean() < wanted:
        sys.exit(f"under {100 * wanted} %")
    return difference.max()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=1000)
    a = parser.parse_args()
    compare(a.bin / "milenas-infer", a.model, a.data, a.count)


if __name__ == "__main__":
    main()
