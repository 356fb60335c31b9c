"""The first 20 steps of a search, or of a training, on a GPU and on the CPU: the same seed, so the same batches; their last records must agree.

    python runs.py MILENAS-SEARCH DEVICE search|train

On the built-in digits, a search in one epoch, a training in two, since drop path begins after the first. Rounding grows from step to step, and the faster the larger the steps are: at the usual rate
of 0.025 a change of the rate by 4e-7 of it moves the mixture of a search by a third of its distance from 1/8 within these steps, on the CPU
alone. At the rate taken here, by 3 %, and the mean loss by 2e-5. The loss is to agree to a thousandth, and the mixture to a tenth of that
distance, in the mean. In bfloat16, which has three bits less than TF32, to eight times as much. A training has an auxiliary head, drop path and a mean of its weights.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

LOSS, MIXTURE = 0.001, 0.1
RATES = ["weights.lr=0.0005", "weights.lr_min=0.0001"]
SETTINGS = {
    "search": ["epochs=1", "steps=20"],
    "train": ["epochs=2", "steps=10", "auxiliary=0.4", "drop_path=0.2", "smoothing=0.1", "ema=0.9", "cutout=0.25"],
}


def record(program, device, what, out):
    settings = [f"{what}.{setting}" for setting in RATES + SETTINGS[what]] + ["augment.flip=false"]
    command = [program, "run"] if what == "search" else [program, "train", "--genotype", "DARTS_V2", "--set", "data.size=32"]
    command += ["--data", "digits", "--out", str(out), "--seed", "1", "--device", device]
    subprocess.run(command + [x for s in settings for x in ("--set", s)], check=True)
    return json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])


def main():
    program, device, what = sys.argv[1:]
    loss, most = (x * (8 if device.endswith(",bf16") else 1) for x in (LOSS, MIXTURE))
    with tempfile.TemporaryDirectory() as folder:
        found, expected = (record(program, d, what, Path(folder) / str(i)) for i, d in enumerate((device, "cpu")))
    for key in found:
        if key.endswith(("loss", "accuracy")):
            print(f"{key}: {found[key]:.5f} on {device}, {expected[key]:.5f} on the cpu")
    losses = [key for key in ("train_loss", "test_loss") if key in found]
    far = {key: abs(found[key] / expected[key] - 1) for key in losses}
    wrong = [f"{far[key]:.2%} of {key}, at most {loss:.1%}" for key in losses if not far[key] <= loss]
    if what == "search":
        ours, theirs = ([x for kind in r["mixture"] for row in kind for x in row] for r in (found, expected))
        mixture = sum(abs(a - b) for a, b in zip(ours, theirs)) / sum(abs(b - 1 / 8) for b in theirs)
        print(f"mixture: differs by {mixture:.4f} of its distance from 1/8")
        if not mixture <= most:
            wrong.append(f"{mixture:.2%} of the mixture, at most {most:.0%}")
    if wrong:
        sys.exit(f"they differ: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
