"""Our steps against PyTorch's, in turn, on this machine: the ratios of the medians.

    python compare.py BIN [--rounds 5] [--only NAME]

BIN is the folder of our binaries. Each row runs ours and PyTorch's program alternately, a process each, and prints a line of a Markdown
table: seconds of a step of both, their ratio, and the peak memory of both. PyTorch is in channels_last, its best on a CPU. Needs: pip
install torch.
"""
import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def supernet(batch, threads, two_pass_ours, two_pass_theirs, steps=(5, 3)):
    size = ["--channels", "16", "--layers", "8", "--batch", str(batch), "--threads", str(threads)]
    ours = ["bench", "step", *size, "--steps", str(steps[0]), "--json"] + ["--two-pass"] * two_pass_ours
    theirs = ["torch_supernet.py", *size, "--steps", str(steps[1]), "--channels-last"] + ["--two-pass"] * two_pass_theirs
    return ours, theirs


def network(batch, threads):
    size = ["--channels", "16", "--layers", "8", "--batch", str(batch), "--threads", str(threads)]
    return (["bench", "train", "--genotype", "DARTS_V2", *size, "--steps", "5", "--json"],
            ["torch_train.py", *size, "--steps", "3"])


ROWS = {
    "search, batch 16, 2 threads, three passes": supernet(16, 2, False, False),
    "search, batch 16, 2 threads, two passes": supernet(16, 2, True, True),
    "search, batch 16, 2 threads, two passes against three": supernet(16, 2, True, False),
    "search, batch 16, 1 thread, three passes": supernet(16, 1, False, False),
    "search, batch 64, 2 threads, three passes": supernet(64, 2, False, False),
    "search, batch 64, 1 thread, three passes": supernet(64, 1, False, False, steps=(3, 1)),
    "training, DARTS_V2, batch 64, 2 threads": network(64, 2),
    "training, DARTS_V2, batch 64, 1 thread": network(64, 1),
}


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
    ours_program = str(args.bin.resolve() / "milenas-search")
    print("| what | ours | PyTorch | ratio | peak memory, ours | PyTorch |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (ours, theirs) in ROWS.items():
        if args.only not in name:
            continue
        pairs = [(seconds_and_mib(run([ours_program, *ours])), seconds_and_mib(run([sys.executable, *theirs])))
                 for _ in range(args.rounds)]
        a, b = (statistics.median(pair[i][0] for pair in pairs) for i in (0, 1))
        memory = [statistics.median(pair[i][1] for pair in pairs) for i in (0, 1)]
        print(f"| {name} | {a:.2f} s | {b:.2f} s | {b / a:.1f} | {memory[0]:.0f} MiB | {memory[1]:.0f} MiB |",
              flush=True)


if __name__ == "__main__":
    main()
