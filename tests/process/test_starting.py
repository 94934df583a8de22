"""While it starts, the port is open and says what is going on; a start can be ended at any time."""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from events import event
from publishers import Publishers, check_everything
from running import LIMIT, Service, until

QUICK = 5.0
SLOW = """
import asyncio, os, time
from aggregator_sqlite.store import SqliteStore

class Slow(SqliteStore):
    def __init__(self, url):
        super().__init__(url.replace("slow:", "sqlite:"))

    async def open(self, key_spec, replaces=None):
        self.doing = "counting, at 3 of 10"
        if os.environ["GATE"] == "thread":
            await asyncio.to_thread(time.sleep, 3600)
        while not os.path.exists(os.environ["GATE"]):
            await asyncio.sleep(0.02)
        self.doing = ""
        await super().open(key_spec, replaces)
"""
HANDED_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Starts a command as a socket unit does: its socket has the number 3."""


@pytest.fixture
def slow(service: Service, tmp_path: Path) -> Service:
    """A service on a port of the test's, whose store opens once there is a file `gate`."""
    installed = tmp_path / "installed"
    (installed / "slow-1.dist-info").mkdir(parents=True)
    (installed / "slow.py").write_text(SLOW)
    (installed / "slow-1.dist-info" / "METADATA").write_text("Name: slow\nVersion: 1\n")
    (installed / "slow-1.dist-info" / "entry_points.txt").write_text(
        "[aggregator.stores]\nslow = slow:Slow\n"
    )
    return service


def launch(slow: Service, gate: str = "gate") -> None:
    """Start it without waiting, on a port that nobody has."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    slow.url = f"http://127.0.0.1:{port}"
    environ = {"PYTHONPATH": str(slow.folder / "installed"), "GATE": gate}
    slow.launch("--port", str(port), "--store", "slow:///data/a.db", environ=environ)


def is_alive(service: Service) -> bool:
    """Whether it answers on its port that it is."""
    try:
        return service.call("/healthz")[0] == 200
    except OSError:
        return False


def test_while_its_store_is_opened_it_is_alive_and_says_what_it_does(slow: Service) -> None:
    launch(slow)
    until(lambda: is_alive(slow), "it is alive")
    answer = slow.ask("/readyz")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert answer.content["detail"] == "The service is starting (counting, at 3 of 10). Try again."
    assert slow.publish(event())[0] == 503
    (slow.folder / "gate").touch()
    slow.wait_ready()
    assert slow.call("/readyz")[0] == 200
    assert slow.publish(event())[0] == 200


def test_connection_that_comes_while_a_short_start_goes_on_is_served(slow: Service) -> None:
    (slow.folder / "gate").touch()
    launch(slow)
    address = ("127.0.0.1", int(slow.url.rpartition(":")[2]))

    def connected() -> socket.socket | None:
        try:
            return socket.create_connection(address, timeout=LIMIT)
        except ConnectionRefusedError:
            return None

    until(lambda: (early := connected()) and not early.close(), "the port is open")
    with closing(socket.create_connection(address, timeout=LIMIT)) as client:
        client.sendall(b"GET /readyz HTTP/1.1\r\nHost: tests\r\n\r\n")
        assert b" 200 OK" in client.recv(1000)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("gate", ["gate", "thread"])
def test_start_that_is_asked_to_stop_ends_at_once(
    slow: Service, gate: str, number: signal.Signals
) -> None:
    launch(slow, gate)
    until(lambda: is_alive(slow), "it is alive")
    slow.process.send_signal(number)
    assert slow.wait(QUICK) == 0
    assert "lost" not in slow.said()


def test_start_that_was_ended_goes_on_next_time(slow: Service) -> None:
    launch(slow)
    until(lambda: is_alive(slow), "it is alive")
    assert slow.stop() == 0
    (slow.folder / "gate").touch()
    launch(slow)
    slow.wait_ready()
    assert slow.publish(event())[0] == 200


def test_start_that_fails_says_why_though_its_port_was_open(slow: Service) -> None:
    (slow.folder / "gate").touch()
    (slow.folder / "data").mkdir()
    (slow.folder / "data" / "a.db").write_bytes(b"this is no database" * 1000)
    launch(slow)
    assert slow.wait() == 2
    assert "file is not a database" in slow.said()


def test_hangup_ends_nothing_and_reads_the_level_of_the_log_again(
    service: Service, tmp_path: Path
) -> None:
    file = tmp_path / "a.toml"
    file.write_text('log_level = "info"\n')
    service.start("--config", str(file))
    for text, told in (
        ('log_level = "warning"\nmax_events = 7\n', "restart: max_events"),
        ('log_level = "loud"\n', "the settings in force stay: log_level: 'loud'"),
        ('log_level = "info"\n', "SIGHUP: log_level is info\n"),
    ):
        file.write_text(text)
        service.process.send_signal(signal.SIGHUP)
        until(lambda told=told: told in service.said(), told)  # type: ignore[misc]
        assert service.publish(event())[0] == 200
    assert service.stop() == 0


def test_hangup_does_not_end_a_start(slow: Service) -> None:
    launch(slow)
    until(lambda: is_alive(slow), "it is alive")
    slow.process.send_signal(signal.SIGHUP)
    until(lambda: "SIGHUP" in slow.said(), "it is heard")
    (slow.folder / "gate").touch()
    slow.wait_ready()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket as a socket unit has it: it is there all the time."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=1024)) as listening:
        yield listening


def hand_over(service: Service, listening: socket.socket, count: str = "1") -> None:
    """Have the service started with that socket."""
    service.pass_fds = (listening.fileno(),)
    service.under = [sys.executable, "-c", HANDED_OVER, str(listening.fileno()), count]


def test_socket_that_is_handed_over_is_served(service: Service, listening: socket.socket) -> None:
    hand_over(service, listening)
    assert service.start() == f"http://127.0.0.1:{listening.getsockname()[1]}"
    assert service.publish(event())[0] == 200
    assert service.stop() == 0


def test_socket_of_a_file_is_served(service: Service, tmp_path: Path) -> None:
    path = os.path.relpath(tmp_path / "s", Path.cwd())  # these paths must be short
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(path)
        listening.listen()
        hand_over(service, listening)
        assert service.start() == f"unix:{path}"
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(path)
            client.sendall(b"GET /readyz HTTP/1.1\r\nHost: tests\r\n\r\n")
            assert b" 200 OK" in client.recv(1000)


@pytest.mark.parametrize("count", ["2", "x"])
def test_sockets_that_are_not_there_stop_the_start(
    service: Service, listening: socket.socket, count: str
) -> None:
    hand_over(service, listening, count)
    service.launch()
    assert service.wait() == 2
    assert "LISTEN_FDS: " in service.said()


def test_sockets_for_another_process_are_left_alone(service: Service) -> None:
    service.start(environ={"LISTEN_PID": "1", "LISTEN_FDS": "1"})
    assert service.publish(event())[0] == 200


def test_restarts_behind_a_socket_that_stays_refuse_nobody(
    service: Service, listening: socket.socket
) -> None:
    hand_over(service, listening)
    service.start()
    with Publishers(service, seed=1, count=4) as publishers:
        ledger = publishers.ledger
        for _ in range(3):
            answers = ledger.answers
            until(lambda answers=answers: ledger.answers > answers + 50, "they get on")  # type: ignore[misc]
            assert service.stop() == 0
            time.sleep(0.1)  # nobody is there, and they come all the same
            service.start()
        publishers.finish()
    assert ledger.unanswered == 0
    check_everything(service, ledger)


def test_address_that_is_printed_for_all_addresses_can_be_reached(service: Service) -> None:
    url = service.start("--host", "0.0.0.0")
    assert url.startswith("http://127.0.0.1:")
    assert service.publish(event())[0] == 200
    assert service.process.stdout
    told = [next(service.process.stdout) for _ in range(5)]
    assert "there is no login" in told[-1]
