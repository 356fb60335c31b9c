"""How a step of the search grows with the batch and with the cells: a figure and a table.

    python tests/peers/scaling.py BIN [--rounds 3] [--steps 5] [--threads 2]

BIN is the folder of our binaries. Sizes are measured in turn, round by round; what is told is the median of the rounds. Writes docs/scaling.svg, and the table of docs/benchmarks.md between its two marks.
"""
import argparse
import json
import re
import statistics
import subprocess
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
BATCHES, CELLS = [4, 8, 16, 32, 64], [4, 8, 12, 16]
BATCH, LAYERS = 16, 8
BEGIN, END = "<!-- scaling.py writes from here -->", "<!-- to here -->"
STYLE = """
text { font: 12px sans-serif; fill: #222 } .title { font-size: 14px } path { fill: none; stroke: #999 }
.fit { stroke: #b45309; stroke-width: 1.5 } circle { fill: #1d4ed8 } .grid { stroke: #e5e5e5 }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd } path { stroke: #888 } .fit { stroke: #f59e0b } circle { fill: #7aa2ff } .grid { stroke: #3a3a3a }
}"""
WIDTH, HEIGHT, LEFT, TOP = 300, 200, 55, 40


def measure(args, batch, layers):
    command = [str(args.bin / "milenas-search"), "bench", "step", "--channels", "16", "--layers", str(layers), "--batch",
               str(batch), "--steps", str(args.steps), "--threads", str(args.threads), "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"batch {batch}, {layers} cells: {report['step_seconds']:.3f} s", flush=True)
    return report


def line(xs, ys):
    """Least squares: slope and start."""
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - mx) * (y - my) for x, y in zip(xs, ys)) / sum((x - mx) ** 2 for x in xs)
    return slope, my - slope * mx


def tick(top):
    """A round distance of which three to six reach the top."""
    size = 10.0 ** -6
    while True:
        for factor in (1, 2, 5):
            if top / (size * factor) <= 6:
                return size * factor
        size *= 10


def panel(x0, title, xs, ys):
    top_x, top_y = max(xs) * 1.05, max(ys) * 1.15
    px = lambda x: x0 + LEFT + x / top_x * WIDTH
    py = lambda y: TOP + HEIGHT - y / top_y * HEIGHT
    slope, start = line(xs, ys)
    out = [f'<text class="title" x="{x0 + LEFT}" y="24">{title}</text>']
    step, value = tick(top_y), 0.0
    while value <= top_y:
        out.append(f'<path class="grid" d="M{px(0):.1f} {py(value):.1f}H{px(top_x):.1f}"/>')
        out.append(f'<text x="{px(0) - 8:.1f}" y="{py(value) + 4:.1f}" text-anchor="end">{value:.3g} s</text>')
        value += step
    out.append(f'<path d="M{px(0):.1f} {TOP}V{TOP + HEIGHT}H{px(top_x):.1f}"/>')
    for x in xs:
        out.append(f'<text x="{px(x):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{x}</text>')
    ends = [0 if start >= 0 else -start / slope, max(xs)]
    out.append('<path class="fit" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>'.format(
        *(f(v) for x in ends for f, v in ((px, x), (py, start + slope * x)))))
    out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="4"/>' for x, y in zip(xs, ys)]
    return out


def table(reports, name, xs, ys):
    slope, start = line(xs, ys)
    out = [f"| {name} | seconds a step | straight line | peak memory |", "| --- | --- | --- | --- |"]
    for x, y, report in zip(xs, ys, reports):
        out.append(f"| {x} | {y:.3f} | {start + slope * x:.3f} | {report['peak_mib']:.0f} MiB |")
    return out + [""]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    sizes = [(batch, LAYERS) for batch in BATCHES] + [(BATCH, layers) for layers in CELLS]
    rounds = [{size: measure(args, *size) for size in dict.fromkeys(sizes)} for _ in range(args.rounds)]
    medians = [{key: statistics.median(found[size][key] for found in rounds) for key in ("step_seconds", "peak_mib")}
               for size in sizes]
    by_batch, by_cells = medians[:len(BATCHES)], medians[len(BATCHES):]
    seconds = [[report["step_seconds"] for report in reports] for reports in (by_batch, by_cells)]
    size = (2 * (LEFT + WIDTH) + 30, TOP + HEIGHT + 30)
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}">', f"<style>{STYLE}</style>"]
    svg += panel(0, f"Step by batch, {LAYERS} cells", BATCHES, seconds[0])
    svg += panel(LEFT + WIDTH + 20, f"Step by cells, batch {BATCH}", CELLS, seconds[1])
    (DOCS / "scaling.svg").write_text("\n".join(svg + ["</svg>", ""]))
    rows = table(by_batch, f"batch, at {LAYERS} cells", BATCHES, seconds[0])
    rows += table(by_cells, f"cells, at batch {BATCH}", CELLS, seconds[1])
    page = DOCS / "benchmarks.md"
    written = re.sub(f"{BEGIN}.*?{END}", "\n".join([BEGIN, "", *rows[:-1], END]).replace("\\", r"\\"),
                     page.read_text(), flags=re.S)
    page.write_text(written)


if __name__ == "__main__":
    main()
