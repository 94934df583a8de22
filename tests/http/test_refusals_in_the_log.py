"""Whoever runs the service finds in its log who is refused, and why; once in a while."""

import logging
from typing import Any

import pytest
from bodies import JSON, good
from wire import PUBLISH, exchange, with_length

from aggregator.api import protocol, refusals
from aggregator.core import fault_log
from aggregator.core.fault_log import Seldom
from conftest import Client, Start


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody has been told anything yet."""
    monkeypatch.setattr(refusals, "_seldom", Seldom())
    caplog.set_level(logging.INFO)


def _told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == refusals.__name__]


REFUSED: dict[int, tuple[dict[str, str], bytes, str]] = {
    400: ({}, b"{", "not JSON"),
    403: ({"Origin": "https://evil.example"}, good("1"), "https://evil.example"),
    413: ({}, b" " * 5_000, "max_body"),
    415: ({"Content-Type": "text/xml"}, b"<a/>", "text/xml"),
    417: ({"Expect": "more"}, good("1"), "more"),
    421: ({"Host": "evil.example"}, good("1"), "evil.example"),
    422: ({}, b"{}", "No event was stored"),
}


@pytest.mark.parametrize(("status", "sent"), REFUSED.items())
async def test_refused_publisher_is_told_of_with_the_reason(
    start: Start,
    caplog: pytest.LogCaptureFixture,
    status: int,
    sent: tuple[dict[str, str], bytes, str],
) -> None:
    client = await start(hosts="", max_event=2_000, max_body=4_000)
    headers, body, words = sent
    for _ in range(50):
        async with client.post(
            "/publish", data=body, headers={"Content-Type": JSON, **headers}
        ) as response:
            assert response.status == status
    (told,) = _told(caplog)
    assert told.startswith(f"127.0.0.1: POST /publish was refused with {status}: ")
    assert words in told


async def test_body_that_does_not_arrive_is_told_of(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(body_timeout=0.1)
    head = PUBLISH + b"Content-Type: application/json\r\n" + with_length(9)
    answer = await exchange(str(client.host), int(client.port or 0), [head, b"{"])
    assert answer.status == 408
    (told,) = _told(caplog)
    assert "with 408: The body did not arrive within 0.1 s (body_timeout)." in told


async def test_client_behind_a_proxy_is_named_and_not_the_proxy(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(proxies="127.0.0.1")
    for address in ("203.0.113.9", "203.0.113.8", "203.0.113.9"):
        headers = {"Content-Type": JSON, "X-Forwarded-For": address}
        async with client.post("/publish", data=b"{", headers=headers) as response:
            assert response.status == 400
    assert [told.partition(":")[0] for told in _told(caplog)] == ["203.0.113.9", "203.0.113.8"]


async def test_heads_that_are_too_slow_or_too_long_are_told_of(
    client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_HEAD_TIMEOUT", 0.1)
    line = b"X: " + b"x" * 5_000 + b"\r\n"
    begun = b"GET /healthz HTTP/1.1\r\n"
    for head, status in ((begun, 408), (begun + 4 * line, 400), (begun + 4 * line, 400)):
        answer = await exchange(str(client.host), int(client.port or 0), [head])
        assert answer.status == status
    assert _told(caplog) == [
        "127.0.0.1: a head was refused with 408: "
        "The head of this request did not arrive within 0.1 s.",
        "127.0.0.1: a head was refused with 400: "
        "The head of this request has more than the 16,384 bytes that are read.",
    ]


async def test_what_is_answered_and_what_is_not_there_leave_no_line(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("/events", "/nothing", "/publish", "/events/a/b"):
        async with client.get(path) as response:
            assert response.status in (200, 404, 405)
    async with client.post("/publish", data=good("1"), headers={"Content-Type": JSON}) as response:
        assert response.status == 200
    assert _told(caplog) == []


async def test_line_is_one_short_line_whatever_was_sent(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    target = b"/events/%0a%1b%5b2J%ff" + b"x" * 4_000 + b"/b?limit=%0aERROR%0d%7f" + b"y" * 3_000
    head = b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert (await exchange(str(client.host), int(client.port or 0), [head])).status == 400
    (told,) = _told(caplog)
    assert told.isprintable()
    assert len(told) < 1_100


def test_clients_that_have_been_silent_make_room_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock: list[float] = [100.0]
    monkeypatch.setattr(fault_log.time, "monotonic", lambda: clock[0])
    seldom = Seldom()
    most = fault_log._MOST_SUBJECTS

    def round_of(name: str) -> list[Any]:
        return [seldom.told(f"{name} {number}") for number in range(most + 2)]

    assert round_of("first") == [*[""] * (most + 1), None]  # the last two share a line
    assert round_of("second") == [None] * (most + 2)
    clock[0] += 60
    assert round_of("third") == [
        *[""] * (most - 1),
        f" (and {most + 3:,} times since it was told last)",
        None,
        None,
    ]
    assert len(seldom._due) <= most + 1
