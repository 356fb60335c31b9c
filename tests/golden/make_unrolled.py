"""The second-order gradients of the alphas, by finite differences of the whole expression in float64.

For L = train * L_train(w', alpha) + valid * L_valid(w', alpha) with w' = w - xi * (momentum * v + dL_train/dw(w, alpha) + decay * w),
each of the 224 alphas is moved both ways and L computed anew, w' with it: nothing of the approximation of DARTS is used.
Starts from the state after one step in supernet.safetensors; v is that step's velocity. Writes unrolled.safetensors
beside it. Takes some minutes.

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

XI, MOMENTUM, DECAY, LR, MOVE = 0.1, 0.9, 3e-4, 0.025, 1e-5
RULES = {"darts": (0.0, 1.0), "milenas": (1.0, 0.5)}


def main():
    torch.set_default_dtype(torch.float64)
    golden = load_file(HERE / "supernet.safetensors")
    net = ts.Supernet(4, 10, 3)
    state = {k: golden["after_step_1." + k].to(v.dtype) for k, v in net.state_dict().items() if "num_batches" not in k}
    net.load_state_dict(state, strict=False)
    alphas = list(net.alphas.parameters())
    arch = set(map(id, alphas))
    weights = {k: p for k, p in net.named_parameters() if id(p) not in arch}
    start = {k: p.detach().clone() for k, p in weights.items()}
    velocity = {k: (golden["before." + k].double() - golden["after_step_1." + k].double()) / LR for k in weights}
    data = {half: (golden[half + ".x"].double(), golden[half + ".y"]) for half in ("train", "valid")}

    def loss(half):
        x, y = data[half]
        return F.cross_entropy(net(x), y)

    def losses_ahead():
        """Both losses at w'."""
        gradients = torch.autograd.grad(loss("train"), list(weights.values()))
        with torch.no_grad():
            for (k, p), g in zip(weights.items(), gradients):
                p -= XI * (MOMENTUM * velocity[k] + g + DECAY * p)
            found = torch.stack([loss("train"), loss("valid")])
            for k, p in weights.items():
                p.copy_(start[k])
        return found

    slopes = []
    for table in alphas:
        rows = torch.zeros(table.numel(), 2)
        for i in range(table.numel()):
            flat, ends = table.data.view(-1), []
            at = flat[i].item()
            for sign in (1, -1):
                flat[i] = at + sign * MOVE
                ends.append(losses_ahead())
            flat[i] = at
            rows[i] = (ends[0] - ends[1]) / (2 * MOVE)
        slopes.append(rows)
    out = {f"{name}.{kind}": (train * rows[:, 0] + valid * rows[:, 1]).view(-1, 8).float().contiguous()
           for name, (train, valid) in RULES.items() for kind, rows in enumerate(slopes)}
    save_file(out, HERE / "unrolled.safetensors")


if __name__ == "__main__":
    main()
