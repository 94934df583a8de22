"""Pictures in SVG: bars of all rates, and curves of a store that grows; light and dark."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import NamedTuple

from loadgen.bench.contestant import GROUPS
from loadgen.bench.results import Contest, Growth, Results

WIDTH = 760
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 }
.name { font-weight: 600 }
.quiet { fill: #57606a }
.end { text-anchor: end }
.middle { text-anchor: middle }
.page { fill: #ffffff }
.grid { stroke: #d8dee4 }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round }
.spread { stroke: #24292f; stroke-opacity: 0.6 }
.limits { fill: #8c959f } .ours { fill: #0969da } .peers { fill: #bf8700 }
.a { stroke: #0969da } .b { stroke: #8c959f }
text.a { fill: #0969da; stroke: none } text.b { fill: #57606a; stroke: none }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .quiet { fill: #9198a1 } .page { fill: #0d1117 } .grid { stroke: #30363d }
.spread { stroke: #e6edf3 }
.limits { fill: #6e7681 } .ours { fill: #58a6ff } .peers { fill: #d29922 }
.a { stroke: #58a6ff } .b { stroke: #9198a1 } text.a { fill: #58a6ff } text.b { fill: #9198a1 }
}
"""


def page(title: str, height: float, parts: Iterable[str], style: str = "") -> str:
    """The whole picture; `style` is what it needs beyond ours."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
            'role="img">',
            f"<title>{escape(title)}</title><style>{STYLE}{style}</style>",
            f'<rect class="page" width="{WIDTH}" height="{height:.0f}"/>',
            text(20, 26, title, "title"),
            *parts,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def round_up(value: float) -> float:
    """The next of 1, 2, 4 or 8 times a power of ten: a quarter of it is a round number too."""
    power: float = 10 ** len(str(int(value))) / 10
    return next(step * power for step in (1, 2, 4, 8, 10, 20) if step * power >= value)


# The rates of everybody as bars, this service's in the colour of its own.

NAMES, RATES, HEADING = 392, 84, 44
"""Left of the bars, right of them and above."""
BAR, ROW, HEAD = 14, 24, 30


def bars(results: Results) -> str:
    shown = [contest for contest in results.contests if contest.rate]
    longest = max((contest.rate or 0 for contest in shown), default=1)
    parts: list[str] = []
    y = float(HEADING)
    for group, name in GROUPS.items():
        members = [contest for contest in shown if contest.group == group]
        if members:
            parts.append(text(20, y + 18, name, "name"))
            y += HEAD
        for contest in members:
            parts += _bar(contest, y, longest)
            y += ROW
    title = "Events a second (median; the thin line spans all rounds)"
    return page(title, y + 16, parts)


def _bar(contest: Contest, y: float, longest: float) -> Iterator[str]:
    assert contest.rate
    assert contest.spread
    scale = (WIDTH - NAMES - RATES) / max(longest, contest.spread[1])
    low, high = (NAMES + scale * rate for rate in contest.spread)
    width = scale * contest.rate
    yield text(NAMES - 10, y + 12, contest.title, "end")
    yield (
        f'<rect class="{contest.group}" x="{NAMES}" y="{y + 1:.1f}" width="{width:.1f}" '
        f'height="{BAR}" rx="2"/>'
    )
    middle = y + 1 + BAR / 2
    ends = f'x1="{low:.1f}" x2="{high:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"'
    yield f'<line class="spread" {ends}/>'
    yield text(max(high, NAMES + width) + 8, y + 12, f"{contest.rate:,.0f}", "quiet")


# What became of stores while they grew.

LEFT, RIGHT, TOP, BOTTOM = 68, 20, 76, 48
PANEL, GAP = 150, 52

Points = Sequence[tuple[float, float]]


class Panel(NamedTuple):
    """Up to two lines of points over the same axes; each label stands in its line's colour."""

    name: str
    lines: Sequence[tuple[str, Points]]


def curves(growth: Growth) -> str:
    """Rates of both, and this service's latency and memory."""
    rates = [(step.size / 1e6, step.rate) for step in growth.ours]
    beside = [(step.size / 1e6, step.rate) for step in growth.bare]
    times = [(step.size / 1e6, step.paced.latency["p99"]) for step in growth.ours if step.paced]
    memory = [(step.size / 1e6, step.memory / 2**20) for step in growth.ours if step.memory]
    panels = (
        Panel("Events a second", [("this service", rates), ("bare SQLite", beside)]),
        Panel("p99 of an answer at half of that, in ms", [("this service", times)]),
        Panel("Memory of the process, in MiB", [("this service", memory)]),
    )
    drawn = [panel for panel in panels if all(points for _, points in panel.lines)]
    height = TOP + len(drawn) * (PANEL + GAP) - GAP + BOTTOM
    title = "While the store grows: random keys, 100 events a request"
    return page(title, height, _parts(drawn, height))


def _parts(panels: Sequence[Panel], height: float) -> Iterator[str]:
    end = max((x for panel in panels for _, points in panel.lines for x, _ in points), default=1)
    for number, panel in enumerate(panels):
        yield from _panel(panel, TOP + number * (PANEL + GAP), end)
    for part in range(5):
        x = LEFT + (WIDTH - LEFT - RIGHT) * part / 4
        yield text(x, height - BOTTOM + 18, f"{end * part / 4:g}", "quiet middle")
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield text(middle, height - BOTTOM + 38, "million events stored", "quiet middle")


def _panel(panel: Panel, y: float, end: float) -> Iterator[str]:
    top = round_up(max(value for _, points in panel.lines for _, value in points) * 1.1)
    yield text(LEFT, y - 10, panel.name, "name")
    for part in range(5):
        height = y + PANEL * (1 - part / 4)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height}" y2="{height}"/>'
        yield text(LEFT - 8, height + 4, f"{top * part / 4:,.10g}", "quiet end")
    right = float(WIDTH - RIGHT)
    for colour, (label, points) in reversed(list(zip("ab", panel.lines, strict=False))):
        yield text(right, y - 10, label, f"end {colour}")
        right -= 7 * len(label) + 20
        drawn = " ".join(
            f"{LEFT + (WIDTH - LEFT - RIGHT) * x / end:.1f},{y + PANEL * (1 - value / top):.1f}"
            for x, value in points
        )
        yield f'<polyline class="line {colour}" points="{drawn}"/>'
