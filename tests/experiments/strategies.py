"""The paper's comparison of strategies, small: every strategy with every seed searches, and what it found is trained alike.

    python strategies.py BIN DATA OUT [--seeds 1 2 3] [--only NAME]...

BIN is milenas-search, DATA any of its sources, OUT a folder for the runs; a run that is there is not made again. Prints two
Markdown tables: by strategy the mean and its standard error over the seeds, with the paired difference to random genotypes, and by run the convolutions (n, r) of the cells after
each epoch. Random genotypes, trained alike, stand beside them. Needs nothing but Python.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

import paired

SEARCH = ["data.size=16", "search.channels=8", "search.layers=5", "search.batch=32", "search.epochs=10",
          "search.steps=30", "search.alphas.lr=0.006"]
TRAIN = ["data.size=16", "train.channels=8", "train.layers=5", "train.batch=64", "train.epochs=5", "train.steps=100"]
STRATEGIES = {
    "single-level": ["--strategy", "single-level"],
    "darts-1st": ["--strategy", "darts-1st"],
    "milenas, lambda 0.1": ["--lambda", "0.1"],
    "milenas, lambda 1": [],
    "milenas, lambda 999": ["--lambda", "999"],
    "milenas, two passes": ["--set", "search.order=two-pass"],
    "milenas, gumbel": ["--mixture", "gumbel"],
    "darts-2nd": ["--strategy", "darts-2nd"],
    "milenas-2nd": ["--strategy", "milenas-2nd"],
}


def run(arguments, out, marker):
    if not (out / marker).exists():
        done = subprocess.run([*map(str, arguments), "--out", str(out)], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{out}: {done.stderr}")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def sets(keys):
    return [part for key in keys for part in ("--set", key)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin", type=Path)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", action="append")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    names = a.only or [*STRATEGIES, "random"]
    runs = [(seed, name, a.out / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}")
            for seed in a.seeds for name in names]
    found = {name: [] for name in names}
    for seed, name, folder in runs:
        if name in STRATEGIES:
            run([a.bin, "run", "--data", a.data, "--seed", seed, *sets(SEARCH), *STRATEGIES[name]],
                folder, "genotype.json")
            print(f"{folder.name} searched", file=sys.stderr, flush=True)
    for seed, name, folder in runs:
        searched = name in STRATEGIES
        genotype = folder / "genotype.json" if searched else f"random:{seed}"
        net = folder.with_name(folder.name + "-net")
        run([a.bin, "train", "--data", a.data, "--seed", seed, "--genotype", genotype, *sets(TRAIN)],
            net, "weights.safetensors")
        found[name].append((lines(folder / "metrics.jsonl") if searched else [], lines(net / "metrics.jsonl")))
        print(f"{folder.name} trained", file=sys.stderr, flush=True)

    print("| strategy | supernet, training % | supernet, validation % | gap | trained alike, test % | difference to random |")
    print("| --- | --- | --- | --- | --- | --- |")
    tests = {name: [100 * net[-1]["test_accuracy"] for _, net in runs] for name, runs in found.items()}
    for name, runs in found.items():
        test = paired.mean(tests[name], 1)
        if name not in STRATEGIES:
            print(f"| {name} | - | - | - | {test} | - |")
            continue
        versus = paired.difference(tests[name], tests.get("random", []), 1)
        train, valid = ([100 * epochs[-1][key] for epochs, _ in runs] for key in ("train_accuracy", "valid_accuracy"))
        gap = paired.mean([t - v for t, v in zip(train, valid)], 1)
        print(f"| {name} | {paired.mean(train, 1)} | {paired.mean(valid, 1)} | {gap} | {test} | {versus} |")
    print("\n| run | convolutions (n, r) after each epoch |")
    print("| --- | --- |")
    for name, runs in found.items():
        for seed, (epochs, _) in zip(a.seeds, runs):
            if epochs:
                print(f"| {name}, seed {seed} | {' '.join('{},{}'.format(*e['convolutions']) for e in epochs)} |")


if __name__ == "__main__":
    main()
