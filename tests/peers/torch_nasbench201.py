"""The peer for training speed of NAS-Bench-201 networks: one SGD step, in PyTorch.

    python torch_nasbench201.py --arch '|nor_conv_3x3~0|+|...' --channels 16 --layers 17 --side 16 --batch 64 --steps 10 --threads 2

prints one line of JSON: seconds of a step (median), parameters, and the peak memory of the process. The network is in
channels_last, which is PyTorch at its best on a CPU. Needs: pip install torch.
"""
import argparse
import json
import resource
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

WARMUP = 2


def conv(inputs, outputs, side, stride=1):
    layers = [nn.ReLU(), nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers)


class Zero(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


def operation(name, channels):
    return {
        "none": Zero,
        "skip_connect": nn.Identity,
        "nor_conv_1x1": lambda: conv(channels, channels, 1),
        "nor_conv_3x3": lambda: conv(channels, channels, 3),
        "avg_pool_3x3": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    }[name]()


class Cell(nn.Module):
    def __init__(self, nodes, channels):
        super().__init__()
        self.sources = [[source for _, source in node] for node in nodes]
        self.edges = nn.ModuleList(nn.ModuleList(operation(name, channels) for name, _ in node) for node in nodes)

    def forward(self, x):
        states = [x]
        for sources, edges in zip(self.sources, self.edges):
            states.append(sum(edge(states[source]) for source, edge in zip(sources, edges)))
        return states[-1]


class Reduction(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.a, self.b = conv(inputs, outputs, 3, 2), conv(outputs, outputs, 3)
        self.past = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x):
        return self.b(self.a(x)) + self.past(x)


def network(arch, channels, layers):
    node = lambda part: [(edge.split("~")[0], int(edge.split("~")[1])) for edge in part.strip("|").split("|")]
    nodes = [node(part) for part in arch.split("+")]
    blocks = [nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)]
    for layer in range(layers):
        if layer in (layers // 3, 2 * layers // 3):
            blocks.append(Reduction(channels, 2 * channels))
            channels *= 2
        else:
            blocks.append(Cell(nodes, channels))
    head = [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
    return nn.Sequential(*blocks, *head)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", required=True)
    for name, value in [("channels", 16), ("layers", 17), ("side", 16), ("batch", 64), ("steps", 10), ("threads", 2)]:
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    net = network(args.arch, args.channels, args.layers).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(net.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    images = torch.randn(args.batch, 3, args.side, args.side).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (args.batch,))
    seconds = []
    for step in range(args.steps + WARMUP):
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(net(images), labels).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        if step >= WARMUP:
            seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    parameters = sum(parameter.numel() for parameter in net.parameters())
    print(json.dumps({"step_seconds": statistics.median(seconds), "parameters": parameters, "peak_mib": peak}))


if __name__ == "__main__":
    main()
