"""The network alone: milenas-infer's native runtime beside ONNX Runtime and OpenVINO on one file, in turn.

    milenas-export DARTS_V2 --channels 36 --layers 20 -o x.onnx
    python native_ratio.py target/debug/milenas-infer x.onnx --batch 1 32 --threads 2 --rounds 5

In every round each runtime runs once, in a fresh process; what it prints is the table of medians over the rounds, and how many
times as fast as each peer of its precision the native runtime is, by the median of the rounds' ratios with the smallest and the
largest. A rate is that of the median batch. OpenVINO computes in bfloat16 by default where the processor has it. --tract takes a
milenas-infer that was built with the feature tract. Needs: pip install onnxruntime openvino numpy.
"""
import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PEERS = {"float32": ["ONNX Runtime", "OpenVINO, f32", "tract"], "bf16": ["OpenVINO, its default"]}


def rate(command):
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if out.startswith("{"):
        return json.loads(out)["images_per_second"]
    return float(re.match(r"([0-9.]+) images/s", out)[1])


def commands(a, batch):
    """By name; each measures for about as long as the others."""
    batches = max(2, a.images // batch)
    bench = ["bench", a.model, "--batch", batch, "--runs", batches, "--threads", a.threads, "--json"]
    peer = [a.model, "--batch", batch, "--threads", a.threads, "--images", batch, "--runs", batches]
    openvino = [sys.executable, HERE / "openvino_throughput.py", *peer]
    found = {
        "native, float32": [a.program, *bench],
        "ONNX Runtime": [sys.executable, HERE / "ort_throughput.py", *peer],
        "OpenVINO, f32": [*openvino, "--precision", "f32"],
        "native, bf16": [a.program, *bench, "--precision", "bf16"],
        "OpenVINO, its default": openvino,
    }
    if a.tract:
        found["tract"] = [a.tract, *bench, "--runtime", "tract"]
    return {name: [str(word) for word in command] for name, command in found.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", help="milenas-infer")
    parser.add_argument("model")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=96, help="a round's, for each runtime")
    parser.add_argument("--tract")
    a = parser.parse_args()
    print("| batch | runtime | images/s | native against it |\n| --- | --- | --- | --- |")
    for batch in a.batch:
        rates = {name: [] for name in commands(a, batch)}
        for _ in range(a.rounds):
            for name, command in commands(a, batch).items():
                rates[name].append(rate(command))
        for precision, peers in PEERS.items():
            ours = rates[f"native, {precision}"]
            print(f"| {batch} | native, {precision} | {statistics.median(ours):.0f} | |")
            for peer in (peer for peer in peers if peer in rates):
                ratios = sorted(x / y for x, y in zip(ours, rates[peer]))
                spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
                print(f"| {batch} | {peer} | {statistics.median(rates[peer]):.0f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
