"""Twice the input takes twice the work, whatever its shape: nobody can make it the square.

A quadratic way takes four times as long. What is measured is processor time, which a busy machine
changes little, and of some tries the best one counts.
"""

import asyncio
import gc
import gzip
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from aggregator.api.publish import Preferences, settled_response
from aggregator.api.request import strict_json
from aggregator.api.request.body import Inflater
from aggregator.api.request.decoder import Decoder, RequestContext
from aggregator.api.request.splitting import Lines
from aggregator.core import json_pointer, json_values, timestamp
from aggregator.core.identity import KeySpec
from aggregator.core.policy import Policies, TopicPolicy
from aggregator.errors import RequestError
from aggregator.event import Submission
from aggregator.outcome import Invalid
from aggregator_stages.validate import Validate

_MOST = 3.0  # the square is 4; where memory is touched first, the host takes time for each page
_TRIES = 32
_LEAST = 0.01  # seconds that can be measured well: until then the input is doubled
_LARGEST = 4_000_000  # bytes; what takes less time even so has no need to be measured

_CONTEXT = RequestContext("0", 0)
_USUAL = Decoder(10**9, 10**9, Policies(TopicPolicy.of("topic,event_id", "keep-first")))
_BY_POINTER = Decoder(10**9, 10**9, Policies(TopicPolicy.of("topic,/a", "keep-first")))

Work = Callable[[bytes], object]


def _received(decoder: Decoder, decode: Callable[..., list]) -> Work:  # type: ignore[type-arg]
    """Decodes, validates, and makes the answer for what is wrong."""

    def receive(body: bytes) -> None:
        with suppress(RequestError):
            events = decode(decoder, body, _CONTEXT)
            asyncio.run(Validate().process([event for event in events if event.outcome is None]))
            refused = [event for event in events if isinstance(event.outcome, Invalid)]
            settled_response(Submission("0", refused))

    return receive


def _inflated(body: bytes) -> None:
    for _ in Inflater("gzip").feed(body):
        pass


def _in_tiny_chunks(body: bytes) -> None:
    lines = Lines(10**9)
    for start in range(0, len(body), 7):
        lines.feed(body[start : start + 7])
    lines.finish()


def _scalar(body: bytes) -> None:
    json_values.scalar(body, ("a",))


def _as_text(read: Callable[[str], object]) -> Work:
    def run(body: bytes) -> None:
        with suppress(ValueError):
            read(body.decode())

    return run


def _pointed(text: str) -> None:
    json_pointer.parse(text)
    json_pointer.to(text)


def _compared(body: bytes) -> None:
    json_values.JsonValue(body).differences(json_values.JsonValue(body + b" "), 10)


WORK: dict[str, Work] = {
    "JSON": _received(_USUAL, Decoder.json),
    "NDJSON": _received(_USUAL, Decoder.ndjson),
    "CloudEvent": _received(_USUAL, Decoder.cloud_event),
    "CloudEvents": _received(_USUAL, Decoder.cloud_batch),
    "key by a pointer": _received(_BY_POINTER, Decoder.json),
    "faults": strict_json.faults,
    "lines in tiny chunks": _in_tiny_chunks,
    "scalar": _scalar,
    "times": _as_text(timestamp.try_parse),
    "times of RFC 3339": _as_text(timestamp.is_rfc_3339),
    "pointers": _as_text(_pointed),
    "key specs": _as_text(KeySpec),
    "preferences": _as_text(lambda text: Preferences.of([text])),
    "many preferences": _as_text(lambda text: Preferences.of(text.split(" "))),
    "inflated": _inflated,
    "compared": _compared,
}

_BEGUN = b'{"topic":"t","event_id":"1","timestamp":"2026-01-31T12:00:00Z","source":"s","payload":'
_CLOUD = b'{"specversion":"1.0","type":"t","id":"1","source":"s","data":'
_GOOD = _BEGUN + b"{}}"


def _event(before: bytes, part: bytes, after: bytes = b"") -> Callable[[int], bytes]:
    return lambda count: _BEGUN + before + part * count + after + b"}"


def _cloud(before: bytes, part: bytes, after: bytes = b"") -> Callable[[int], bytes]:
    return lambda count: _CLOUD + before + part * count + after + b"}"


def _in_array(part: bytes, between: bytes = b",") -> Callable[[int], bytes]:
    return lambda count: b"[" + between.join([part] * count) + b"]"


def _numbered(begun: bytes, member: bytes, after: bytes) -> Callable[[int], bytes]:
    return lambda count: begun + b"".join(member % number for number in range(count)) + after


_PAIR = b"\\ud83d\\ude00"
_A, _DOUBT = b'{"a":', b'{"a":["\\u0000"'
SHAPES: dict[str, tuple[tuple[str, ...], Callable[[int], bytes]]] = {
    "gzip members that are empty": (("inflated",), lambda n: gzip.compress(b"") * n),
    "gzip members": (("inflated",), lambda n: gzip.compress(b"ab") * n),
    "gzip bomb": (("inflated",), lambda n: gzip.compress(bytes(1000 * n), 1)),
    "objects": (("JSON", "NDJSON", "key by a pointer"), _event(_DOUBT, b",{}", b"]}")),
    "objects of a CloudEvent": (("CloudEvent",), _cloud(_DOUBT, b",{}", b"]}")),
    "nested": (("JSON", "NDJSON", "faults"), _event(_A, b"[", b"}")),
    "nested and closed": (("JSON",), lambda n: _BEGUN + _A + b"[" * n + b"]" * n + b"}}"),
    "nested anew": (("JSON",), _event(_DOUBT, b"," + b"[" * 90 + b"]" * 90, b"]}")),
    "brackets that never close": (("JSON", "CloudEvents", "NDJSON"), lambda n: b"[{" * n),
    "array of empty arrays": (("JSON", "CloudEvents"), lambda n: b"[" + b"[]," * n + b"[]]"),
    "array of ones": (("JSON", "CloudEvents"), lambda n: b"[" + b"1," * n + b"1]"),
    "ones and blanks": (("JSON", "CloudEvents"), _in_array(b"1", b" , \n ")),
    "array of one event": (("JSON",), _in_array(_GOOD)),
    "array of an event with a fault": (("JSON",), _in_array(_BEGUN + b'{"a":"\\u0000"}}')),
    "array of what lacks all": (("JSON", "CloudEvents"), _in_array(b'{"a":{}}')),
    "array of what is unreadable": (("JSON", "CloudEvents"), _in_array(b'{"a":nope}')),
    "array of CloudEvents": (("JSON", "CloudEvents"), _in_array(_CLOUD + b'{"a":1}}')),
    "lines": (("NDJSON", "lines in tiny chunks"), lambda n: (_GOOD + b"\n") * n),
    "bad lines": (("NDJSON",), lambda n: b"nope\n" * n),
    "blank lines": (("NDJSON", "lines in tiny chunks"), lambda n: b" \n" * n),
    "one long line": (("lines in tiny chunks", "NDJSON"), lambda n: b'{"a":"' + b"x" * n),
    "line of blanks": (("lines in tiny chunks", "NDJSON"), lambda n: b" " * n),
    "blanks": (("JSON", "faults"), lambda n: b" " * n),
    "blanks inside": (("JSON", "faults"), _event(_A, b" \n", b"1 1}")),
    "string": (("JSON", "faults"), _event(_DOUBT + b',"', b"x", b'"]}')),
    "string of escapes": (("JSON", "faults"), _event(_A + b'"', b"\\n", b'\\u0000"}')),
    "string of backslashes": (("JSON", "faults"), _event(_A + b'"', b"\\", b'"}')),
    "string of quotes that never ends": (("JSON", "NDJSON"), lambda n: b'{"a":"' + b'"\\' * n),
    "string of surrogates": (("JSON", "faults"), _event(_A + b'"', _PAIR, b'\\ud800"}')),
    "halves of surrogates": (("JSON", "faults"), _event(_A + b'"', b"\\ud83d", b'"}')),
    "strings of halves": (("JSON", "faults"), _event(_A + b"[", b'"\\ud83d",', b"1]}")),
    "strings": (("JSON", "faults"), _event(_DOUBT, b',"\\u0061"', b"]}")),
    "digits": (("JSON", "faults", "key by a pointer", "scalar"), _event(_A, b"1", b"}")),
    "digits of a fraction": (("JSON", "key by a pointer"), _event(_A + b"0.", b"1", b"}")),
    "digits of an exponent": (("JSON", "faults"), _event(_A + b"1e", b"1", b"}")),
    "digits of a small exponent": (("JSON", "key by a pointer"), _event(_A + b"1e-", b"1", b"}")),
    "exponents": (("JSON", "faults"), _event(_A + b"[", b"1e-100,", b"1]}")),
    "numbers too large": (("JSON", "faults"), _event(_A + b"[", b"1e999,", b"1]}")),
    "hashes": (("JSON",), _event(_A + b'["', b'a1e123","', b'"]}')),
    "NaN": (("JSON", "faults"), _event(_A + b"[", b"NaN,", b"1]}")),
    "members": (("JSON",), _numbered(_BEGUN + _DOUBT + b"],", b'"%d":1,', b'"x":1}}')),
    "unknown members": (("JSON", "faults"), _numbered(_BEGUN + b"{}", b',"%d":1', b"}")),
    "attributes": (("CloudEvent",), _numbered(_CLOUD + b"1", b',"a%d":1', b"}")),
    "attributes that are none": (("CloudEvent",), _numbered(_CLOUD + b"1", b',"A%d":[]', b"}")),
    "a member again and again": (
        ("JSON", "faults"),
        lambda n: _GOOD[:-1] + b',"topic":"t"' * n + b"}",
    ),
    "a name again and again": (("JSON", "faults"), _event(_DOUBT + b"],", b'"a":1,', b'"a":2}')),
    "members that stand twice": (
        ("JSON", "faults"),
        lambda n: b"{" + b",".join(b'"%d":1,"%d":2' % (k, k) for k in range(n)) + b"}",
    ),
    "a long name before faults": (
        ("JSON", "faults"),
        lambda n: _BEGUN + b'{"' + b"n" * n + b'":[' + b'"\\u0000",' * (n // 9) + b"1]}}",
    ),
    "base64": (("CloudEvent",), lambda n: _CLOUD[:-7] + b'"data_base64":"' + b"QUJD" * n + b'"}'),
    "pointers": (("pointers", "key specs"), lambda n: b"/a" * n),
    "pointers of tildes": (("pointers", "key specs"), lambda n: b"/" + b"~0" * n),
    "parts of a key": (("key specs",), _numbered(b"topic", b",/%d", b"")),
    "fraction of a second": (
        ("times", "times of RFC 3339"),
        lambda n: b"2026-01-31T12:00:00." + b"0" * n + b"Z",
    ),
    "preferences": (("preferences", "many preferences"), lambda n: b'a="b" ' * n),
    "preferences without end": (("preferences",), lambda n: b'a=",' * n),
    "object": (("scalar", "compared"), _numbered(b"{", b'"%d":{"a":1},', b'"a":1}')),
    "one level after another": (("scalar", "compared"), lambda n: b'{"a":[' + b"[]," * n + b"1]}"),
}  # fmt: skip

CASES = [
    pytest.param(WORK[work], make, id=f"{shape}, {work}")
    for shape, (works, make) in SHAPES.items()
    for work in works
]


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _seconds(work: Work, body: bytes) -> float:
    began = time.process_time()
    work(body)
    return time.process_time() - began


def _growth(work: Work, make: Callable[[int], bytes]) -> float:
    """How much longer twice the input takes; 0 where even the largest takes no time.

    It is doubled twice: caches make one step dearer than the other.
    """
    count = 500
    while (least := _seconds(work, make(count))) < _LEAST:
        if len(make(count)) > _LARGEST:
            return 0.0
        count *= 2
    body, larger = make(count), make(4 * count)
    most = _seconds(work, larger)
    for _ in range(_TRIES):
        if most <= _MOST**2 * least:
            break
        least, most = min(least, _seconds(work, body)), min(most, _seconds(work, larger))
    return math.sqrt(most / least)


@pytest.mark.parametrize(("work", "make"), CASES)
def test_twice_the_input_takes_twice_the_work(work: Work, make: Callable[[int], bytes]) -> None:
    with _without_garbage_collection():
        assert _growth(work, make) <= _MOST


def test_what_takes_the_square_is_found_out() -> None:
    def square(body: bytes) -> None:
        while body:
            body = body[100:]

    assert _growth(square, lambda count: b"x" * (100 * count)) > _MOST
