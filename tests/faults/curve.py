"""Draws what was measured over time as an SVG, readable on a light page and on a dark one."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import NamedTuple

WIDTH = 760
PANEL = 150
GAP = 58
LEFT, RIGHT, TOP, BOTTOM = 68, 20, 64, 48

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 }
.name { font-weight: 600 }
.quiet { fill: #57606a }
.end { text-anchor: end }
.middle { text-anchor: middle }
.page { fill: #ffffff }
.span { fill: #fff1c2 }
.grid { stroke: #d8dee4 }
.bound { stroke: #57606a; stroke-dasharray: 5 4 }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round }
.a { stroke: #0969da } .b { stroke: #cf222e }
text.a { fill: #0969da; stroke: none } text.b { fill: #cf222e; stroke: none }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .quiet { fill: #9198a1 } .page { fill: #0d1117 } .span { fill: #3a2f10 }
.grid { stroke: #30363d } .bound { stroke: #9198a1 }
.a { stroke: #58a6ff } .b { stroke: #ff7b72 } text.a { fill: #58a6ff } text.b { fill: #ff7b72 }
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
        return _round_up(highest * 1.1)


def draw(
    title: str, times: Sequence[float], panels: Sequence[Panel], span: tuple[float, float, str]
) -> str:
    """The chart; between the two times of the span something was different, and it says what."""
    height = TOP + len(panels) * (PANEL + GAP) - GAP + BOTTOM
    chart = _Chart(times, span)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        _text(LEFT, 24, title, "title"),
    ]
    for number, panel in enumerate(panels):
        parts += chart.panel(panel, TOP + number * (PANEL + GAP))
    parts += chart.seconds(height - BOTTOM)
    return "\n".join([*parts, "</svg>"]) + "\n"


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
        yield _text(left + 6, y + 16, label, "quiet")
        yield _text(LEFT, y - 10, panel.name, "name")
        yield from self._legend(panel, y - 10)
        for part in range(5):
            value = panel.top * part / 4
            height = y + PANEL * (1 - part / 4)
            yield _rule("grid", height)
            yield _text(LEFT - 8, height + 4, f"{value:,.0f}", "quiet end")
        if panel.bound is not None:
            height = y + PANEL * (1 - panel.bound / panel.top)
            yield _rule("bound", height)
            yield _text(WIDTH - RIGHT - 4, height - 5, panel.bound_label, "quiet end")
        for colour, line in zip("ab", panel.lines, strict=False):
            points = " ".join(
                f"{self._x(time):.1f},{y + PANEL * (1 - value / panel.top):.1f}"
                for time, value in zip(self._times, line.values, strict=True)
            )
            yield f'<polyline class="line {colour}" points="{points}"/>'

    def seconds(self, y: float) -> Iterator[str]:
        """The axis that all panels share."""
        step = _round_up(self._end / 8)
        for number in range(int(self._end / step) + 1):
            yield _text(self._x(number * step), y + 18, f"{number * step:,.0f}", "quiet middle")
        yield _text((LEFT + WIDTH - RIGHT) / 2, y + 38, "time in seconds", "quiet middle")

    def _x(self, time: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * time / self._end

    def _legend(self, panel: Panel, y: float) -> Iterable[str]:
        right = WIDTH - RIGHT
        for colour, line in reversed(list(zip("ab", panel.lines, strict=False))):
            yield _text(right, y, line.label, f"end {colour}")
            right -= 7 * len(line.label) + 20


def _rule(kind: str, y: float) -> str:
    return f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def _round_up(value: float) -> float:
    """The next of 1, 2, 4 or 8 times a power of ten: a quarter of it is a round number too."""
    power: float = 10 ** len(str(int(value))) / 10
    return next(step * power for step in (1, 2, 4, 8, 10, 20) if step * power >= value)
