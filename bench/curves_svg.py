"""Draws curves of torch_curve.py --plot: loss against step, a panel per file, as one SVG.

usage: curves_svg.py FILE.json... --out docs/img/curves-gpu.svg [--columns 2] [--log]

dtrain is solid, PyTorch from the same weights dashed, the band spans PyTorch's own seeds. --log: logarithmic loss.
"""
import argparse, json, math, pathlib, statistics

WIDTH, HEIGHT, LEFT, TOP, GAP_X, GAP_Y = 400, 200, 60, 76, 80, 92
POINTS_MAX = 500
STYLE = """text{font:12px system-ui,sans-serif;fill:#57606a}.n{font-size:15px;font-weight:600}
.m{text-anchor:middle}.e{text-anchor:end}.b{fill:#fff}.g{stroke:#8c959f;stroke-width:.6;stroke-opacity:.4}.a{stroke:#8c959f;fill:none}
polyline{fill:none;stroke-linejoin:round}.o{stroke:#2f81f7;stroke-width:2.5}.t{stroke:#e8590c;stroke-width:1.5;stroke-dasharray:6 4}
.s{fill:#8c959f;fill-opacity:.28}
@media(prefers-color-scheme:dark){.b{fill:#0d1117}text{fill:#a5b0bb}}"""


def ticks(low, high, n=5):
    """Round numbers within the range."""
    rough = (high - low) / n or 1.0
    unit = 10 ** math.floor(math.log10(rough))
    step = next(k * unit for k in (1, 2, 5, 10) if k * unit >= rough)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_ticks(low, high):
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [k * 10.0 ** d for d in decades for k in (1, 2, 5)]
    found = [v for v in fine if low <= v <= high]
    return found if len(found) <= 7 else [10.0 ** d for d in decades if low <= 10.0 ** d <= high]


def panel(c, left, top, log):
    step, seeds = c["step"], c["seeds"]
    lines = [c["ours"], c["torch"], *seeds]
    low, high = (pick(pick(line) for line in lines) for pick in (min, max))
    low = low if log else min(low, 0.0)
    high = high if high > low else low + 1
    scale = math.log10 if log else float
    x = lambda s: left + WIDTH * (s - step[0]) / max(step[-1] - step[0], 1)
    y = lambda v: top + HEIGHT * (scale(high) - scale(v)) / (scale(high) - scale(low))
    shown = sorted({*range(0, len(step), math.ceil(len(step) / POINTS_MAX)), len(step) - 1})
    points = lambda line, order=shown: " ".join(f"{x(step[i]):.1f},{y(line[i]):.1f}" for i in order)
    difference = 100 * statistics.median(abs(u - v) / abs(v) for u, v in zip(c["ours"], c["torch"]))
    note = f"median difference {difference:.2g} %"
    out = []
    for v in (log_ticks if log else ticks)(low, high):
        out.append(f'<path class="g" d="M{left} {y(v):.1f}h{WIDTH}"/><text class="e" x="{left - 8}" y="{y(v) + 4:.1f}">{v:g}</text>')
    for s in ticks(step[0], step[-1]):
        out.append(f'<path class="a" d="M{x(s):.1f} {top + HEIGHT}v5"/><text class="m" x="{x(s):.1f}" y="{top + HEIGHT + 19}">{s:g}</text>')
    out.append(f'<path class="a" d="M{left} {top}v{HEIGHT}h{WIDTH}"/>')
    out.append(f'<text class="m" x="{left + WIDTH / 2}" y="{top + HEIGHT + 36}">step</text>')
    if len(seeds) > 1:
        at = list(zip(*seeds))
        lowest, highest = [min(v) for v in at], [max(v) for v in at]
        out.append(f'<polygon class="s" points="{points(highest)} {points(lowest, shown[::-1])}"/>')
        between = 100 * statistics.median((h - l) / statistics.mean(v) for h, l, v in zip(highest, lowest, at))
        note += f", between seeds {between:.2g} %"
    out.append(f'<text class="n" x="{left}" y="{top - 12}">{c["model"]}, {c["precision"]}</text>')
    out.append(f'<text class="e" x="{left + WIDTH}" y="{top + 14}">{note}</text>')
    out += [f'<polyline class="o" points="{points(c["ours"])}"/>', f'<polyline class="t" points="{points(c["torch"])}"/>']
    return out


def legend(n_seeds):
    line = '<polyline class="{}" points="{{0}},24 {{1}},24"/>'
    entries = [(line.format("o"), "dtrain"), (line.format("t"), "PyTorch, same weights")]
    if n_seeds > 1:
        entries.append(('<polygon class="s" points="{0},17 {1},17 {1},31 {0},31"/>', f"PyTorch, {n_seeds} seeds of its own"))
    x = LEFT
    for mark, text in entries:
        yield mark.format(x, x + 34) + f'<text x="{x + 42}" y="28">{text}</text>'
        x += 70 + 7 * len(text)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("files", nargs="+", type=pathlib.Path)
    ap.add_argument("--out", required=True, type=pathlib.Path)
    ap.add_argument("--columns", type=int, default=2)
    ap.add_argument("--log", action="store_true")
    a = ap.parse_args()
    curves = [json.loads(f.read_text()) for f in a.files]
    columns = min(a.columns, len(curves))
    rows = math.ceil(len(curves) / columns)
    width = LEFT + columns * WIDTH + (columns - 1) * GAP_X + 30
    height = TOP + rows * HEIGHT + (rows - 1) * GAP_Y + 50
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
           f"<style>\n{STYLE}\n</style>", f'<rect class="b" width="{width}" height="{height}"/>',
           *legend(max(len(c["seeds"]) for c in curves))]
    for i, c in enumerate(curves):
        out += panel(c, LEFT + i % columns * (WIDTH + GAP_X), TOP + i // columns * (HEIGHT + GAP_Y), a.log)
    a.out.write_text("\n".join(out) + "\n</svg>\n")


if __name__ == "__main__":
    main()
