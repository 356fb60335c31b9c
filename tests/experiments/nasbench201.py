"""Scores and searches on NAS-Bench-201 against its table of true accuracies.

    python nasbench201.py scores SCORES.csv TABLE [--seeds 500]
    python nasbench201.py search BIN DATA OUT TABLE [--seeds 1 2 3] [--only NAME]... [--set KEY=VALUE]...

SCORES.csv is what `milenas-search score -o` wrote, TABLE the accuracies (columns arch, cifar10_test, naswot_cifar10). `scores` prints
the rank correlations of every column with the test accuracy, over all cells and over the best tenth. For the best of N by each score,
by chance and by the table itself, it prints mean and deviation of the true accuracy over draws from the scored ones. `search` runs
every strategy with every seed and prints what it found: true accuracy, rank among all, seconds, and the cell after each epoch as
skips and convolutions. A run that is there is not made again. Needs nothing but Python.
"""
import argparse
import csv
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import paired

SEARCH = ["search.layers=5", "search.epochs=15", "search.steps=100", "search.batch=64"]
STRATEGIES = {
    "single-level": ["--strategy", "single-level"],
    "darts-1st": ["--strategy", "darts-1st"],
    "milenas, lambda 0.1": ["--lambda", "0.1"],
    "milenas, lambda 1": [],
    "milenas, gumbel": ["--mixture", "gumbel"],
    "milenas, options": ["--exclude-none", "--warmup-epochs", "5", "--set", "search.alphas.lr=0.003"],
    "milenas, perturbation": ["--derive", "pt", "--warmup-epochs", "5", "--set", "search.alphas.lr=0.003"],
    "drnas": ["--strategy", "darts-1st", "--mixture", "dirichlet", "--exclude-none", "--warmup-epochs", "3",
              "--stages", "10:3:1", "--set", "search.alphas.lr=0.003"],
    "naswot": ["--strategy", "naswot"],
}


def table(path):
    with open(path, newline="") as file:
        return {row["arch"]: row for row in csv.DictReader(file)}


def ranks(values):
    order, out, start = sorted(range(len(values)), key=values.__getitem__), [0.0] * len(values), 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for i in order[start:end]:
            out[i] = (start + end + 1) / 2
        start = end
    return out


def spearman(a, b):
    a, b, mean = ranks(a), ranks(b), (len(a) + 1) / 2
    def product(x, y):
        return sum((i - mean) * (j - mean) for i, j in zip(x, y))
    return product(a, b) / (product(a, a) * product(b, b)) ** 0.5


def kendall(a, b):
    agreement = left = right = 0
    for i in range(len(a)):
        for j in range(i):
            x, y = (a[i] > a[j]) - (a[i] < a[j]), (b[i] > b[j]) - (b[i] < b[j])
            agreement, left, right = agreement + x * y, left + x * x, right + y * y
    return agreement / (left * right) ** 0.5


def scores(a):
    truth = table(a.table)
    with open(a.scores, newline="") as file:
        rows = list(csv.DictReader(file))
    test = [float(truth[r["architecture"]]["cifar10_test"]) for r in rows]
    columns = {name: [float(r[name]) for r in rows] for name in rows[0] if name != "architecture"}
    best = sorted(range(len(rows)), key=test.__getitem__)[-max(len(rows) // 10, 2):]
    print(f"{len(rows)} architectures\n\n| score | Spearman | Kendall | Spearman, best tenth |\n| --- | --- | --- | --- |")
    for name, values in columns.items():
        tenth = spearman([values[i] for i in best], [test[i] for i in best])
        print(f"| {name} | {spearman(values, test):.3f} | {kendall(values, test):.3f} | {tenth:.3f} |")
    if "naswot" in columns:
        other = [float(truth[r["architecture"]]["naswot_cifar10"]) for r in rows]
        print(f"\nnaswot with the table's independent scores: Spearman {spearman(columns['naswot'], other):.4f}")
    sizes = [n for n in (10, 100, 1000) if n <= len(rows)]
    judges = {"by the table (the best there is)": test, **columns, "at random": None}
    print(f"\nTest accuracy of the best of N, mean ± deviation over {a.seeds} draws\n")
    print("| best | " + " | ".join(f"N = {n}" for n in sizes) + " |\n| --- |" + " --- |" * len(sizes))
    for name, values in judges.items():
        cells = []
        for n in sizes:
            found = []
            for seed in range(a.seeds):
                drawn = random.Random(f"{seed}/{n}").sample(range(len(rows)), n)
                found.append(test[max(drawn, key=values.__getitem__) if values else drawn[0]])
            cells.append(f"{statistics.mean(found):.2f} ± {statistics.stdev(found):.2f}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    # The table's independent naswot scores are there for every cell, so a thousand can be drawn many times.
    everything = [(float(row["naswot_cifar10"]), float(row["cifar10_test"])) for row in truth.values()]
    cells = []
    for n in (10, 100, 1000):
        found = [max(random.Random(f"{seed}/{n}").sample(everything, n))[1] for seed in range(a.seeds)]
        cells.append(f"{statistics.mean(found):.2f} ± {statistics.stdev(found):.2f}")
    print("| the table's own naswot scores, all cells | " + " | ".join(cells) + " |")


def search(a):
    a.out.mkdir(parents=True, exist_ok=True)
    names = [name for name in STRATEGIES if not a.only or name in a.only]
    folder = {(name, seed): a.out / f"{name.replace(', ', '-').replace(' ', '')}-{seed}" for name in names for seed in a.seeds}
    for (name, seed), out in folder.items():
        seconds = out / "seconds"
        if seconds.exists():
            continue
        options = STRATEGIES[name]
        keys = [*(SEARCH if name != "naswot" else SEARCH[:1]), *a.set]
        sets = [part for key in keys for part in ("--set", key)]
        order = [] if name == "naswot" else ["--set", "search.order=two-pass"]
        resume = ["--resume"] if (out / "checkpoint.safetensors").exists() else []
        start = time.monotonic()
        done = subprocess.run([str(a.bin), "run", "--space", "nasbench201", "--data", a.data, "--preset", "paper", *order,
                               "--seed", str(seed), *options, *sets, "--out", str(out), *resume],
                              capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{out}: {done.stderr}")
        seconds.write_text(f"{time.monotonic() - start:.0f}")
    # The table is read after all searches.
    truth = table(a.table)
    best = sorted((float(row["cifar10_test"]) for row in truth.values()), reverse=True)
    print("| strategy | seed | test accuracy | rank | seconds | cell |\n| --- | --- | --- | --- | --- | --- |")
    phases, found = [], {name: [] for name in names}
    for (name, seed), out in folder.items():
        arch = json.loads((out / "genotype.json").read_text())["arch"]
        accuracy = float(truth[arch]["cifar10_test"])
        found[name].append(accuracy)
        print(f"| {name} | {seed} | {accuracy:.2f} | {1 + sum(x > accuracy for x in best)} "
              f"| {(out / 'seconds').read_text()} | `{arch}` |")
        metrics = out / "metrics.jsonl"
        if metrics.exists() and metrics.stat().st_size:
            epochs = [json.loads(line) for line in metrics.read_text().splitlines()]
            cells = [f"{e['skips']}/{e['convolutions'][0]}" for e in epochs]
            true = [f"{float(truth[e['genotype']['arch']]['cifar10_test']):.1f}" for e in epochs]
            phases.append(f"| {name} | {seed} | {' '.join(cells)} | {' '.join(true)} | {epochs[-1]['entropy'][0]:.3f} |")
    print(f"\n| strategy | test accuracy | worst | difference to {names[0]} |\n| --- | --- | --- | --- |")
    for name, values in found.items():
        versus = paired.difference(values, found[names[0]]) if name != names[0] else "-"
        print(f"| {name} | {paired.mean(values)} | {min(values):.2f} | {versus} |")
    print("\n| strategy | seed | skips/convolutions after each epoch | true accuracy of the cell after each epoch | entropy at the end "
          "|\n| --- | --- | --- | --- | --- |")
    print("\n".join(phases))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    s = commands.add_parser("scores")
    s.add_argument("scores", type=Path)
    s.add_argument("table", type=Path)
    s.add_argument("--seeds", type=int, default=500)
    s.set_defaults(run=scores)
    s = commands.add_parser("search")
    s.add_argument("bin", type=Path)
    s.add_argument("data")
    s.add_argument("out", type=Path)
    s.add_argument("table", type=Path)
    s.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    s.add_argument("--only", action="append")
    s.add_argument("--set", action="append", default=[])
    s.set_defaults(run=search)
    a = parser.parse_args()
    a.run(a)


if __name__ == "__main__":
    main()
