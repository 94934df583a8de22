"""Asked to stop, the service settles what it took, says so by its exit status, and is quick."""

import json
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from random import SystemRandom
from urllib.error import URLError
from urllib.parse import urlsplit

import pytest

from events import event
from publishers import Publishers, check_everything
from running import Service, until

BOUND = 15.0
QUICK = 5.0


def connect(service: Service) -> socket.socket:
    """A connection of its own to the service."""
    address = urlsplit(service.url)
    return socket.create_connection((address.hostname, address.port), timeout=BOUND)


def ask_to_stop(
    service: Service, number: signal.Signals = signal.SIGTERM, told: str = "taking nothing more"
) -> None:
    """Send the signal, and wait until the service has told so."""
    before = service.said().count(told)
    service.process.send_signal(number)
    until(lambda: service.said().count(told) > before, told)


@pytest.fixture
def half_sent(service: Service) -> Iterator[socket.socket]:
    """A running service, and a client that holds back half of its body."""
    service.start()
    with closing(connect(service)) as client:
        client.sendall(
            b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 100 "), "the body is not waited for"
        client.sendall(b'{"topic": ')
        yield client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_under_load_it_has_stored_all_that_it_answered(
    service: Service, number: signal.Signals
) -> None:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    service.start()
    with Publishers(service, seed, count=6) as publishers:
        ledger = publishers.ledger
        until(lambda: ledger.answers > 200, "the publishers get on")
        service.process.send_signal(number)
        assert service.wait(BOUND) == 0
        answered = dict(ledger.seqs)
        assert not (service.folder / "data" / "aggregator.db-wal").exists()
        service.start()
        stored = {(one["topic"], one["event_id"]): one["seq"] for one in service.stored()}
        assert answered.items() <= stored.items()
        publishers.finish()
    check_everything(service, ledger)


def test_idle_service_stops_without_waiting_for_idle_connections(service: Service) -> None:
    service.start()
    with closing(connect(service)) as idle, closing(connect(service)):
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in idle.recv(1000)
        service.process.send_signal(signal.SIGTERM)
        assert service.wait(QUICK) == 0


def test_client_that_never_sends_its_body_does_not_keep_the_service(
    service: Service, half_sent: socket.socket
) -> None:
    assert service.publish(event())[0] == 200
    service.process.send_signal(signal.SIGTERM)
    assert service.wait(BOUND) == 0
    service.start()
    assert [one["event_id"] for one in service.stored()] == ["1"]


def test_body_that_arrives_while_the_service_stops_is_taken(
    service: Service, half_sent: socket.socket
) -> None:
    ask_to_stop(service, told="SIGTERM: stopping")
    sent = json.dumps(event("late")).removeprefix('{"topic": ').encode()
    half_sent.sendall(sent.ljust(1000 - len('{"topic": ')))
    assert b" 200 OK" in half_sent.recv(1000)
    assert service.wait(BOUND) == 0
    service.start()
    assert [one["event_id"] for one in service.stored()] == ["late"]


def test_body_that_does_not_arrive_is_refused_and_does_not_keep_the_service(
    service: Service, half_sent: socket.socket
) -> None:
    service.process.send_signal(signal.SIGTERM)
    assert b" 503 " in half_sent.recv(1000)
    assert service.wait(BOUND) == 0


def test_body_that_was_refused_and_still_arrives_does_not_keep_the_service(
    service: Service,
) -> None:
    service.start()
    with closing(connect(service)) as client:
        client.sendall(
            b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 99999999999\r\n\r\n["
        )
        assert b" 413 " in client.recv(1000)
        service.process.send_signal(signal.SIGTERM)
        assert service.wait(QUICK) == 0


def test_client_that_never_reads_its_answer_does_not_keep_the_service(service: Service) -> None:
    service.start()
    large = {"filler": "x" * 1_000_000}
    for number in range(9):
        assert service.publish(event(str(number), payload=large))[0] == 200
    with closing(connect(service)) as reader:
        reader.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert reader.recv(100).startswith(b"HTTP/1.1 200 ")
        assert service.stop() == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_at_once(
    service: Service, half_sent: socket.socket, second: signal.Signals
) -> None:
    assert service.publish(event())[0] == 200
    ask_to_stop(service, told="SIGTERM: stopping")
    service.process.send_signal(second)
    assert service.wait(QUICK) == 128 + second
    service.start()
    assert service.publish(event())[1]["duplicates"] == 1


def test_once_asked_to_stop_it_takes_nothing_more(
    service: Service, half_sent: socket.socket
) -> None:
    with closing(connect(service)) as early:
        early.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n")
        assert service.publish(event())[0] == 200
        ask_to_stop(service)
        with suppress(ConnectionError):  # it may be closed already
            early.sendall(b"\r\n")
            assert b"200 OK" not in early.recv(1000)
    with pytest.raises((URLError, ConnectionError)):
        service.publish(event("2"))


def test_service_whose_store_fails_stops_all_the_same(service: Service) -> None:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    service.start()
    with Publishers(service, seed, count=6) as publishers:
        ledger = publishers.ledger
        until(lambda: ledger.answers > 50, "the publishers get on")
        pid = service.process.pid
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        until(lambda: ledger.unanswered > 20, "the publishers are refused")
        service.process.send_signal(signal.SIGTERM)
        service.wait(BOUND)
        answered = dict(ledger.seqs)
        service.start()
        stored = {(one["topic"], one["event_id"]): one["seq"] for one in service.stored()}
        assert answered.items() <= stored.items()
        publishers.finish()
    check_everything(service, ledger)
