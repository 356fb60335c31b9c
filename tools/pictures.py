#!/usr/bin/env python3
"""Makes the figures of README.md from a search of the built-in digits.

    python3 tools/pictures.py target/release

Writes docs/images/cell.svg (the normal cell that the search found) and, where Chromium is installed, docs/images/report.png (the top
of the run's report.html). `$CHROMIUM` names the browser, otherwise it is looked up on the PATH.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDTH, HEIGHT = 1000, 1040


def cell(report):
    """The first cell of a report as a standalone SVG: the drawing with the report's own colours."""
    style = re.search(r"<style>(.*?)</style>", report, re.S)[1]
    drawing = re.search(r'<svg viewBox="(\S+ \S+ \S+ \S+)"[^>]*?( role="img" aria-label="normal cell[^"]*")[^>]*>(.*?)</svg>', report, re.S)
    colours = "\n".join(re.findall(r"^(?::root|@media \(prefers-color-scheme|  --).*$", style, re.M))
    # Rules that the drawing uses; the rest is layout of the report.
    rules = "\n".join(line for line in style.splitlines() if re.match(r"\.(c0|f0|line|d1|state|label|kept)\b|svg (text|\.label)", line))
    box = drawing[1].split()
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{drawing[1]}" width="{box[2]}" height="{box[3]}"{drawing[2]}>\n'
            f"<style>\n{colours}\n{rules}\n</style>\n"
            f'<rect width="{box[2]}" height="{box[3]}" fill="var(--back)"/>\n{drawing[3]}\n</svg>\n')


def screenshot(page, out):
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
    if browser is None:
        return print(f"no Chromium on the PATH or in $CHROMIUM: {out.name} is not made")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run([browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
                        f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={out}", page.as_uri()], check=True, stderr=subprocess.DEVNULL)
    print(f"{out.name}: {out.stat().st_size} bytes")


def main():
    program = Path(sys.argv[1]).resolve() / "milenas-search"
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        subprocess.run([program, "run", "--data", "digits", "--out", "runs/digits", "--seed", "0", "--set", "augment.flip=false"],
                       check=True, cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        page = folder / "runs/digits/report.html"
        (IMAGES / "cell.svg").write_text(cell(page.read_text()))
        print("cell.svg")
        screenshot(page, IMAGES / "report.png")


if __name__ == "__main__":
    main()
