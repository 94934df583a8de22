"""The clock of the machine jumps by a year: seqs tell the order, and nothing waits for a date."""

import json
import socket
import time
import urllib.request
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.client import HTTPResponse
from pathlib import Path
from random import SystemRandom
from urllib.parse import quote, urlsplit

import pytest
from wall_clock import YEAR, WallClock

from events import event
from publishers import Publishers, check_everything
from running import LIMIT, Service, until


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


def shown(seconds: int) -> str:
    """The time so far from now, as the service would show it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def years(service: Service) -> list[int]:
    """When each event arrived, in years from now, in the order of seq."""
    now = time.time()
    arrivals = [datetime.fromisoformat(one["received_at"]) for one in service.stored()]
    return [round((arrival.timestamp() - now) / YEAR) for arrival in arrivals]


def test_clock_that_jumps_a_year_both_ways_changes_no_verdict_and_no_order(
    service: Service, clock: WallClock
) -> None:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    service.start(environ=clock.environ)
    with Publishers(service, seed) as publishers:
        ledger = publishers.ledger
        for ahead, restarts in ((0, False), (1, False), (-1, True), (1, True), (0, False)):
            clock.set(ahead * YEAR)
            if restarts:
                service.kill()
                service.start(environ=clock.environ)
            enough = ledger.answers + 20
            until(lambda: ledger.answers > enough, "publishers get on")  # noqa: B023
            assert service.call("/readyz")[0] == 200
        publishers.finish()
    check_everything(service, ledger)
    arrived = years(service)
    assert (arrived[0], arrived[-1]) == (0, 0)
    assert set(arrived) == {0, 1, -1}, "the clock did not jump as it was told to"


def test_event_that_comes_again_is_a_duplicate_whatever_the_year(
    service: Service, clock: WallClock
) -> None:
    service.start(environ=clock.environ)
    for number, ahead in enumerate((0, 1, -1)):
        clock.set(ahead * YEAR)
        told = service.publish(event(f"{ahead}"))[1]["results"][0]
        assert (told["status"], told["seq"]) == ("stored", number + 1)
    first = service.stored()
    for ahead in (1, -1, 0):
        clock.set(ahead * YEAR)
        results = service.publish([event("0"), event("1"), event("-1")])[1]["results"]
        assert [one["status"] for one in results] == ["duplicate"] * 3
        assert [one["seq"] for one in results] == [1, 2, 3]
        assert [one["received_at"] for one in results] == [one["received_at"] for one in first]
    since = quote(shown(-YEAR // 2))
    until_ = quote(shown(YEAR // 2))
    assert ids(service, f"received_since={since}") == ["0", "1"]
    assert ids(service, f"received_until={until_}") == ["0", "-1"]
    assert ids(service, f"received_since={since}&received_until={until_}") == ["0"]


def ids(service: Service, query: str) -> list[str]:
    return [one["event_id"] for one in service.call(f"/events?{query}")[1]["events"]]


@pytest.mark.parametrize("ahead", [1, -1])
def test_time_outs_and_heartbeats_do_not_go_by_the_clock_on_the_wall(
    service: Service, clock: WallClock, ahead: int
) -> None:
    service.start("--body-timeout", "3", "--heartbeat", "0.3", environ=clock.environ)
    body = json.dumps(event()).encode()
    stream = urllib.request.urlopen(f"{service.url}/events/stream", timeout=LIMIT)
    with stream, half_sent(service, body) as in_time, half_sent(service, body) as too_late:
        await_heartbeat(stream)
        clock.set(ahead * YEAR)
        for _ in range(3):
            await_heartbeat(stream)
        in_time.sendall(body[5:])
        assert in_time.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert too_late.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert years(service) == [0], "an event arrives when its request does"
    assert service.call("/stats")[1]["uptime_seconds"] < YEAR / 2


def half_sent(service: Service, body: bytes) -> "closing[socket.socket]":
    """A client that has sent the first five bytes of its body, which the service waits for."""
    address = urlsplit(service.url)
    client = socket.create_connection((address.hostname, address.port), timeout=LIMIT)
    client.sendall(
        b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body)
    )
    assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
    client.sendall(body[:5])
    return closing(client)


def await_heartbeat(stream: HTTPResponse) -> None:
    """Read on until there is one."""
    lines = iter(stream.readline, b"")
    assert any(line.startswith(b":") for line in lines), "the stream has ended"


def test_what_a_wrong_clock_makes_too_old_for_quarantine_goes_counted_and_logged(
    service: Service, clock: WallClock
) -> None:
    service.start("--on-invalid", "quarantine", environ=clock.environ)
    assert service.publish(event("now", timestamp=""))[0] == 422
    clock.set(YEAR)
    assert service.publish(event("in a year", timestamp=""))[0] == 422
    clock.set(0)
    assert service.publish(event("now again", timestamp=""))[0] == 422
    kept = service.call("/quarantine")[1]["quarantined"]
    assert [one["event_id"] for one in kept] == ["in a year", "now again"]
    assert service.call("/stats")[1]["quarantine_evicted"] == 1
    assert "1 events have gone from quarantine" in service.said()
