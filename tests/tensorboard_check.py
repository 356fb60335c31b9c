"""The tensorboard package reads the event files of this project, and finds in them what `metrics.jsonl` has.

    python tests/tensorboard_check.py target/debug

A short search that runs out of time twice and goes on, and a short training.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# Tag, and its place in a line of metrics.jsonl.
SEARCH = {
    "lr": ["lr"], "loss/train": ["train_loss"], "loss/valid": ["valid_loss"], "accuracy/train": ["train_accuracy"], "accuracy/valid": ["valid_accuracy"],
    "entropy/normal": ["entropy", 0], "entropy/reduction": ["entropy", 1], "convolutions/normal": ["convolutions", 0],
    "convolutions/reduction": ["convolutions", 1], "skips": ["skips"], "size/parameters": ["params"], "size/macs": ["macs"],
    "seconds": None,
}
TRAIN = {"lr": ["lr"], "loss/train": ["train_loss"], "loss/test": ["test_loss"], "accuracy/train": ["train_accuracy"],
         "accuracy/test": ["test_accuracy"], "seconds": None}


def compare(folder, tags):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    assert events.file_version == 2.0, events.file_version
    assert set(events.Tags()["scalars"]) == set(tags), events.Tags()["scalars"]
    for tag, place in tags.items():
        found = events.Scalars(tag)
        assert [event.step for event in found] == [line["epoch"] for line in lines], (tag, found)
        assert all(a.wall_time <= b.wall_time for a, b in zip(found, found[1:])), tag
        for event, value in zip(found, lines):
            for key in place or []:
                value = value[key]
            if place:
                assert abs(event.value - value) <= 1e-6 * abs(value), (tag, event, value)
    print(folder.name, len(lines), "epochs,", len(tags), "curves: equal to metrics.jsonl")
    return len(lines)


def main():
    program = Path(sys.argv[1]).resolve() / "milenas-search"
    sets = ["--set", "search.layers=3", "--set", "search.channels=4", "--set", "search.steps=5", "--set", "search.batch=8",
            "--set", "search.epochs=4", "--set", "train.epochs=2", "--set", "train.steps=2", "--set", "train.channels=2",
            "--set", "train.layers=3"]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)

        def run(*command):
            subprocess.run([program, *command, "--data", "digits"], cwd=folder, check=True, capture_output=True)

        run("run", "--out", "search", "--time-budget", "1ms", *sets)
        run("run", "--out", "search", "--resume", "--time-budget", "100ms")
        run("run", "--out", "search", "--resume", "--time-budget", "1h")
        assert compare(folder / "search", SEARCH) == 4
        run("train", "--out", "network", "--genotype", "search/genotype.json", *sets)
        assert compare(folder / "network", TRAIN) == 2


main()
