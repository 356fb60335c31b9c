"""Our steps against PyTorch's, in turn, on this machine: the ratios of the medians.

    python compare.py BIN [--rounds 5] [--only NAME]

BIN is the folder of our binaries. Programs of one kind, batch and number of threads run in turn, a process each; a line of a Markdown table
for each pair that is compared: seconds of a step of both, their ratio, and the peak memory of both. PyTorch is in channels_last, its best
on a CPU. Needs: pip install torch.
"""
import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def size(batch, threads):
    return ["--channels", "16", "--layers", "8", "--batch", str(batch), "--threads", str(threads)]


def search(batch, threads):
    """Programs by who and passes, and the pairs of them."""
    steps = ("3", "1") if batch == 64 else ("5", "3")
    orders = {"three": [], "two": ["--two-pass"]}
    programs = {}
    for passes, option in orders.items():
        programs["ours", passes] = ["bench", "step", *size(batch, threads), "--steps", steps[0], "--json", *option]
        programs["theirs", passes] = ["torch_supernet.py", *size(batch, threads), "--steps", steps[1], "--channels-last", *option]
    return programs, {"three passes": ("three", "three"), "two passes": ("two", "two"),
                      "two passes against three": ("two", "three")}


def training(batch, threads):
    return {("ours", ""): ["bench", "train", "--genotype", "DARTS_V2", *size(batch, threads), "--steps", "5", "--json"],
            ("theirs", ""): ["torch_train.py", *size(batch, threads), "--steps", "3"]}, {"DARTS_V2": ("", "")}


GROUPS = {f"{kind.__name__}, batch {batch}, {threads} thread{'s' * (threads > 1)}": kind(batch, threads)
          for kind, batch, threads in [(search, 16, 2), (search, 16, 1), (search, 64, 2), (search, 64, 1),
                                       (training, 64, 2), (training, 64, 1)]}


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def seconds_and_mib(text):
    if text.startswith("{"):
        report = json.loads(text)
        return report["step_seconds"], report["peak_mib"]
    return float(re.search(r"step ([\d.]+) s", text)[1]), float(re.search(r"peak ([\d.]+) MiB", text)[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    first = {"ours": [str(args.bin.resolve() / "milenas-search")], "theirs": [sys.executable]}
    print("| what | ours | PyTorch | ratio | peak memory, ours | PyTorch |")
    print("| --- | --- | --- | --- | --- | --- |")
    for group, (programs, pairs) in GROUPS.items():
        if args.only not in group:
            continue
        rounds = [{key: seconds_and_mib(run([*first[key[0]], *command])) for key, command in programs.items()}
                  for _ in range(args.rounds)]

        def median(key, which):
            return statistics.median(found[key][which] for found in rounds)

        for name, (ours, theirs) in pairs.items():
            (a, own), (b, other) = ((median(key, 0), median(key, 1)) for key in (("ours", ours), ("theirs", theirs)))
            print(f"| {group}, {name} | {a:.2f} s | {b:.2f} s | {b / a:.1f} | {own:.0f} MiB | {other:.0f} MiB |", flush=True)


if __name__ == "__main__":
    main()
