"""What short trainings favour, on the table of NAS-Bench-201 (the claim of Shu et al., ICLR 2020).

    python wide_and_shallow.py nasbench201.csv

Cells whose edges all reach the output are grouped by equal counts of operations, so that parameters and multiply-accumulates are
equal. Within a group, properties of the wiring are correlated (Spearman) with accuracy after 12 epochs, after 200 epochs, and with
the gain in between; the mean over groups of three cells or more is weighted by their size. Exits with status 1 if a value is more
than 0.01 from the one that docs/nasbench201.md states. Needs nothing but Python.
"""
import csv
import statistics
import sys
from collections import defaultdict

from nasbench201 import spearman

EDGES = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
PATHS = [[(0, 3)], [(0, 1), (1, 3)], [(0, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)]]
STATED = {
    ("mean path length", "12 epochs"): -0.406,
    ("mean path length", "200 epochs"): -0.269,
    ("edges from the input", "12 epochs"): 0.333,
    ("edges from the input", "200 epochs"): 0.213,
    ("fewest convolutions on a path", "12 epochs"): -0.514,
    ("fewest convolutions on a path", "200 epochs"): -0.124,
    ("fewest convolutions on a path", "gain"): 0.567,
}


def operations(arch):
    found = {}
    for node, part in enumerate(arch.split("+"), 1):
        for token in part.strip("|").split("|"):
            name, source = token.split("~")
            found[int(source), node] = name
    return found


def properties(cell):
    """Returns the properties of the wiring, or None if an edge does not reach the output."""
    live = [path for path in PATHS if all(cell[edge] != "none" for edge in path)]
    used = {edge for path in live for edge in path}
    if not live or any(cell[edge] != "none" and edge not in used for edge in EDGES):
        return None
    return {
        "mean path length": statistics.mean(map(len, live)),
        "edges from the input": sum(cell[0, node] != "none" for node in (1, 2, 3)),
        "fewest convolutions on a path": min(sum("conv" in cell[edge] for edge in path) for path in live),
    }


def main():
    groups = defaultdict(list)
    with open(sys.argv[1], newline="") as file:
        for row in csv.DictReader(file):
            cell = operations(row["arch"])
            found = properties(cell)
            if found:
                early, late = float(row["cifar10_valid_12ep"]), float(row["cifar10_test"])
                accuracies = {"12 epochs": early, "200 epochs": late, "gain": late - early}
                groups[tuple(sorted(cell.values()))].append((found, accuracies))
    print(f"{sum(map(len, groups.values()))} cells in {len(groups)} groups\n")
    print("| property | 12 epochs | 200 epochs | gain |\n| --- | --- | --- | --- |")
    wrong = []
    for name in ("mean path length", "edges from the input", "fewest convolutions on a path"):
        row = []
        for target in ("12 epochs", "200 epochs", "gain"):
            total = weight = 0
            for group in groups.values():
                values, accuracies = [p[name] for p, _ in group], [a[target] for _, a in group]
                if len(group) > 2 and len(set(values)) > 1 and len(set(accuracies)) > 1:
                    total, weight = total + len(group) * spearman(values, accuracies), weight + len(group)
            row.append(total / weight)
            stated = STATED.get((name, target))
            if stated is not None and abs(row[-1] - stated) > 0.01:
                wrong.append(f"{name}, {target}: {row[-1]:.3f}, expected {stated}")
        print(f"| {name} | {' | '.join(f'{value:+.3f}' for value in row)} |")
    if wrong:
        sys.exit("\n".join(wrong))


main()
