"""What our pictures share: a page that is readable when it is light and when it is dark."""

from collections.abc import Iterable
from html import escape

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
