"""Whatever bytes stand in a head, the answer is no fault of the service, and no traceback is."""

import asyncio
import logging

import pytest
from bodies import PROBLEM, good
from wire import exchange

from conftest import Client

# Not text in UTF-8; half a surrogate pair; a pair beyond the first plane; long; escaped; digits
# that are not ASCII; what ends a line elsewhere; quotes and lists that do not end.
VALUES = (
    *(
        b"\xff",
        b"a\xffb",
        b'"\xff"',
        b"\x80\x81",
        b"\xc2\x85",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x92\xa9",
    ),
    *(b"\xff" * 8000, b"x" * 8000, b"9" * 8000, b"\xd9\xa1", b"\xe2\x80\xa8", b"a\tb", b"\\udcff"),
    *(b"a\x00b", b"a\x1fb", b"\x7f", b"", b",", b";", b'"', b'a="', b"%", b"%ff", b"%00"),
    *(b"%ED%A0%80", b"=?utf-8?q?=ff?=", b"utf-8''%ff", b"*", b"-1", b"1e99999"),
)
HEADERS = (
    *(b"Host", b"Origin", b"Sec-Fetch-Site", b"X-Forwarded-Host", b"Expect", b"Connection"),
    *(b"Accept", b"Accept-Encoding", b"If-None-Match", b"Last-Event-ID", b"Range", b"Prefer"),
    *(b"Content-Type", b"Content-Encoding", b"Content-Length", b"Transfer-Encoding", b"Upgrade"),
    *(b"Content-Disposition", b"If-Modified-Since", b"Cookie", b"Authorization", b"X-Key"),
    *(b"Access-Control-Request-Method", b"Access-Control-Request-Headers"),
    *(b"ce-id", b"ce-source", b"ce-type", b"ce-specversion", b"ce-time", b"ce-dataschema", b"ce-x"),
)
CALLS = (
    *(b"POST /publish", b"PUT /publish", b"OPTIONS /publish", b"POST /nothing", b"GET /nothing"),
    *(b"GET /events", b"GET /events/a/b", b"GET /openapi.json", b"GET /docs", b"GET /healthz"),
    *(b"GET /quarantine/1", b"DELETE /quarantine/1", b"POST /quarantine/1/release"),
)
CLOUD_EVENT = {b"ce-id": b"1", b"ce-source": b"/a", b"ce-type": b"a", b"ce-specversion": b"1.0"}


def _head(call: bytes, header: bytes, value: bytes, length: int) -> bytes:
    lines = {b"Host": b"localhost", b"Connection": b"close", b"Content-Length": b"%d" % length}
    if header.startswith(b"ce-"):
        lines |= CLOUD_EVENT
    if header == b"Transfer-Encoding":
        del lines[b"Content-Length"]
    lines[header] = value
    head = b"".join(b"%b: %b\r\n" % line for line in lines.items())
    return b"%b HTTP/1.1\r\n%b\r\n" % (call, head)


async def _check(client: Client, sent: bytes) -> int:
    answer = await exchange(str(client.host), int(client.port or 0), [sent])
    assert 100 <= answer.status < 500, sent[:300]
    if answer.status >= 400:
        assert answer.content_type == PROBLEM, sent[:300]
    return answer.status


async def _check_all(client: Client, requests: list[bytes], caplog: object) -> None:
    assert isinstance(caplog, pytest.LogCaptureFixture)
    caplog.set_level(logging.DEBUG, "aggregator")
    for start in range(0, len(requests), 20):
        await asyncio.gather(*(_check(client, one) for one in requests[start : start + 20]))
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING or one.exc_info]
    assert all(one.getMessage().isprintable() for one in caplog.records)
    assert await _check(client, _head(b"GET /readyz", b"X-Key", b"", 0)) == 200


@pytest.mark.parametrize("call", CALLS)
async def test_value_of_any_header(
    client: Client, call: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    body = good("1") if call.startswith(b"POST") else b""
    await _check_all(
        client,
        [_head(call, header, value, len(body)) + body for header in HEADERS for value in VALUES],
        caplog,
    )


ARGUMENTS = (
    *(b"topic", b"source", b"since", b"until", b"received_since", b"field", b"equals", b"after"),
    *(b"limit", b"order", b"seq", b"submission", b"reason", b"more", b"\xff", b"%ff", b"%00"),
)
BESIDE = {b"field": b"&equals=1", b"equals": b"&field=/a"}
TIMES = (b"0001-01-01T00:00:00%2B23:59", b"9999-12-31T23:59:59-23:59", b"9223372036854775808")
PATHS = (
    *(b"/events", b"/events/a/b", b"/events/a/b/explain", b"/topics", b"/quarantine"),
    *(b"/quarantine/1", b"/stats", b"/nothing"),
)


@pytest.mark.parametrize("path", PATHS)
async def test_value_of_any_argument(
    client: Client, path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await _check_all(
        client,
        [
            _head(b"GET %b?%b=%b%b" % (path, name, value, BESIDE.get(name, b"")), b"X-Key", b"", 0)
            for name in ARGUMENTS
            for value in (*VALUES, *TIMES)
        ],
        caplog,
    )


TARGETS = (
    *(b"/%b", b"/events/%b/b", b"/events/a/%b", b"/events/a/%b/explain", b"/quarantine/%b"),
    *(b"/docs/%b", b"%b", b"http://%b/events", b"//%b", b"*%b"),
)


@pytest.mark.parametrize("target", TARGETS)
async def test_any_path(client: Client, target: bytes, caplog: pytest.LogCaptureFixture) -> None:
    methods = (b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS", b"CONNECT", b"\xff")
    await _check_all(
        client,
        [
            _head(b"%b %b" % (method, target % value), b"X-Key", b"", 0)
            for method in methods
            for value in VALUES
        ],
        caplog,
    )


@pytest.mark.parametrize("call", [b"POST /publish", b"PUT /publish", b"GET /nothing"])
@pytest.mark.parametrize(
    ("expected", "status"),
    [
        (b"\xff", 417),
        (b"100-continue\xff", 417),
        (b"nothing", 417),
        (b"100-continue, more", 417),
        (b"100-continue\r\nExpect: more", 417),
        (b"", 0),
        (b"100-CONTINUE", 0),
    ],
)
async def test_nothing_but_100_continue_is_expected_wherever_it_is_sent(
    client: Client, call: bytes, expected: bytes, status: int
) -> None:
    usual = await _check(client, _head(call, b"X-Key", b"", 0))
    found = await _check(client, _head(call, b"Expect", expected, 0))
    assert found == (status or (100 if expected else usual))
