"""Model files side by side in ONNX Runtime: how many times as fast as the first is each?

    python ort_ratio.py torch.onnx portable.onnx onnxruntime.onnx --batch 1 32 --threads 1 2

runs the files in turn, round by round, so that all of them meet the same noise, and prints for each the median over the
rounds of the first file's time over its own. Weights do not matter for speed; what the files compute is not compared here.
--profile prints instead where ONNX Runtime's own profile says that the time goes, operator by operator, at the first batch
and thread count; it also needs onnx. Needs: pip install onnxruntime numpy.
"""
import argparse
import collections
import json
import os
import re
import statistics
import tempfile
import time

import numpy as np
import onnxruntime as ort


def session(path, threads, profile=None):
    options = ort.SessionOptions()
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def seconds(session, x):
    name = session.get_inputs()[0].name
    start = time.perf_counter()
    session.run(None, {name: x})
    return time.perf_counter() - start


def profile(path, batch, threads, rounds=20):
    """Milliseconds a batch by operator, of convolutions by kernel."""
    shapes = convolutions(path)
    with tempfile.TemporaryDirectory() as folder:
        s = session(path, threads, os.path.join(folder, "profile"))
        shape = [batch] + [int(d) for d in s.get_inputs()[0].shape[1:]]
        x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        for _ in range(rounds):
            seconds(s, x)
        with open(s.end_profiling()) as file:
            events = json.load(file)
    total = collections.Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            total[event["args"]["op_name"] + kernel(event, shapes)] += event["dur"] / 1e3 / rounds
    return total


def kernel(event, weights):
    """Of a convolution the shape of its weight in words: as the event says it, or on integers by the node's name."""
    if "Conv" not in event["args"]["op_name"]:
        return ""
    read = [shape for each in event["args"].get("input_type_shape", []) for shape in each.values()]
    shape = next((s for s in read[1:] if len(s) == 4), None)
    shape = shape or weights.get(re.sub("(_token_[0-9]+)?_kernel_time$", "", event["name"]))
    if not shape:
        return ""
    _, per_group, rows, columns = shape
    return f" {rows}x{columns}" + (" depthwise" if per_group == 1 else "")


def convolutions(path):
    """By the name of a convolution, the shape of its weight."""
    import onnx
    graph = onnx.load(path).graph
    shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    # Weights that are stored in fewer bits.
    shapes |= {n.output[0]: shapes[n.input[0]] for n in graph.node if n.input and n.input[0] in shapes}
    return {node.name: shapes[node.input[1]] for node in graph.node if node.op_type == "Conv"}


def ratios(models, batch, threads, images):
    """For each file, the median over rounds in turn of the first file's time over its own."""
    sessions = [session(m, threads) for m in models]
    shape = [batch] + [int(d) for d in sessions[0].get_inputs()[0].shape[1:]]
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    for s in sessions:
        seconds(s, x)
    rounds = [[seconds(s, x) for s in sessions] for _ in range(max(5, images // batch))]
    return [statistics.median(r[0] / r[k] for r in rounds) for k in range(len(models))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--images", type=int, default=640, help="for each file and setting")
    parser.add_argument("--profile", action="store_true")
    a = parser.parse_args()
    if a.profile:
        for model in a.models:
            total = profile(model, a.batch[0], a.threads[0])
            parts = ", ".join(f"{name} {100 * ms / total.total():.1f} %" for name, ms in total.most_common(8))
            print(f"{model}: {total.total():.0f} ms a batch; {parts}")
        return
    print("ONNX Runtime", ort.__version__)
    print("| file | " + " | ".join(f"batch {b}, {t} threads" for b in a.batch for t in a.threads) + " |")
    rows = [[] for _ in a.models]
    for batch in a.batch:
        for threads in a.threads:
            for row, ratio in zip(rows, ratios(a.models, batch, threads, a.images)):
                row.append(ratio)
    for model, row in zip(a.models, rows):
        print(f"| {model} | " + " | ".join(f"{x:.2f}" for x in row) + " |")


if __name__ == "__main__":
    main()
