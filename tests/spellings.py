"""JSON as Hypothesis spells it: odd blanks, escapes, digits without end, members in any order."""

import json

from hypothesis import strategies as st

_blank = st.text(" \t\r\n", max_size=2)
_character = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


@st.composite
def _strings(draw: st.DrawFn) -> str:
    """A JSON string, some of its characters escaped."""
    return (
        '"'
        + "".join(map(draw(st.sampled_from([_plain, _escaped])), draw(st.text(_character))))
        + '"'
    )


def _plain(character: str) -> str:
    return json.dumps(character, ensure_ascii=False)[1:-1]


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02X}{units[at + 1]:02x}" for at in range(0, len(units), 2))


_numbers = st.one_of(
    st.integers(min_value=-(10**300), max_value=10**300).map(str),
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?\Z"),
)


@st.composite
def _listed(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    inner = [draw(_blank) + draw(values) + draw(_blank) for _ in range(draw(st.integers(0, 4)))]
    return "[" + (",".join(inner) or draw(_blank)) + "]"


@st.composite
def _objects(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    named: dict[str, str] = {}
    for _ in range(draw(st.integers(0, 4))):
        name = draw(_strings())
        member = draw(_blank) + name + draw(_blank) + ":" + draw(_blank) + draw(values)
        named[json.loads(name)] = member + draw(_blank)
    return "{" + (",".join(named.values()) or draw(_blank)) + "}"


values = st.recursive(
    st.sampled_from(["true", "false", "null"]) | _numbers | _strings(),
    lambda inner: _listed(inner) | _objects(inner),
    max_leaves=15,
)
"""JSON values, as text."""

objects = _objects(values)
"""JSON objects, as text; no name stands twice in one."""
