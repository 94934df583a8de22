"""CloudEvents as they may be sent, most of them good ones, and what they say by a plain reading."""

import base64
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from hypothesis import strategies as st

from aggregator.api.request import strict_json
from aggregator.core.identity import PayloadKind
from spellings import values

_TEXTS = [
    b'"a"',
    b'"b c"',
    '"é€😀"'.encode(),
    b'"\\u0061"',
    b'"\\"\\\\"',
    b'"\\ud83d\\ude00"',
    b'""',
]
_ODD = [
    *(b"null", b"1", b"-0", b"1.0", b"true", b"[]", b"{}", b'{"a":"b"}', b"1e400", b"1e0309"),
    *(b'"1e0309"', b'"\\u0000"', b'"\\ud800"', b'"\0"', b'"\xff"', b"nope", b"", b"9" * 400),
    *(b"1" * 5000 + b"e-5000", b"[" * 99 + b"]" * 99, b"[" * 100 + b"]" * 100),
    *(b'"a","id":"1"', b'"a","subject":"a"', b'"a","\\u0069d":"a"', b'"a","topic":"a"'),
]
_NAMES = [
    *(b"a", b"subject", b"datacontenttype", b"topic", b"payload", b"event_id", b"A_b", b""),
    *(
        b"i\\u0064",
        b"a\\u0022b",
        b"c\\u0022d",
        b'e\\"f',
        b"time",
        b"data",
        b"data_base64",
        b"\xc3\xa9",
    ),
]
_TIMES = [b'"2026-01-31T12:00:00Z"', b'"2026-01-31T12:00:00.5+01:00"', b'"soon"', b'""', b"null"]
_REQUIRED = ("specversion", "type", "id", "source")
_BASE64 = [b'"YQ=="', b'"Y\\u0051=="', b'""', b'"YQ"', b'"Y Q=="', b"null", '"é"'.encode(), b"1"]

_texts = st.sampled_from(_TEXTS)
_values = _texts | st.sampled_from(_ODD) | values.map(str.encode)


@st.composite
def cloud_events(draw: st.DrawFn) -> bytes:
    """One CloudEvent; its members are in any order, and some stand twice."""
    members = [(b"specversion", b'"1.0"')]
    members += [(name, draw(_texts)) for name in (b"type", b"id", b"source")]
    if draw(st.booleans()):
        members.append((b"time", draw(st.sampled_from(_TIMES))))
    match draw(st.sampled_from(["data", "data_base64", "nothing"])):
        case "data":
            members.append((b"data", draw(_values)))
        case "data_base64":
            members.append((b"data_base64", draw(st.sampled_from(_BASE64))))
    for _ in range(draw(st.integers(0, 3))):
        value = draw(_texts) if draw(st.integers(0, 3)) else draw(_values)
        members.append((draw(st.sampled_from(_NAMES)), value))
    if draw(st.integers(0, 9)) == 0:
        members.pop(draw(st.integers(0, len(members) - 1)))
    colon, comma = draw(st.sampled_from([(b":", b","), (b" : ", b"\n,\t")]))
    spelled = [b'"%b"%b%b' % (name, colon, value) for name, value in members]
    return b"{" + comma.join(draw(st.just(spelled) | st.permutations(spelled))) + b"}"


class Said(NamedTuple):
    """What a CloudEvent says."""

    topic: str
    event_id: str
    timestamp: str
    source: str
    payload_kind: PayloadKind
    payload: bytes
    attributes: Sequence[tuple[str, bytes]]
    """In their order, each value as it is spelled."""


def said(raw: bytes) -> Said | None:
    """What the event says by the rules, without any haste; None if it is none."""
    if strict_json.faults(raw) or not raw.startswith(b"{"):
        return None
    members = json.loads(raw)
    spelled = spellings_of(raw)
    if any(map(_has_too_many_digits, spelled.values())):
        return None
    there = {name: value for name, value in members.items() if value is not None}
    if not _has_texts(there):
        return None
    kind, payload = PayloadKind.NOTHING, b""
    if "data_base64" in there:
        kind, payload = PayloadKind.BYTES, base64.b64decode(there["data_base64"])
    elif "data" in members:
        kind, payload = PayloadKind.JSON, spelled["data"]
    elsewhere = ("type", "id", "source", "time", "data", "data_base64")
    attributes = [
        (name, text) for name, text in spelled.items() if name in there and name not in elsewhere
    ]
    time = there.get("time", "")
    return Said(there["type"], there["id"], time, there["source"], kind, payload, attributes)


def _has_texts(members: dict[str, Any]) -> bool:
    """Whether what must be text is, and there is one form of data at most."""
    if not all(isinstance(members.get(name), str) for name in _REQUIRED):
        return False
    time = members.get("time", "some")
    if not (isinstance(time, str) and time):
        return False
    if "data_base64" not in members:
        return True
    try:
        base64.b64decode(members["data_base64"], validate=True)
    except (TypeError, ValueError):
        return False
    return "data" not in members


def _has_too_many_digits(spelled: bytes) -> bool:
    """Whether it is a number that msgspec does not read, although a double holds it."""
    try:
        msgspec.json.decode(spelled)
    except msgspec.MsgspecError:
        return True
    return False


def spellings_of(raw: bytes) -> dict[str, bytes]:
    """The members of an object in their order, each as it is spelled."""
    text = raw.decode()
    decoder = json.JSONDecoder()
    found: dict[str, bytes] = {}
    place = _after_blanks(text, text.index("{") + 1)
    while text[place] != "}":
        name, place = decoder.raw_decode(text, place)
        place = _after_blanks(text, text.index(":", place) + 1)
        _, end = decoder.raw_decode(text, place)
        found[name] = text[place:end].encode()
        place = _after_blanks(text, end)
        if text[place] == ",":
            place = _after_blanks(text, place + 1)
    return found


def _after_blanks(text: str, place: int) -> int:
    while text[place] in " \t\r\n":
        place += 1
    return place
