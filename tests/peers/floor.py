"""Each phase of a search step against what the machine could do at best: a table for each order of passes.

    python tests/peers/floor.py BIN [--batch 16] [--steps 5] [--threads 2]

BIN is the folder of our binaries, with examples/peak. Counts multiply-adds twice, as the kernels do them: what backward makes again is
counted, rows of taps outside the image are not. Bytes are counted as if every map of a phase came from memory once and went there once. The
floor is the larger of the two at the measured peaks. Writes the table of docs/benchmarks.md between its two marks.
"""
import argparse
import json
import re
import subprocess
from collections import defaultdict
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- floor.py writes from here -->", "<!-- to there -->"
CHANNELS, CELLS, SIDE, NODES, STEM = 16, 8, 32, 4, 3
# Side and dilation of the depthwise parts.
FIRSTS, SECONDS = [(3, 1), (5, 1), (3, 2), (5, 2)], [(3, 1), (5, 1)]
FORWARD1, FORWARD2 = "forward, first convolutions", "forward, second convolutions"
BACKWARD1, BACKWARD2 = "backward, first convolutions and pools", "backward, second convolutions"
FORWARD_SUMS, BACKWARD_SUMS = "forward, sums", "backward, sums"


def convolutions(kernels, channels, side, stride=1):
    """FLOPs of depthwise parts and of pointwise parts, whose results have this side."""
    def rows(kernel, dilation):
        """Pairs of a row of results and a row of taps that meets the image."""
        taps = [dilation * tap for tap in range(-(kernel // 2), kernel // 2 + 1)]
        return sum(0 <= stride * y + tap < stride * side for y in range(side) for tap in taps)
    depthwise = sum(2 * kernel * rows(kernel, dilation) * side * channels for kernel, dilation in kernels)
    return depthwise, len(kernels) * 2 * channels * channels * side ** 2


def count():
    """Of an image: phase -> (FLOPs of a pass without weight gradients, more FLOPs for those, bytes)."""
    work = defaultdict(lambda: [0.0, 0.0, 0.0])

    def add(phase, flops=0.0, weights=0.0, maps=0.0):
        work[phase] = [a + b for a, b in zip(work[phase], (flops, weights, maps))]

    channels, side = CHANNELS, SIDE
    inputs = [(STEM * channels, side)] * 2
    for cell in range(CELLS):
        reduces = cell in (CELLS // 3, 2 * CELLS // 3)
        channels *= 1 + reduces
        source = min(s for _, s in inputs)
        side = source // (1 + reduces)
        for width, from_side in inputs:
            wide = width * (1 + (from_side > source))
            flops = 2 * wide * channels * source ** 2
            maps = 4 * (width * from_side ** 2 + channels * source ** 2)
            add("forward, preprocess", flops, 0, maps)
            add("backward, preprocess", flops, flops, 2 * maps)
        pixels = side * side
        one = 4 * channels * pixels
        for state in range(1 + NODES):
            stride = 2 if reduces and state < 2 else 1
            own = one * stride * stride
            edges = NODES - max(0, state - 1)
            add(FORWARD1, maps=own + 2 * one)
            add(FORWARD_SUMS, maps=own + 2 * one)
            add(BACKWARD_SUMS, maps=own + 2 * one)
            add(BACKWARD1, maps=2 * own + 2 * one)
            for _ in range(edges):
                depthwise, pointwise = convolutions(FIRSTS, channels, side, stride)
                skip = 4 * channels * channels * pixels if stride == 2 else 0
                add(FORWARD1, depthwise + pointwise + skip, 0, (4 + (stride == 2)) * one)
                add(BACKWARD1, depthwise + pointwise + skip, 2 * depthwise + pointwise + skip, 7 * one)
                depthwise, pointwise = convolutions(SECONDS, channels, side)
                add(FORWARD2, depthwise + pointwise, 0, 4 * one)
                add(BACKWARD2, depthwise + pointwise, 2 * depthwise + pointwise, 7 * one)
                add(FORWARD_SUMS, 2 * 7 * channels * pixels, 0, 6 * one)
                add(BACKWARD_SUMS, 2 * 8 * channels * pixels, 0, 5 * one)
        inputs = [inputs[1], (NODES * channels, side)]
    return work


def run(command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    peak = run([args.bin / "examples" / "peak", "--threads", args.threads])
    gflops, gigabytes = (float(re.search(rf"{name}: ([\d.]+)", peak)[1]) for name in ("multiply-adds", "reading"))
    lines = [f"Peaks: {gflops:.0f} GFLOP/s, {gigabytes:.1f} GB/s. Batch {args.batch}, {args.threads} threads; one pass has weight gradients.",
             ""]
    for name, passes, option in [("Two passes", 2, ["--two-pass"]), ("Three passes", 3, [])]:
        size = ["--channels", CHANNELS, "--layers", CELLS, "--batch", args.batch]
        report = json.loads(run([args.bin / "milenas-search", "bench", "step", *size, "--steps", args.steps,
                                 "--threads", args.threads, *option, "--json"]))
        lines += table(name, passes, report, args.batch, gflops, gigabytes)
    written = re.sub(f"{BEGIN}.*?{END}", "\n".join([BEGIN, "", *lines, END]), PAGE.read_text(), flags=re.S)
    PAGE.write_text(written)


def table(name, passes, report, batch, gflops, gigabytes):
    work = count()
    rows = [f"{name}:", "", "| phase | ms | GFLOP | GB | GFLOP/s | floor, ms | of the floor |",
            "| --- | --- | --- | --- | --- | --- | --- |"]
    totals = [0.0] * 4
    for phase, seconds in report["phases"]:
        flops, weights, moved = work.get(phase, (0, 0, 0))
        flops, moved = (passes * flops + weights) * batch / 1e9, passes * moved * batch / 1e9
        floor = max(flops / gflops, moved / gigabytes)
        totals = [a + b for a, b in zip(totals, (seconds, flops, moved, floor))]
        rows.append(row(phase, seconds, flops, moved, floor))
    totals[0] += report["optimiser"]
    return [*rows, f"| optimisers | {1e3 * report['optimiser']:.0f} | | | | | |", row("all", *totals), ""]


def row(name, seconds, flops, moved, floor):
    if not flops:
        return f"| {name} | {1e3 * seconds:.0f} | | | | | |"
    return (f"| {name} | {1e3 * seconds:.0f} | {flops:.1f} | {moved:.2f} | {flops / seconds:.0f} | {1e3 * floor:.0f} "
            f"| {100 * floor / seconds:.0f} % |")


if __name__ == "__main__":
    main()
