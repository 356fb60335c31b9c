"""The peer for training speed: one SGD step of a derived network, in PyTorch.

    python torch_train.py --genotype DARTS_V2 --channels 16 --layers 8 --batch 64 --steps 5 --threads 2

prints one line of JSON: seconds of a step (median), and the peak memory of the process. The network is in channels_last, which is
PyTorch at its best on a CPU, but with `--contiguous`. Needs: pip install torch.
"""
import argparse
import json
import resource
import statistics
import time

import torch
import torch.nn.functional as F

from torch_network import GENOTYPES, Network

# On a GPU the first steps choose among cuDNN's algorithms.
WARMUP = 2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--genotype", default="DARTS_V2", choices=sorted(GENOTYPES))
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--contiguous", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    net = Network(GENOTYPES[args.genotype], args.channels, 10, args.layers)
    layout = torch.contiguous_format if args.contiguous else torch.channels_last
    net = net.to(args.device, memory_format=layout).train()
    optimiser = torch.optim.SGD(net.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    images = torch.randn(args.batch, 3, 32, 32, device=args.device).to(memory_format=layout)
    labels = torch.randint(0, 10, (args.batch,), device=args.device)
    seconds = []
    for step in range(args.steps + WARMUP):
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(net(images), labels).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        if args.device != "cpu":
            torch.cuda.synchronize()
        if step >= WARMUP:
            seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"step_seconds": statistics.median(seconds), "peak_mib": peak}))


if __name__ == "__main__":
    main()
