"""The second-order gradients of the alphas by DARTS' formula (section 2.3), with PyTorch in float64.

For L = train * L_train(w', alpha) + valid * L_valid(w', alpha) with w' = w - xi * (momentum * v + dL_train/dw(w, alpha) + decay * w):
dL/dalpha at w', less xi / 2e times the difference of dL_train/dalpha at w + e dL/dw' and at w - e dL/dw', e = length / |dL/dw'|;
DARTS has length 0.01. Beside it finite differences of the whole expression: L as a function of alpha, w' taken anew.

unrolled.safetensors: the formula from the state after one step in supernet.safetensors; v is that step's velocity. Printed for shorter
steps too: how long the second-order term is, and the cosine to the whole expression, for every eighth alpha.
unrolled_tiny.safetensors: a supernet so small that hardly a rectifier or maximum changes sides within 0.01, without velocity: its
data and weights, and the whole expression's gradient.

    python make_unrolled.py

Needs: pip install torch safetensors.
"""
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers"))
import torch_supernet as ts  # noqa: E402

XI, MOMENTUM, DECAY, LR = 0.1, 0.9, 3e-4, 0.025
RULES = {"darts": (0.0, 1.0), "milenas": (1.0, 0.5)}


def flat(parts):
    return torch.cat([part.reshape(-1) for part in parts])


def gradients(value, of):
    """Zeros for what has no part in it: alphas of a kind of cell that is not there."""
    found = torch.autograd.grad(value, of, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(of, found)]


class Problem:
    """Two batches, a network, and the velocity of its weights by name; none without."""

    def __init__(self, net, data, velocity=None):
        self.net, self.data, self.alphas = net, data, list(net.alphas.parameters())
        arch = set(map(id, self.alphas))
        named = {k: p for k, p in net.named_parameters() if id(p) not in arch}
        self.weights = list(named.values())
        self.start = [p.detach().clone() for p in self.weights]
        self.velocity = [velocity[k] if velocity else torch.zeros_like(p) for k, p in named.items()]

    def loss(self, half):
        x, y = self.data[half]
        return F.cross_entropy(self.net(x), y)

    def move(self, directions, factor):
        """From the start."""
        with torch.no_grad():
            for p, s, d in zip(self.weights, self.start, directions):
                p.copy_(s + factor * d)

    def step_ahead(self):
        self.move(self.start, 0.0)
        gradient = gradients(self.loss("train"), self.weights)
        self.move([MOMENTUM * v + g + DECAY * s for v, g, s in zip(self.velocity, gradient, self.start)], -XI)

    def formula(self, train, valid, lengths):
        """For each length of the steps: the gradient by alpha, and its second-order term."""
        self.step_ahead()
        total = sum(factor * self.loss(half) for half, factor in (("train", train), ("valid", valid)) if factor)
        found = gradients(total, self.alphas + self.weights)
        by_alpha, v = found[:len(self.alphas)], found[len(self.alphas):]
        norm = torch.sqrt(sum((x ** 2).sum() for x in v))
        out = []
        for length in lengths:
            sides = []
            for sign in (1, -1):
                self.move(v, sign * length / norm)
                sides.append(gradients(self.loss("train"), self.alphas))
            term = [XI * norm / (2 * length) * (a - b) for a, b in zip(*sides)]
            out.append(([g - t for g, t in zip(by_alpha, term)], term))
        self.move(self.start, 0.0)
        return out

    def whole(self, train, valid, every=1, e=1e-6):
        """Finite differences of the whole expression by alpha."""
        out = []
        for values in (a.data.view(-1) for a in self.alphas):
            for i in range(0, len(values), every):
                at, sides = values[i].item(), []
                for sign in (1, -1):
                    values[i] = at + sign * e
                    self.step_ahead()
                    with torch.no_grad():
                        sides.append(train * self.loss("train") + valid * self.loss("valid"))
                values[i] = at
                out.append((sides[0] - sides[1]) / (2 * e))
        self.move(self.start, 0.0)
        return torch.stack(out)


def golden_step():
    golden = load_file(HERE / "supernet.safetensors")
    net = ts.Supernet(4, 10, 3)
    state = {k: golden["after_step_1." + k].to(v.dtype) for k, v in net.state_dict().items() if "num_batches" not in k}
    net.load_state_dict(state, strict=False)
    velocity = {k.removeprefix("before."): (v.double() - golden["after_step_1." + k.removeprefix("before.")].double()) / LR
                for k, v in golden.items() if k.startswith("before.")}
    data = {half: (golden[half + ".x"].double(), golden[half + ".y"]) for half in ("train", "valid")}
    problem, out, lengths, every = Problem(net, data, velocity), {}, (1e-2, 1e-3, 1e-4, 1e-6), 8
    for name, rule in RULES.items():
        found = problem.formula(*rule, lengths)
        out |= {f"{name}.{kind}": found[0][0][kind].float().contiguous() for kind in range(2)}
        expected = problem.whole(*rule, every)
        for length, (gradient, term) in zip(lengths, found):
            cosine = F.cosine_similarity(flat(gradient)[::every], expected, dim=0)
            print(f"{name}, steps of {length}: the second-order term is {flat(term).norm():.2f} long, "
                  f"the cosine to the whole expression {cosine:.5f}", flush=True)
    save_file(out, HERE / "unrolled.safetensors")


def tiny():
    torch.manual_seed(0)
    net = ts.Supernet(2, 4, 1, nodes=1)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(p.float())  # what the file can hold
        for a in net.alphas:
            a.copy_(torch.randn(a.shape).float())
    data = {half: (torch.randn(3, 3, 8, 8).float().double(), torch.randint(0, 4, (3,))) for half in ("train", "valid")}
    out = {k: v.clone() for k, v in net.state_dict().items() if "num_batches" not in k}
    out |= {f"{half}.{k}": v for half, pair in data.items() for k, v in zip("xy", pair)}
    problem = Problem(net, data)
    for name, rule in RULES.items():
        (gradient, term), = problem.formula(*rule, [1e-2])
        expected = problem.whole(*rule)
        first = flat(gradient) + flat(term)
        print(f"tiny, {name}: cosine to the whole expression {F.cosine_similarity(flat(gradient), expected, dim=0):.6f}, "
              f"without the second-order term {F.cosine_similarity(first, expected, dim=0):.6f}", flush=True)
        out[f"whole.{name}"] = expected
    save_file({k: (v.float() if v.is_floating_point() else v).contiguous() for k, v in out.items()},
              HERE / "unrolled_tiny.safetensors")


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    tiny()
    golden_step()
