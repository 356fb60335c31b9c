"""The first 20 steps of a search on a GPU and on the CPU: the same seed, so the same batches; losses and mixtures must agree.

    python search.py MILENAS-SEARCH DEVICE

Searches on the built-in digits, one epoch of 20 steps. Rounding grows from step to step: of the epoch's mean training loss 1 % is
asked for, of the weights of the mixture, which lie about 1/8, 0.001.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

LOSS, WEIGHT = 0.01, 0.001


def record(program, device, out):
    settings = ["search.epochs=1", "search.steps=20", "augment.flip=false"]
    command = [program, "run", "--data", "digits", "--out", str(out), "--seed", "1", "--device", device]
    subprocess.run(command + [x for s in settings for x in ("--set", s)], check=True)
    return json.loads((out / "metrics.jsonl").read_text().splitlines()[0])


def main():
    program, device = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        found, expected = (record(program, d, Path(folder) / str(i)) for i, d in enumerate((device, "cpu")))
    for key in ("train_loss", "train_accuracy", "valid_accuracy"):
        print(f"{key}: {found[key]:.5f} on {device}, {expected[key]:.5f} on the cpu")
    pairs = zip(*([x for kind in r["mixture"] for row in kind for x in row] for r in (found, expected)))
    weight = max(abs(a - b) for a, b in pairs)
    print(f"largest difference of a weight of the mixture: {weight:.6f}")
    loss = abs(found["train_loss"] / expected["train_loss"] - 1)
    if not (loss <= LOSS and weight <= WEIGHT):
        sys.exit(f"they differ: {loss:.2%} of the loss, at most {LOSS:.0%}; {weight:.6f} of a weight, at most {WEIGHT}")


if __name__ == "__main__":
    main()
