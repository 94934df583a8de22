"""Draws what was measured over time as an SVG, readable on a light page and on a dark one."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from loadgen.bench.drawing import WIDTH, page, round_up, text

PANEL = 150
GAP = 58
LEFT, RIGHT, TOP, BOTTOM = 68, 20, 64, 48

STYLE = """
.span { fill: #fff1c2 }
.bound { stroke: #57606a; stroke-dasharray: 5 4 }
.b { stroke: #cf222e } text.b { fill: #cf222e; stroke: none }
@media (prefers-color-scheme: dark) {
.span { fill: #3a2f10 } .bound { stroke: #9198a1 }
.b { stroke: #ff7b72 } text.b { fill: #ff7b72 }
}
"""


class Line(NamedTuple):
    """Values at the times of the chart; the label stands in the line's colour."""

    label: str
    values: Sequence[float]


class Panel(NamedTuple):
    """Up to two lines over the same axis, and the bound that they may reach."""

    name: str
    lines: Sequence[Line]
    bound: float | None = None
    bound_label: str = ""

    @property
    def top(self) -> float:
        """Where the axis ends: a round number."""
        highest = max([self.bound or 0, *(max(line.values) for line in self.lines)])
        return round_up(highest * 1.1)


def draw(
    title: str, times: Sequence[float], panels: Sequence[Panel], span: tuple[float, float, str]
) -> str:
    """The chart; between the two times of the span something was different, and it says what."""
    height = TOP + len(panels) * (PANEL + GAP) - GAP + BOTTOM
    return page(title, height, _parts(_Chart(times, span), panels, height), STYLE)


def _parts(chart: "_Chart", panels: Sequence[Panel], height: float) -> Iterator[str]:
    for number, panel in enumerate(panels):
        yield from chart.panel(panel, TOP + number * (PANEL + GAP))
    yield from chart.seconds(height - BOTTOM)


class _Chart:
    def __init__(self, times: Sequence[float], span: tuple[float, float, str]) -> None:
        self._times = times
        self._end = max(times)
        self._span = span

    def panel(self, panel: Panel, y: float) -> Iterator[str]:
        """One panel whose upper edge is at y."""
        begin, end, label = self._span
        left, width = self._x(begin), self._x(end) - self._x(begin)
        yield f'<rect class="span" x="{left:.1f}" y="{y}" width="{width:.1f}" height="{PANEL}"/>'
        yield text(left + 6, y + 16, label, "quiet")
        yield text(LEFT, y - 10, panel.name, "name")
        yield from self._legend(panel, y - 10)
        for part in range(5):
            value = panel.top * part / 4
            height = y + PANEL * (1 - part / 4)
            yield _rule("grid", height)
            yield text(LEFT - 8, height + 4, f"{value:,.0f}", "quiet end")
        if panel.bound is not None:
            height = y + PANEL * (1 - panel.bound / panel.top)
            yield _rule("bound", height)
            yield text(WIDTH - RIGHT - 4, height - 5, panel.bound_label, "quiet end")
        for colour, line in zip("ab", panel.lines, strict=False):
            points = " ".join(
                f"{self._x(time):.1f},{y + PANEL * (1 - value / panel.top):.1f}"
                for time, value in zip(self._times, line.values, strict=True)
            )
            yield f'<polyline class="line {colour}" points="{points}"/>'

    def seconds(self, y: float) -> Iterator[str]:
        """The axis that all panels share."""
        step = round_up(self._end / 8)
        for number in range(int(self._end / step) + 1):
            yield text(self._x(number * step), y + 18, f"{number * step:,.0f}", "quiet middle")
        yield text((LEFT + WIDTH - RIGHT) / 2, y + 38, "time in seconds", "quiet middle")

    def _x(self, time: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * time / self._end

    def _legend(self, panel: Panel, y: float) -> Iterable[str]:
        right = WIDTH - RIGHT
        for colour, line in reversed(list(zip("ab", panel.lines, strict=False))):
            yield text(right, y, line.label, f"end {colour}")
            right -= 7 * len(line.label) + 20


def _rule(kind: str, y: float) -> str:
    return f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
