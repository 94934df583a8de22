"""Events that are not taken: each as it is spelled, where its fault is, and words that say so."""

from typing import NamedTuple

from bodies import spelled


class Bad(NamedTuple):
    """An event with one fault."""

    raw: bytes
    pointer: str
    detail: str


def _payload(spelling: bytes, pointer: str, detail: str) -> Bad:
    return Bad(spelled(payload=spelling), pointer, detail)


UNREADABLE = {
    "not JSON": _payload(b'{"a": nope}', "", "not JSON"),
    "not JSON at all": Bad(b"hello", "", "not JSON"),
    "comma too many": _payload(b'{"a": 1,}', "", "not JSON"),
    "leading zero": _payload(b'{"a": 01}', "", "not JSON"),
    "single quotes": _payload(b"{'a': 1}", "", "not JSON"),
    "unknown escape": _payload(rb'{"a": "\x41"}', "", "not JSON"),
    "control character in a string": _payload(b'{"a": "\x00"}', "", "not JSON"),
    "byte order mark inside": _payload(b"\xef\xbb\xbf{}", "", "not JSON"),
    "two values": Bad(spelled() + b" " + spelled(), "", "not JSON"),
    "invalid UTF-8": _payload(b'{"a": "\xff"}', "", "not UTF-8"),
    "invalid UTF-8 in a name": _payload(b'{"\xff": 1}', "", "not UTF-8"),
    "overlong UTF-8": _payload(b'{"a": "\xc0\xaf"}', "", "not UTF-8"),
    "surrogate as raw bytes": _payload(b'{"a": "\xed\xa0\x80"}', "", "not UTF-8"),
    "10,000 levels of arrays": _payload(
        b'{"a": %s%s}' % (b"[" * 10_000, b"]" * 10_000), "", "nested deeper than 100"
    ),
    "10,000 levels of objects": _payload(
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "", "nested deeper than 100"
    ),
    "101 levels": _payload(b'{"a": %s%s}' % (b"[" * 99, b"]" * 99), "", "nested deeper than 100"),
}
"""What cannot be read as JSON; alone in a request it is a 400."""

UNREPRESENTABLE = {
    "NaN": _payload(b'{"a": [1, NaN]}', "/payload/a/1", "NaN"),
    "Infinity": _payload(b'{"a": Infinity}', "/payload/a", "Infinity"),
    "minus Infinity": _payload(b'{"a": -Infinity}', "/payload/a", "-Infinity"),
    "1e400": _payload(b'{"a": 1e400}', "/payload/a", "1e400"),
    "minus 1e400": _payload(b'{"a": -1e400}', "/payload/a", "-1e400"),
    "high surrogate": _payload(rb'{"a": "\ud800"}', "/payload/a", "surrogate"),
    "low surrogate": _payload(rb'{"a": "\uDC00 x"}', "/payload/a", "surrogate"),
    "surrogates in the wrong order": _payload(rb'{"a": "\ude00\ud83d"}', "/payload/a", "surrogate"),
    "surrogate in a name": _payload(rb'{"a": {"\ud800": 1}}', "/payload/a", "surrogate"),
    "surrogate in the topic": Bad(spelled(topic=rb'"\ud800"'), "/topic", "surrogate"),
    "U+0000": _payload(rb'{"a": "x\u0000"}', "/payload/a", "U+0000"),
    "U+0000 after a backslash": _payload(rb'{"a": "\\\u0000"}', "/payload/a", "U+0000"),
    "U+0000 in a name": _payload(rb'{"a/b": {"\u0000": 1}}', "/payload/a~1b", "U+0000"),
    "U+0000 in the id": Bad(spelled(event_id=rb'"\u0000"'), "/event_id", "U+0000"),
}
"""JSON by its grammar, which holds what not every reader can hold."""

_TIMES = (
    "2026-01-31T12:00:00",
    "2026-01-31",
    "2026-02-30T12:00:00Z",
    "2026-01-31T25:00:00Z",
    "2026-01-31T12:00:00+99:00",
    "2026-01-31_12:00:00Z",
    "2026-01-31T12:00:00Z\\n",
    "yesterday",
    "",
    "1769860800",
    "2026-01-31T12:00:00." + "0" * 10_000 + "Z",
)
_NAMES = {
    "of 10,000 characters": ("x" * 10_000, "Length must be"),
    "of no character": ("", "Length must be"),
    "with a line break": ("a\\nb", "line break"),
    "with a line break at the end": ("a\\n", "line break"),
    "with a carriage return": ("a\\rb", "line break"),
    "with U+2028": ("a\u2028b", "line break"),
    "with U+0085": ("a\\u0085b", "control character"),
    "with a tab": ("a\\tb", "control character"),
}
_WRONG_TYPES = {
    "topic": ("1", "null", "[]"),
    "event_id": ("7", "true"),
    "timestamp": ("1769860800", "{}"),
    "source": ("1.5", '["a"]'),
    "payload": ("[]", '"text"', "null", "1"),
}

BREACHES = {
    **{
        f"{name} {what}": Bad(spelled(**{name: f'"{text}"'}), f"/{name}", said)
        for name in ("topic", "event_id", "source")
        for what, (text, said) in _NAMES.items()
    },
    **{
        f"time {text[:40]!r}": Bad(spelled(timestamp=f'"{text}"'), "/timestamp", "")
        for text in _TIMES
    },
    **{
        f"{name} is {spelling}": Bad(
            spelled(**{name: spelling}), f"/{name}", "Should be a string|Should be a JSON object"
        )
        for name, spellings in _WRONG_TYPES.items()
        for spelling in spellings
    },
    **{f"no {name}": Bad(spelled(**{name: None}), f"/{name}", "Missing") for name in _WRONG_TYPES},
    "unknown member": Bad(spelled(colour='"red"'), "/colour", "Unknown"),
    "unknown member with a slash": Bad(spelled(**{"a/b~": "1"}), "/a~1b~0", "Unknown"),
    **{
        f"no object but {text}": Bad(text.encode(), "", "Should be a JSON object")
        for text in ("1", '"text"', "null", "true")
    },
}
"""JSON, but no event."""

BAD = {**UNREADABLE, **UNREPRESENTABLE, **BREACHES}
