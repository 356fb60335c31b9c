"""Top-1 of our files on CIFAR-10's test set in ONNX Runtime, beside their size and how many times as fast as the first they are.

    python ort_accuracy.py DIR float32.onnx int8.onnx

DIR is the folder of the official binary batches. Needs: pip install onnxruntime numpy.
"""
import json
import os
import sys
from pathlib import Path

import numpy as np

import ort_ratio


def main():
    folder, *models = sys.argv[1:]
    rows = np.frombuffer((Path(folder) / "test_batch.bin").read_bytes(), dtype=np.uint8).reshape(-1, 3073)
    labels, pixels = rows[:, 0], rows[:, 1:].reshape(-1, 3, 32, 32)
    print("| file | bytes | top-1 | batch 1, 1 thread | batch 32, 1 thread | batch 32, 2 threads |")
    print("| --- " * 6 + "|")
    speeds = [ort_ratio.ratios(models, batch, threads, 320) for batch, threads in ((1, 1), (32, 1), (32, 2))]
    for k, model in enumerate(models):
        s = ort_ratio.session(model, 2)
        card = json.loads(s.get_modelmeta().custom_metadata_map["milenas.card"])["input"]
        mean, std = (np.array(card[key], dtype=np.float32).reshape(1, 3, 1, 1) for key in ("mean", "std"))
        right = 0
        for i in range(0, len(labels), 100):
            x = (pixels[i:i + 100].astype(np.float32) / 255 - mean) / std
            right += int((s.run(None, {s.get_inputs()[0].name: x})[0].argmax(1) == labels[i:i + 100]).sum())
        ratios = " | ".join(f"{speed[k]:.2f}" for speed in speeds)
        print(f"| {Path(model).name} | {os.path.getsize(model):,} | {100 * right / len(labels):.2f} % | {ratios} |")


if __name__ == "__main__":
    main()
