"""Draws the rates of everybody as bars, this service's in the colour of its own."""

from collections.abc import Iterator

from loadgen.bench.contestant import GROUPS
from loadgen.bench.drawing import WIDTH, page, text
from loadgen.bench.results import Contest, Results

LEFT, RIGHT, TOP = 392, 84, 44
BAR, ROW, HEAD = 14, 24, 30


def bars(results: Results) -> str:
    shown = [contest for contest in results.contests if contest.rate]
    longest = max((contest.rate or 0 for contest in shown), default=1)
    parts: list[str] = []
    y = float(TOP)
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
    scale = (WIDTH - LEFT - RIGHT) / max(longest, contest.spread[1])
    low, high = (LEFT + scale * rate for rate in contest.spread)
    width = scale * contest.rate
    yield text(LEFT - 10, y + 12, contest.title, "end")
    yield (
        f'<rect class="{contest.group}" x="{LEFT}" y="{y + 1:.1f}" width="{width:.1f}" '
        f'height="{BAR}" rx="2"/>'
    )
    middle = y + 1 + BAR / 2
    ends = f'x1="{low:.1f}" x2="{high:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"'
    yield f'<line class="spread" {ends}/>'
    yield text(max(high, LEFT + width) + 8, y + 12, f"{contest.rate:,.0f}", "quiet")
