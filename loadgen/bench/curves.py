"""Draws what became of two stores while they grew."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from loadgen.bench.drawing import WIDTH, page, round_up, text
from loadgen.bench.results import Growth

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
