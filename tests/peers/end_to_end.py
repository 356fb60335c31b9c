"""A folder of photographs to a table of labels: `milenas-infer classify` and a Python script in turn.

    python end_to_end.py ../target/release model.onnx SHARED/data/photos_hard/photos --count 5000 --rounds 3

makes COUNT photographs of 500 to 2,000 pixels (photographs.py) in --folder, and runs both programs on them, a fresh
process each, in turn, so that both meet the same noise. The script is tests/consumers/python/classify.py's recipe:
Pillow and numpy in a pool of processes, one a core, ONNX Runtime on batches of 32 beside it; Pillow decodes with scaling
(`Image.draft`) with --draft. Prints the medians of the seconds and of the processor's seconds, and their ratios.
Needs: pip install onnxruntime numpy Pillow.
"""
import argparse
import csv
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "consumers/python"))
BATCH = 32


def decoded(work):
    """In a process of the pool: a file to bytes of the network's size."""
    from PIL import Image
    from classify import prepare
    path, recipe, draft = work
    image = Image.open(path)
    if draft:
        side = recipe["resize"]["shorter_side"]["side"] if recipe["resize"] != "stretch" else recipe["height"]
        image.draft("RGB", (side, side))
    return prepare(image, recipe)


def script(model, folder, out, workers, draft):
    """What a careful Python programmer would write."""
    from classify import Classifier
    # Made before the session's threads, which would not survive a fork.
    with multiprocessing.Pool(workers) as pool, open(out, "w", newline="") as file:
        classifier = Classifier(model)
        files = sorted(str(p) for p in Path(folder).rglob("*.jpg"))
        pixels = pool.imap(decoded, ((f, classifier.input, draft) for f in files), chunksize=8)
        writer = csv.writer(file)
        writer.writerow(["path", "label", "index", "score"])
        for i in range(0, len(files), BATCH):
            part = files[i:i + BATCH]
            p = classifier.probabilities([classifier.normalise(next(pixels)) for _ in part])
            for path, row in zip(part, p):
                best = int(row.argmax())
                writer.writerow([path, classifier.labels[best], best, f"{row[best]:.6f}"])


def measured(command):
    """Seconds, and processor seconds of the process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run([str(c) for c in command], check=True, capture_output=True)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def agreement(one, other):
    rows = [{r["path"]: r["label"] for r in csv.DictReader(open(path, newline=""))} for path in (one, other)]
    assert rows[0].keys() == rows[1].keys(), "the same images"
    return sum(rows[0][path] == rows[1][path] for path in rows[0]) / len(rows[0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/photographs"))
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--draft", action="store_true")
    parser.add_argument("--script", type=Path, metavar="OUT", help="be the script, and write OUT")
    a = parser.parse_args()
    folder = a.folder / str(a.count)
    if a.script:
        return script(a.model, folder, a.script, a.workers, a.draft)
    from photographs import make
    make(a.photos, folder, a.count)
    ours, theirs = a.folder / "ours.csv", a.folder / "theirs.csv"
    draft = ["--draft"] if a.draft else []
    commands = [
        [a.bin / "milenas-infer", "classify", a.model, folder, "-o", ours, "--workers", a.workers],
        [sys.executable, *sys.argv, "--script", theirs, *draft],
    ]
    rounds = [[measured(command) for command in commands] for _ in range(a.rounds)]
    print(f"{a.count} photographs, {a.workers} workers; the two agree on {100 * agreement(ours, theirs):.2f} %")
    for k, what in enumerate(["seconds", "processor seconds"]):
        one, other = (statistics.median(r[i][k] for r in rounds) for i in range(2))
        ratio = statistics.median(r[1][k] / r[0][k] for r in rounds)
        print(f"{what}: milenas-infer {one:.2f} ({a.count / one:.0f} images/s), Python {other:.2f}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
