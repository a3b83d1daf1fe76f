#!/usr/bin/env python3
"""Draws recall@k against queries per second, from measured JSON, as SVG.

    plot.py FILE... [--output docs/img] [--only pennon,hnswlib,faiss]

FILE is what `compare.py --json` or `pennon eval --json` wrote. Each becomes OUTPUT/<name of the data>.svg. The picture has
no background of its own and follows the reader's light or dark mode. Needs nothing but Python.
"""
import argparse, json, math, xml.etree.ElementTree as xml
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 86, 24, 62, 64
# Light and dark mode, and a mark of its own for those who see the colors alike.
LOOKS = {
    "pennon": ("#c2185b", "#ff6fa3", "circle"),
    "pennon-rows": ("#8e5572", "#d7a5bf", "ring"),
    "hnswlib": ("#1565c0", "#6cb2ff", "square"),
    "faiss": ("#2e7d32", "#74cf7a", "triangle"),
    "usearch": ("#b26a00", "#f4b350", "diamond"),
    "faiss-sq8": ("#00695c", "#5fd0c3", "down"),
    "symqg": ("#5e35b1", "#b39dff", "cross"),
}
NAMES = {"pennon-rows": "Pennon without codes", "pennon": "Pennon", "faiss-sq8": "faiss SQ8", "symqg": "SymphonyQG"}


def read(path):
    """Name, subtitle, k, and for each library its points: recall, queries per second, ef."""
    found = json.loads(Path(path).read_text())
    if "results" in found:  # pennon eval
        points = [(row["recall"], row["queries_per_second"], row["ef"]) for row in found["results"]]
        params = found["params"]
        graph = f"m {params['m']}, ef_construction {params['ef_construction']}" if params else "no graph"
        threads = f"{found['threads']} thread" + ("s" if found["threads"] > 1 else "")
        subtitle = f"{found['indexed']:,} x {found['dimension']}, {found['metric']}; {graph}; {threads}"
        return Path(found["path"]).name, subtitle, found["k"], {"pennon": points}
    curves = {
        name: [(recall, found["qps"][name][ef], int(ef)) for ef, recall in by_ef.items()]
        for name, by_ef in found["recall"].items()
    }
    subtitle = f"m {found['m']}, ef_construction {found['ef_construction']}; one query thread; {found['machine']}, {found['date']}"
    return found["data"], subtitle, found.get("k", 10), curves


def mark(shape, x, y, title):
    r = 4.2
    shapes = {
        "circle": f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}"',
        "ring": f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" class="open"',
        "square": f'<rect x="{x - r + .5:.1f}" y="{y - r + .5:.1f}" width="{2 * r - 1}" height="{2 * r - 1}"',
        "triangle": f'<path d="M{x:.1f} {y - r - .6:.1f}l{r + .6} {2 * r}h{-2 * r - 1.2}z"',
        "down": f'<path d="M{x:.1f} {y + r + .6:.1f}l{r + .6} {-2 * r}h{-2 * r - 1.2}z"',
        "diamond": f'<path d="M{x:.1f} {y - r - 1:.1f}l{r + 1} {r + 1}l{-r - 1} {r + 1}l{-r - 1} {-r - 1}z"',
        "cross": f'<path d="M{x - r:.1f} {y - r:.1f}l{2 * r} {2 * r}m0 {-2 * r}l{-2 * r} {2 * r}" class="open"',
    }
    return f"{shapes[shape]}><title>{escape(title)}</title></{shapes[shape][1:].split()[0]}>"


def decades(low, high):
    """1, 2 and 5 times each power of ten in a range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [digit * 10**power for power in powers for digit in (1, 2, 5) if low <= digit * 10**power <= high]


def steps(low, high):
    """Round recalls in a range, five to nine of them."""
    step = next(step for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / step <= 8)
    return [round(at * step, 4) for at in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def draw(name, subtitle, k, curves):
    points = [point for curve in curves.values() for point in curve]
    best = max(recall for recall, _, _ in points)
    low = max(min(recall for recall, _, _ in points), min(0.8, best - 0.05))
    low, high = low - (1 - low) * 0.04, min(1.0, best + (best - low) * 0.04)
    shown = {name: sorted(point for point in curve if point[0] >= low) for name, curve in curves.items()}
    speeds = [speed for curve in shown.values() for _, speed, _ in curve]
    slow, fast = min(speeds) / 1.25, max(speeds) * 1.25
    x = lambda recall: LEFT + (recall - low) / (high - low) * (WIDTH - LEFT - RIGHT)
    y = lambda speed: HEIGHT - BOTTOM - math.log(speed / slow) / math.log(fast / slow) * (HEIGHT - TOP - BOTTOM)

    looks = {name: LOOKS.get(name, ("#555", "#bbb", "circle")) for name in shown}
    style = ["text{font:13px system-ui,sans-serif;fill:#222}.small{font-size:12px;fill:#555}.title{font-size:17px;font-weight:600}",
             ".grid{stroke:#8884;stroke-width:1}.frame{fill:none;stroke:#888}.line{fill:none;stroke-width:2}.pennon .line{stroke-width:3}",
             ".open{fill:none;stroke-width:1.8}"]
    colored = lambda name, color: f".{name}{{fill:{color}}}.{name} .line,.{name} .open{{stroke:{color}}}"
    style += [colored(name, light) for name, (light, _, _) in looks.items()]
    dark = [colored(name, dark) for name, (_, dark, _) in looks.items()]
    style.append("@media(prefers-color-scheme:dark){text{fill:#e6e6e6}.small{fill:#b0b0b0}" + "".join(dark) + "}")
    title = f"{name}: recall@{k} against queries per second"
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
           f"<style>{''.join(style)}</style>",
           f'<text class="title" x="{LEFT}" y="24">{escape(name)}</text>',
           f'<text class="small" x="{LEFT}" y="44">{escape(subtitle)}; up and to the right is better</text>']
    for recall in steps(low, high):
        out.append(f'<path class="grid" d="M{x(recall):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        out.append(f'<text class="small" text-anchor="middle" x="{x(recall):.1f}" y="{HEIGHT - BOTTOM + 19}">{recall:g}</text>')
    for speed in decades(slow, fast):
        out.append(f'<path class="grid" d="M{LEFT} {y(speed):.1f}H{WIDTH - RIGHT}"/>')
        out.append(f'<text class="small" text-anchor="end" x="{LEFT - 8}" y="{y(speed) + 4:.1f}">{speed:,g}</text>')
    out.append(f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}"/>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(f'<text text-anchor="middle" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 18}">recall@{k}</text>')
    out.append(f'<text text-anchor="middle" transform="translate(22 {middle}) rotate(-90)">queries per second (log scale)</text>')
    # Pennon last, on top of the others.
    for name in sorted(shown, key=lambda name: name.startswith("pennon")):
        line = " ".join(f"{x(recall):.1f},{y(speed):.1f}" for recall, speed, _ in shown[name])
        out.append(f'<g class="curve {name}"><polyline class="line" points="{line}"/>')
        for recall, speed, ef in shown[name]:
            about = f"{NAMES.get(name, name)}, ef {ef}: recall {recall:.4f}, {speed:,.0f} queries/s"
            out.append(mark(looks[name][2], x(recall), y(speed), about))
        out.append("</g>")
    for row, name in enumerate(shown):
        at = HEIGHT - BOTTOM - 18 - 20 * (len(shown) - 1 - row)
        out.append(f'<g class="curve {name}"><path class="line" d="M{LEFT + 14} {at}h30"/>')
        out.append(f'{mark(looks[name][2], LEFT + 29, at, name)}</g>')
        out.append(f'<text x="{LEFT + 52}" y="{at + 4.5}">{escape(NAMES.get(name, name))}</text>')
    out.append("</svg>\n")
    for curve in shown.values():
        assert all(LEFT <= x(r) <= WIDTH - RIGHT and TOP <= y(s) <= HEIGHT - BOTTOM for r, s, _ in curve), "a point is outside"
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "docs" / "img")
    parser.add_argument("--only", help="the libraries to draw, with commas between them")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for file in arguments.files:
        name, subtitle, k, curves = read(file)
        if arguments.only:
            curves = {library: curves[library] for library in arguments.only.split(",")}
        svg = draw(name, subtitle, k, curves)
        xml.fromstring(svg)
        path = arguments.output / f"{name}.svg"
        path.write_text(svg)
        print(path)


if __name__ == "__main__":
    main()
