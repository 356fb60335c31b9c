"""A pass of a supernet with partial channels and edge normalisation (PC-DARTS, sections 3.2 and 3.3), with PyTorch in float64.

Candidates see the first K-th of a state's channels; the rest goes past them, max pooled 2x2 on strided edges, and the channels of
their concatenation are shuffled. An edge's output is weighed by a softmax over the edges into its node. Writes
partial.safetensors: images, labels, weights, both kinds of logits; the loss and its gradients.

    python make_partial.py

Needs: pip install torch safetensors.
"""
import sys
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers"))
import torch_supernet as ts  # noqa: E402

K, CHANNELS, LAYERS, CLASSES, NODES = 4, 8, 3, 10, 4
EDGES = sum(2 + i for i in range(NODES))


class Edge(nn.Module):
    """The candidates on a part of the channels, and the way past them."""

    def __init__(self, channels, stride):
        super().__init__()
        self.stride = stride
        self.candidates = nn.ModuleList(ts.candidate(p, channels // K, stride) for p in ts.PRIMITIVES)

    def forward(self, x, weights):
        part = x.shape[1] // K
        mixed = sum(w * op(x[:, :part]) for w, op in zip(weights, self.candidates))
        rest = x[:, part:] if self.stride == 1 else F.max_pool2d(x[:, part:], 2, 2)
        joined = torch.cat([mixed, rest], 1)
        n, c, h, w = joined.shape
        return joined.view(n, K, c // K, h, w).transpose(1, 2).reshape(n, c, h, w)


class Cell(nn.Module):
    def __init__(self, c_pp, c_p, c, reduction, reduction_prev):
        super().__init__()
        self.reduction = reduction
        self.pre0 = ts.FactorizedReduce(c_pp, c) if reduction_prev else ts.relu_conv_bn(c_pp, c)
        self.pre1 = ts.relu_conv_bn(c_p, c)
        self.edges = nn.ModuleList(Edge(c, 2 if reduction and j < 2 else 1) for i in range(NODES) for j in range(2 + i))

    def forward(self, s0, s1, operations, edges):
        states, at = [self.pre0(s0), self.pre1(s1)], 0
        for _ in range(NODES):
            by_edge = F.softmax(edges[at:at + len(states)], -1)
            outputs = [self.edges[at + j](x, operations[at + j]) for j, x in enumerate(states)]
            at += len(states)
            states.append(sum(w * y for w, y in zip(by_edge, outputs)))
        return torch.cat(states[-NODES:], 1)


def main():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    c = 3 * CHANNELS
    stem = nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))
    c_pp, c_p, c, previous, cells = c, c, CHANNELS, False, nn.ModuleList()
    for i in range(LAYERS):
        reduction = i in (LAYERS // 3, 2 * LAYERS // 3)
        c = c * 2 if reduction else c
        cells.append(Cell(c_pp, c_p, c, reduction, previous))
        previous, c_pp, c_p = reduction, c_p, NODES * c
    net = nn.ModuleDict({"stem": stem, "cells": cells, "classifier": nn.Linear(c_p, CLASSES)})
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(p.float())  # what the file can hold
    operations = [torch.randn(EDGES, 8).float().double().requires_grad_() for _ in range(2)]
    edges = [torch.randn(EDGES).float().double().requires_grad_() for _ in range(2)]
    x, y = torch.randn(8, 3, 16, 16).float().double(), torch.randint(0, CLASSES, (8,))
    out = {"x": x, "y": y}
    out |= {"weights." + k.replace(".candidates.", "."): v.clone() for k, v in net.state_dict().items() if "num_batches" not in k}
    s0 = s1 = net["stem"](x)
    for cell in cells:
        kind = int(cell.reduction)
        s0, s1 = s1, cell(s0, s1, F.softmax(operations[kind], -1), edges[kind])
    loss = F.cross_entropy(net["classifier"](s1.mean((2, 3))), y)
    loss.backward()
    out["loss"] = loss.detach().reshape(1)
    for kind in range(2):
        out |= {f"operations.{kind}": operations[kind].detach(), f"edges.{kind}": edges[kind].detach(),
                f"grad.operations.{kind}": operations[kind].grad, f"grad.edges.{kind}": edges[kind].grad}
    out |= {"grad." + k.replace(".candidates.", "."): p.grad for k, p in net.named_parameters()}
    save_file({k: (v.float() if v.is_floating_point() else v).contiguous() for k, v in out.items()}, HERE / "partial.safetensors")


if __name__ == "__main__":
    main()
