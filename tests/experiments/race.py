#!/usr/bin/env python3
"""The race on NAS-Bench-201: a pilot with seven reference cells, whole races, and their accuracies in the table.

    python3 tests/experiments/race.py pilot  target/release/milenas-search cifar10:DIR runs/pilot --seeds 1 2 3
    python3 tests/experiments/race.py search target/release/milenas-search cifar10:DIR runs/race --seeds 1 2 3 4 5 6
    python3 tests/experiments/race.py table  runs/race nasbench201.csv

An interrupted run is resumed. The table is read only by `table`. The seven cells of the pilot were chosen by the table.
"""

import argparse
import csv
import json
import subprocess
from pathlib import Path

import paired

# Edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3.
REFERENCE = {
    "3x3 everywhere": "333333",
    "3x3, skip on 0-3": "333s33",
    "3x3, 1x1 on 0-3": "333133",
    "3x3, pool on 0-3": "333p33",
    "3x3, none on 0-3": "333n33",
    "1x1, 3x3, 3x3, skip, 1x1, 3x3": "133s13",
    "3x3, 1x1, 1x1, skip, 3x3, 3x3": "311s33",
}
NAMES = {"3": "nor_conv_3x3", "1": "nor_conv_1x1", "s": "skip_connect", "p": "avg_pool_3x3", "n": "none"}
# The setting that was fixed before the table was opened: whole depth, whole images in the last rung.
SETTING = ["data.size=32", "search.space=nasbench201", "search.strategy=race", "search.channels=16", "search.layers=17"]
RACE = "search.strategies.race."
# A pilot has the trainings of one rung, as its first rung; the other rungs are one step.
PILOT = {"scored": 1, "largest": 1, "aggregate": 0, "second": 1, "third": 1, "steps_second": 1, "steps_third": 1}
RUNGS = {1: {}, 2: {"steps_first": 500}, 3: {"steps_first": 1600, "shrink": 1}}


def cell(code):
    names = [NAMES[letter] for letter in code]
    return f"|{names[0]}~0|+|{names[1]}~0|{names[2]}~1|+|{names[3]}~0|{names[4]}~1|{names[5]}~2|"


def run(program, data, folder, seed, settings):
    command = [program, "run", "--data", data, "--seed", str(seed), "--out", str(folder)]
    if (folder / "config.toml").exists():
        command.append("--resume")
    for setting in settings:
        command += ["--set", setting]
    if not (folder / "genotype.json").exists():
        subprocess.run(command, check=True)


def rows(folder):
    with open(folder / "history.csv") as file:
        return [dict(row, value=100 * float(row["value"])) for row in csv.DictReader(file)]


def pilot(options):
    options.folder.mkdir(parents=True, exist_ok=True)
    files = []
    reference = {name: code for name, code in REFERENCE.items() if code in options.cells}
    for number, code in enumerate(reference.values()):
        files.append(options.folder / f"cell{number}.json")
        files[-1].write_text(json.dumps({"arch": cell(code)}))
    propose = f"{RACE}propose=" + json.dumps(",".join(map(str, files)))
    found = {name: [] for name in reference}
    settings = [f"{RACE}{key}={value}" for key, value in {**PILOT, **RUNGS[options.rung]}.items()]
    for seed in options.seeds:
        folder = options.folder / f"seed{seed}"
        run(options.program, options.data, folder, seed, SETTING + settings + [propose] + options.set)
        values = {row["architecture"]: row["value"] for row in rows(folder) if row["rung"] == "1"}
        for name, code in reference.items():
            found[name].append(values[cell(code)])
    print("| cell | validation accuracy, % |\n| --- | --- |")
    for name, values in found.items():
        print(f"| {name} | {paired.mean(values)} |")


def search(options):
    for seed in options.seeds:
        run(options.program, options.data, options.folder / f"seed{seed}", seed, SETTING + options.set)


def table(options):
    with open(options.table) as file:
        known = {row["arch"]: float(row[options.column]) for row in csv.DictReader(file)}
    order = sorted(known.values(), reverse=True)
    found = []
    print("| seed | chosen cell | test accuracy in the table, % | rank of 15,625 |\n| --- | --- | --- | --- |")
    for folder in sorted(options.folder.glob("seed*")):
        if not (folder / "genotype.json").exists():
            continue
        genotype = json.loads((folder / "genotype.json").read_text())["arch"]
        found.append(known[genotype])
        print(f"| {folder.name[4:]} | `{genotype}` | {found[-1]:.2f} | {order.index(found[-1]) + 1} |")
    print(f"\nmean {paired.mean(found)}, worst {min(found):.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, function in [("pilot", pilot), ("search", search)]:
        command = commands.add_parser(name)
        command.add_argument("program", type=lambda path: str(Path(path).resolve()))
        command.add_argument("data")
        command.add_argument("folder", type=Path)
        command.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
        command.add_argument("--set", action="append", default=[])
        command.set_defaults(function=function)
        if name == "pilot":
            command.add_argument("--rung", type=int, choices=RUNGS, default=1)
            command.add_argument("--cells", nargs="+", default=list(REFERENCE.values()))
    command = commands.add_parser("table")
    command.add_argument("folder", type=Path)
    command.add_argument("table")
    command.add_argument("--column", default="cifar10_test")
    command.set_defaults(function=table)
    options = parser.parse_args()
    options.function(options)


main()
