"""Sockets that a socket unit hands over stay open while the service restarts: nobody is refused."""

import os
import select
import socket
from contextlib import closing
from pathlib import Path

import pytest
from test_starting import is_alive, launch, slow

from events import event
from publishers import Publishers, check_everything
from running import LIMIT, Service, until

__all__ = ["slow"]  # a fixture


def test_socket_that_is_handed_over_is_served(service: Service, listening: socket.socket) -> None:
    service.hand_over(listening)
    assert service.start() == f"http://127.0.0.1:{listening.getsockname()[1]}"
    assert service.publish(event())[0] == 200
    assert service.stop() == 0


def test_all_sockets_are_named_and_that_one_is_open_to_others(
    service: Service, listening: socket.socket
) -> None:
    with closing(socket.create_server(("0.0.0.0", 0))) as everywhere:
        service.hand_over(listening, everywhere)
        first = service.url
        assert service.start("--open") == first
        second = f"http://127.0.0.1:{everywhere.getsockname()[1]}"
        for url in (first, second):
            service.url = url
            assert service.call("/readyz")[0] == 200
        service.process.terminate()
        assert service.process.stdout
        told = service.process.stdout.read().splitlines()
    assert told[0] == f"  and on    {second}"
    assert told[-1].startswith("  open to   everybody who reaches this machine: no tokens")


def test_socket_of_a_file_is_served(service: Service, tmp_path: Path) -> None:
    path = os.path.relpath(tmp_path / "s", Path.cwd())  # these paths must be short
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(path)
        listening.listen()
        service.hand_over(listening)
        assert service.start() == f"unix:{path}"
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(path)
            client.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 OK" in client.recv(1000)


@pytest.mark.parametrize("count", ["2", "x"])
def test_sockets_that_are_not_there_stop_the_start(
    service: Service, listening: socket.socket, count: str
) -> None:
    service.hand_over(listening, count=count)
    service.launch()
    assert service.wait() == 2
    assert "LISTEN_FDS: " in service.said()


def test_sockets_for_another_process_are_left_alone(service: Service) -> None:
    service.start(environ={"LISTEN_PID": "1", "LISTEN_FDS": "1"})
    assert service.publish(event())[0] == 200


def test_restarts_behind_a_socket_that_stays_refuse_nobody(
    service: Service, listening: socket.socket
) -> None:
    service.hand_over(listening)
    service.start()
    with Publishers(service, seed=1, count=4) as publishers:
        ledger = publishers.ledger
        for _ in range(3):
            until_more_is_answered(publishers)
            assert service.stop() == 0
            waiting, _, _ = select.select([listening], [], [], LIMIT)
            assert waiting, "nobody is there, and they come all the same"
            service.start()
        publishers.finish()
    assert ledger.unanswered == 0
    check_everything(service, ledger)


def test_start_that_takes_long_cuts_nobody_off(slow: Service) -> None:
    """Everybody is answered, if only that it is starting, also while that comes to its end."""
    launch(slow)
    with Publishers(slow, seed=1, count=8, most=2) as publishers:
        ledger = publishers.ledger
        for _ in range(2):
            until(lambda: is_alive(slow), "it is alive")
            refused = ledger.unanswered
            until(lambda refused=refused: ledger.unanswered > refused + 50, "they are told")  # type: ignore[misc]
            (slow.folder / "gate").touch()
            slow.wait_ready()
            until_more_is_answered(publishers)
            assert slow.stop() == 0
            (slow.folder / "gate").unlink()
            launch(slow)
        (slow.folder / "gate").touch()
        slow.wait_ready()
        publishers.finish()
    assert ledger.cut_off == 0
    check_everything(slow, ledger)


def until_more_is_answered(publishers: Publishers) -> None:
    answers = publishers.ledger.answers
    until(lambda: publishers.ledger.answers > answers + 50, "they get on")


def test_address_that_is_printed_for_all_addresses_can_be_reached(service: Service) -> None:
    url = service.start("--host", "0.0.0.0", "--open")
    assert url.startswith("http://127.0.0.1:")
    assert service.publish(event())[0] == 200
    assert service.process.stdout
    told = [next(service.process.stdout) for _ in range(5)]
    assert "no tokens; without TLS" in told[-1]
