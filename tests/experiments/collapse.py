#!/usr/bin/env python3
"""Whether gradient-based search collapses to skip connections in a space, over three seeds.

Searches the digits and the subset of CIFAR-10 in the spaces darts-s2 and darts-s3, trains the genotype for a few
epochs, exports it and evaluates both files. Prints a Markdown table; runs that are there are not repeated.

    python3 tests/experiments/collapse.py target/debug runs/collapse
"""

import json
import subprocess
import sys
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
SOURCES = {
    "digits": ("digits", ["--set", "augment.flip=false"]),
    "CIFAR-10 subset": (str(SHARED / "cifar10_subset_png.tar"), ["--preset", "laptop"]),
}


def run(programs, *command):
    done = subprocess.run([programs / command[0], *map(str, command[1:])], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def one(programs, folder, space, name, seed):
    source, options = SOURCES[name]
    at = folder / f"{space}-{Path(source).stem}-{seed}"
    result = folder / f"{at.name}.json"
    if not result.exists():
        common = ["--data", source, "--seed", seed, *options]
        resume = ["--resume"] if (at / 'config.toml').exists() else []
        run(programs, "milenas-search", "run", *common, "--space", space, "--out", at, *resume)
        net = at.with_name(at.name + "-net")
        resume = ["--resume"] if (net / 'config.toml').exists() else []
        run(programs, "milenas-search", "train", "--genotype", at / "genotype.json", *common, "--set", "train.epochs=6",
            "--out", net, *resume)
        weights, model = net / "weights.safetensors", net / "model.onnx"
        run(programs, "milenas-export", weights, "-o", model)
        trained = json.loads(run(programs, "milenas-search", "eval", "--weights", weights, "--data", source, "--json"))
        onnx = json.loads(run(programs, "milenas-infer", "evaluate", model, source, "--json"))
        epochs = [json.loads(line) for line in (at / "metrics.jsonl").read_text().splitlines()]
        result.write_text(json.dumps({
            "skips": [epoch["skips"] for epoch in epochs],
            "entropy": epochs[-1]["entropy"][0],
            "trained": trained["top1"],
            "onnx": onnx["top1"],
        }))
    return json.loads(result.read_text())


def main():
    programs, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    print("| data | space | seed | skips of 8, by epoch | entropy at the end | test accuracy | through ONNX |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in SOURCES:
        for space in ["darts-s3", "darts-s2"]:
            for seed in [1, 2, 3]:
                r = one(programs, folder, space, name, seed)
                skips = " ".join(map(str, r["skips"]))
                print(f"| {name} | {space} | {seed} | {skips} | {r['entropy']:.3f} | {r['trained']:.2%} | {r['onnx']:.2%} |",
                      flush=True)


main()
