"""Parquet files of `milenas-infer`, built with the feature `parquet`, have what its CSV has: read by pyarrow.

    python tests/parquet_check.py target/debug

Needs: pip install pyarrow Pillow numpy.
"""
import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image


def run(*command, expected=0):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != expected:
        sys.exit(f"exit {done.returncode}, expected {expected}\n{done.stdout}{done.stderr}")
    return done.stderr


def check(infer, model, folder, options):
    run(infer, "classify", model, folder / "images", *options, "-o", folder / "a.csv", expected=2)
    run(infer, "classify", model, folder / "images", *options, "-o", folder / "a.parquet", expected=2)
    rows = list(csv.DictReader((folder / "a.csv").open(newline="")))
    table = pq.read_table(folder / "a.parquet")
    assert table.column_names == list(rows[0]), (table.column_names, list(rows[0]))
    kinds = {"path": "string", "label": "string", "error": "string", "index": "int32", "score": "double", "feature": "float"}
    for field in table.schema:
        assert str(field.type) == kinds[field.name.split(".")[0].split("_")[0]], field
    for row, found in zip(rows, table.to_pylist(), strict=True):
        for name, text in row.items():
            value = found[name]
            same = text == "" if value is None else value == text if isinstance(value, str) else abs(value - float(text)) < 1e-5
            assert same, (name, text, value)
    print(f"{table.num_rows} rows of {table.num_columns} columns agree with CSV", *options)


def main():
    infer, export = (Path(sys.argv[1]) / f"milenas-{name}" for name in ("infer", "export"))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model = folder / "model.onnx"
        run(export, "DARTS_V2", "--channels", "4", "--layers", "3", "--size", "16", "--seed", "1", "-o", model)
        (folder / "images").mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)
        for i, image in enumerate(pixels):
            Image.fromarray(image).save(folder / "images" / f"{i:03}.png")
        (folder / "images/030.png").write_bytes(b"no picture")
        check(infer, model, folder, [])
        check(infer, model, folder, ["--top-k", "3", "--threshold", "0.1"])
        check(infer, model, folder, ["--all-scores", "--features"])
        said = run(infer, "classify", model, folder / "images", "-o", folder / "a.parquet", "--resume", expected=1)
        assert "use csv or jsonl with --resume" in said, said
        said = run(infer, "classify", model, folder / "images", "-o", folder / "a.parquet", "--shard", "0/2", expected=1)
        assert "csv or jsonl" in said, said
        said = run(infer, "merge", folder / "a.parquet", expected=1)
        assert "Parquet cannot be merged" in said, said


if __name__ == "__main__":
    main()
