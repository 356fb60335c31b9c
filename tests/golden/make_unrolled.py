"""The second-order gradients of the alphas by DARTS' formula (section 2.3), with PyTorch in float64.

For L = train * L_train(w', alpha) + valid * L_valid(w', alpha) with w' = w - xi * (momentum * v + dL_train/dw(w, alpha) + decay * w):
dL/dalpha at w', less xi / 2e times the difference of dL_train/dalpha at w + e dL/dw' and at w - e dL/dw', e = 0.01 / |dL/dw'|.
Starts from the state after one step in supernet.safetensors; v is that step's velocity. Writes unrolled.safetensors
beside it, and prints for shorter steps too how long the second-order term is, and the cosine of the gradient to finite
differences of the whole expression, L_valid or both losses at w'(alpha) as a function of alpha, for every eighth alpha.

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
EVERY = 8
RULES = {"darts": (0.0, 1.0), "milenas": (1.0, 0.5)}


def flat(parts):
    return torch.cat([part.reshape(-1) for part in parts])


def main():
    torch.set_default_dtype(torch.float64)
    golden = load_file(HERE / "supernet.safetensors")
    net = ts.Supernet(4, 10, 3)
    state = {k: golden["after_step_1." + k].to(v.dtype) for k, v in net.state_dict().items() if "num_batches" not in k}
    net.load_state_dict(state, strict=False)
    alphas = list(net.alphas.parameters())
    arch = set(map(id, alphas))
    named = {k: p for k, p in net.named_parameters() if id(p) not in arch}
    weights = list(named.values())
    start = [p.detach().clone() for p in weights]
    velocity = [(golden["before." + k].double() - golden["after_step_1." + k].double()) / LR for k in named]
    data = {half: (golden[half + ".x"].double(), golden[half + ".y"]) for half in ("train", "valid")}

    def loss(half):
        x, y = data[half]
        return F.cross_entropy(net(x), y)

    def move(directions, factor):
        """From the start."""
        with torch.no_grad():
            for p, s, d in zip(weights, start, directions):
                p.copy_(s + factor * d)

    def differences(train, valid, e=1e-6):
        """Of the whole expression; the weights' step is taken anew for each alpha."""
        def value():
            move(weights, 0.0)
            step = torch.autograd.grad(loss("train"), weights)
            move([MOMENTUM * v + g + DECAY * s for v, g, s in zip(velocity, step, start)], -XI)
            with torch.no_grad():
                return train * loss("train") + valid * loss("valid")

        out = []
        for values in (a.data.view(-1) for a in alphas):
            for i in range(0, len(values), EVERY):
                at, sides = values[i].item(), []
                for sign in (1, -1):
                    values[i] = at + sign * e
                    sides.append(value())
                values[i] = at
                out.append((sides[0] - sides[1]) / (2 * e))
        return torch.stack(out)

    gradient = torch.autograd.grad(loss("train"), weights)
    ahead = [MOMENTUM * v + g + DECAY * s for v, g, s in zip(velocity, gradient, start)]
    out = {}
    for name, (train, valid) in RULES.items():
        move(ahead, -XI)
        found = torch.autograd.grad(train * loss("train") + valid * loss("valid"), alphas + weights)
        by_alpha, v = found[:len(alphas)], found[len(alphas):]
        norm = torch.sqrt(sum((x ** 2).sum() for x in v))

        def term(length):
            """xi times the second derivative along v, from a difference of two steps this long."""
            sides = []
            for sign in (1, -1):
                move(v, sign * length / norm)
                sides.append(torch.autograd.grad(loss("train"), alphas))
            return [XI * norm / (2 * length) * (a - b) for a, b in zip(*sides)]

        second = term(0.01)
        for kind in range(2):
            out[f"{name}.{kind}"] = (by_alpha[kind] - second[kind]).float().contiguous()
        whole = differences(train, valid)
        for length in (1e-2, 1e-3, 1e-4, 1e-6):
            parts = term(length)
            both = flat([by_alpha[kind] - parts[kind] for kind in range(2)])
            cosine = F.cosine_similarity(both[::EVERY], whole, dim=0)
            print(f"{name}, steps of {length}: the second-order term is {flat(parts).norm():.2f} long, "
                  f"the cosine to finite differences of the whole expression {cosine:.5f}")
        move(ahead, 0.0)
    save_file(out, HERE / "unrolled.safetensors")


if __name__ == "__main__":
    main()
