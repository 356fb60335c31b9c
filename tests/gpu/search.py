"""The first 20 steps of a search on a GPU and on the CPU: the same seed, so the same batches; losses and mixtures must agree.

    python search.py MILENAS-SEARCH DEVICE

Searches on the built-in digits, one epoch of 20 steps. Rounding grows from step to step, and the faster the larger the steps are: at the
usual rate of 0.025 a change of the rate by 4e-7 of it moves the mixture by a third of its distance from 1/8 within these steps, on the
CPU alone. At the rate taken here, by 3 %, and the mean loss by 2e-5. The loss is to agree to a thousandth, and the mixture to a tenth
of that distance, in the mean.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

LOSS, MIXTURE = 0.001, 0.1


def record(program, device, out):
    settings = ["search.epochs=1", "search.steps=20", "augment.flip=false", "search.weights.lr=0.0005", "search.weights.lr_min=0.0001"]
    command = [program, "run", "--data", "digits", "--out", str(out), "--seed", "1", "--device", device]
    subprocess.run(command + [x for s in settings for x in ("--set", s)], check=True)
    return json.loads((out / "metrics.jsonl").read_text().splitlines()[0])


def main():
    program, device = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        found, expected = (record(program, d, Path(folder) / str(i)) for i, d in enumerate((device, "cpu")))
    for key in ("train_loss", "train_accuracy", "valid_accuracy"):
        print(f"{key}: {found[key]:.5f} on {device}, {expected[key]:.5f} on the cpu")
    ours, theirs = ([x for kind in r["mixture"] for row in kind for x in row] for r in (found, expected))
    mixture = sum(abs(a - b) for a, b in zip(ours, theirs)) / sum(abs(b - 1 / 8) for b in theirs)
    print(f"mixture: differs by {mixture:.4f} of its distance from 1/8")
    loss = abs(found["train_loss"] / expected["train_loss"] - 1)
    if not (loss <= LOSS and mixture <= MIXTURE):
        sys.exit(f"they differ: {loss:.2%} of the loss, at most {LOSS:.0%}; {mixture:.2%} of the mixture, at most {MIXTURE:.0%}")


if __name__ == "__main__":
    main()
