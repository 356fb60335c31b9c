"""The peer for reduced precision: OpenVINO on a model file, model only, no image decoding.

    python openvino_throughput.py model.onnx --batch 32 --threads 2 --precision default

prints images per second (median of the runs). OpenVINO computes in bfloat16 by itself where the processor has it: `default` leaves
that to it, `f32` and `bf16` are its hints. Needs: pip install openvino numpy.
"""
import argparse
import statistics
import time

import numpy as np
import openvino


def compiled(path, batch, threads, precision):
    core = openvino.Core()
    model = core.read_model(path)
    entry = model.input(0)
    model.reshape([batch] + [d.get_length() for d in list(entry.partial_shape)[1:]])
    config = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    if precision != "default":
        config["INFERENCE_PRECISION_HINT"] = precision
    return core.compile_model(model, "CPU", config)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["default", "f32", "bf16"], default="default")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--runs", type=int, default=3)
    a = parser.parse_args()
    network = compiled(a.model, a.batch, a.threads, a.precision)
    x = np.random.default_rng(0).standard_normal(list(network.input(0).shape), dtype=np.float32)
    request = network.create_infer_request()
    request.infer([x])
    rates = []
    for _ in range(a.runs):
        count = max(1, a.images // a.batch)
        start = time.perf_counter()
        for _ in range(count):
            request.infer([x])
        rates.append(count * a.batch / (time.perf_counter() - start))
    print(f"{statistics.median(rates):.1f} images/s  computed in {network.get_property('INFERENCE_PRECISION_HINT')}")


if __name__ == "__main__":
    main()
