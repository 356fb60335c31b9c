"""JPEG photographs to measure with, cut out of a few real ones.

    python photographs.py SHARED/data/photos_hard/photos OUT 5000

writes OUT/NAME/00000.jpg ..., NAME the photograph that the cut is from: 500 to 2,000 pixels on the longer side, random
scale and place, quality 80 to 95, the same for the same seed. Needs: pip install numpy Pillow.
"""
import argparse
from pathlib import Path

import numpy as np
from PIL import Image


def cut(source, rng):
    """A part of a photograph at its own scale: from a third of its sides to all of it."""
    width, height = source.size
    part = rng.uniform(1 / 3, 1, 2)
    w, h = max(1, int(width * part[0])), max(1, int(height * part[1]))
    left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    longer = int(rng.integers(500, 2001))
    scale = longer / max(w, h)
    size = (max(1, round(w * scale)), max(1, round(h * scale)))
    return source.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + w, top + h))


def make(photos, out, count, seed=0):
    """The files, in the order of their numbers."""
    rng = np.random.default_rng(seed)
    sources = [(path.stem, Image.open(path).convert("RGB")) for path in sorted(Path(photos).iterdir())]
    made = []
    for i in range(count):
        name, source = sources[i % len(sources)]
        path = Path(out) / name / f"{i:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture, quality = cut(source, rng), int(rng.integers(80, 96))
        if not path.exists():
            picture.save(path, quality=quality)
        made.append(path)
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    files = make(a.photos, a.out, a.count, a.seed)
    print(f"{len(files)} photographs, {sum(f.stat().st_size for f in files) / 2**20:.0f} MiB in {a.out}")


if __name__ == "__main__":
    main()
