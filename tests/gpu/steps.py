"""Steps of the search and of a training on a GPU, ours and PyTorch's in turn: medians, their ratio, and the most memory of the GPU seen in
use.

    python steps.py MILENAS-SEARCH DEVICE [--batch 64] [--rounds 5] [--steps 10] [--brief] [--only search|training]

Needs torch. PyTorch is torch_supernet.py, and torch_train.py for DARTS_V2, in the layout that is faster on this GPU; its convolutions use
TF32 as it comes, so ours are measured with TF32 and without. `--brief` leaves out TF32 and PyTorch's other layout, `--only`
measures one of the two.
"""
import argparse
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

PEERS = Path(__file__).parent.parent / "peers"


def used():
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return max(int(line) for line in subprocess.run(command, capture_output=True, text=True).stdout.split())


def run(command):
    """What it printed, and the most memory seen."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    most = [0]

    def watch():
        while process.poll() is None:
            most[0] = max(most[0], used())
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, errors = process.communicate()
    watcher.join()
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {errors}")
    seconds = json.loads(out)["step_seconds"] if out.startswith("{") else float(re.search(r"step ([\d.]+) s", out)[1])
    return seconds, most[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("device")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--brief", action="store_true")
    parser.add_argument("--only", choices=["search", "training"])
    a = parser.parse_args()
    size = ["--channels", "16", "--layers", "8", "--batch", str(a.batch), "--steps", str(a.steps), "--device"]
    for what, ours, theirs, layouts, option in [
        ("search, three passes", "step", "torch_supernet.py", ([], ["--channels-last"]), []),
        ("search, two passes", "step", "torch_supernet.py", ([], ["--channels-last"]), ["--two-pass"]),
        ("training of DARTS_V2", "train", "torch_train.py", (["--contiguous"], []), []),
    ]:
        if a.only and not what.startswith(a.only):
            continue
        ours = [a.program, "bench", ours, "--json", *option, *size]
        theirs = [sys.executable, PEERS / theirs, *option, *size, a.device]
        rows = {
            "ours, float32": ours + [a.device],
            "ours, TF32": ours + [f"{a.device},tf32"],
            "PyTorch": theirs + layouts[0],
            "PyTorch, channels last": theirs + layouts[1],
        }
        if a.brief:
            rows = {name: rows[name] for name in ("ours, float32", "PyTorch")}
        seen = {name: [] for name in rows}
        for _ in range(a.rounds):
            for name, command in rows.items():
                seen[name].append(run(command))
                print(f"{name}: {1e3 * seen[name][-1][0]:.1f} ms")
        medians = {name: statistics.median(s for s, _ in found) for name, found in seen.items()}
        best = min(median for name, median in medians.items() if name.startswith("PyTorch"))
        print(f"\n| {what}, batch {a.batch} | step, ms | PyTorch's best over it | GPU memory, MiB |")
        print("| --- | --- | --- | --- |")
        for name, found in seen.items():
            print(f"| {name} | {1e3 * medians[name]:.1f} | {best / medians[name]:.2f} | {max(m for _, m in found)} |")


if __name__ == "__main__":
    main()
