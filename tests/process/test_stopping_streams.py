"""Asked to stop, the service sends those away who follow, and does not wait for them."""

import signal
import socket
import time
from contextlib import ExitStack, closing

from test_stopping import BOUND, QUICK, connect

from events import event
from running import Service, until

FOLLOWERS = 50


def _follow(service: Service) -> socket.socket:
    client = connect(service)
    if not _is_followed(client):
        client.close()
        raise AssertionError("the reader was refused")
    return client


def _is_followed(client: socket.socket) -> bool:
    client.sendall(b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return client.recv(10).startswith(b"HTTP/1.1 2")


def _read_to(client: socket.socket, expected: bytes) -> None:
    read = b""
    while expected not in read:
        part = client.recv(65_536)
        assert part, f"the stream ended without {expected!r}"
        read += part


def _rest(client: socket.socket) -> bytes:
    parts = []
    while part := client.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def test_open_streams_do_not_keep_the_service(service: Service) -> None:
    service.start()
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(_follow(service))) for _ in range(FOLLOWERS)]
        assert service.publish(event())[0] == 200
        for client in clients:
            _read_to(client, b'"event_id":"1"')
        service.process.send_signal(signal.SIGTERM)
        assert service.wait(QUICK) == 0
        for client in clients:
            rest = _rest(client)
            assert b"event: stopping\n" in rest
            assert rest.endswith(b"0\r\n\r\n"), "the stream ends as it should"
    assert "Traceback" not in service.said()


def test_stream_that_is_never_read_does_not_keep_the_service(service: Service) -> None:
    service.start()
    with closing(_follow(service)):
        for number in range(12):
            large = event(str(number), payload={"filler": "x" * 1_000_000})
            assert service.publish(large)[0] == 200
        begun = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - begun < BOUND


def test_clients_that_go_away_are_no_errors(service: Service) -> None:
    service.start("--streams", str(FOLLOWERS), "--client-share", "1", "--heartbeat", "0.1")
    for _ in range(2):
        with ExitStack() as stack:
            for _ in range(FOLLOWERS):
                stack.enter_context(closing(_in_a_free_place(service)))
            assert service.publish(event())[0] == 200
    assert service.stop() == 0
    assert not [line for line in service.said().splitlines() if "ERROR" in line.upper()]
    assert "Traceback" not in service.said()


def _in_a_free_place(service: Service) -> socket.socket:
    """A reader, once a place is free: those who left are seen to have left one after the other."""
    found: list[socket.socket] = []

    def is_taken() -> bool:
        client = connect(service)
        if _is_followed(client):
            found.append(client)
        else:
            client.close()
        return bool(found)

    until(is_taken, "the readers who left are seen to have left")
    return found[0]
