"""While it starts, the port is open and says what is going on; a start can be ended at any time."""

import os
import signal
import socket
from contextlib import closing
from pathlib import Path

import pytest

from events import event
from installed import install
from running import LIMIT, Service, until

SLOW = """
import asyncio, os, time
from aggregator_sqlite.store import SqliteStore

if os.environ["GATE"] == "import":
    open("importing", "w").close()
    while not os.path.exists("gate"):
        time.sleep(0.02)

class Slow(SqliteStore):
    def __init__(self, url):
        super().__init__(url.replace("slow:", "sqlite:"))

    async def open(self, key_spec, replaces=None):
        self.doing = "counting, at 3 of 10"
        if os.environ["GATE"] == "thread":
            await asyncio.to_thread(time.sleep, 3600)
        while not os.path.exists("gate"):
            await asyncio.sleep(0.02)
        self.doing = ""
        await super().open(key_spec, replaces)
"""


@pytest.fixture
def slow(service: Service, listening: socket.socket) -> Service:
    """A service whose store opens once there is a file `gate`; on a socket of the test's."""
    entry_points = "[aggregator.stores]\nslow = slow:Slow\n"
    install(service.folder / "installed", "slow", SLOW, entry_points)
    service.hand_over(listening)
    return service


def launch(slow: Service, waits_in: str = "open", *flags: str) -> None:
    """Start it without waiting."""
    environ = {"PYTHONPATH": str(slow.folder / "installed"), "GATE": waits_in}
    slow.launch("--store", "slow:///data/a.db", *flags, environ=environ)


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
    assert slow.call("/healthz", b"{}")[0] == 503
    (slow.folder / "gate").touch()
    slow.wait_ready()
    assert slow.call("/readyz")[0] == 200
    assert slow.publish(event())[0] == 200


def test_port_of_its_own_is_open_before_its_store_is(slow: Service) -> None:
    slow.under, slow.pass_fds = [], ()
    port = 20_000 + os.getpid() % 10_000  # of those that no system hands out by itself
    slow.url = f"http://127.0.0.1:{port}"
    launch(slow, "open", "--port", str(port))
    until(lambda: is_alive(slow), "it is alive")
    assert slow.call("/readyz")[0] == 503


def test_answer_of_a_start_ends_its_connection(slow: Service, listening: socket.socket) -> None:
    """Or who keeps it would go on to be told that the service is starting."""
    launch(slow)
    until(lambda: is_alive(slow), "it is alive")
    with closing(socket.create_connection(listening.getsockname(), timeout=LIMIT)) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
        answers = b"".join(iter(lambda: client.recv(1000), b""))
    assert answers.count(b"HTTP/1.1 200 ") == 1
    assert b"\r\nconnection: close\r\n" in answers.lower()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("waits_in", ["open", "thread"])
def test_start_that_is_asked_to_stop_ends_at_once(
    slow: Service, waits_in: str, number: signal.Signals
) -> None:
    launch(slow, waits_in)
    until(lambda: is_alive(slow), "it is alive")
    assert slow.stop(number) == 0
    assert "lost" not in slow.said()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_start_that_is_asked_to_stop_before_there_is_an_event_loop_ends_at_once(
    slow: Service, number: signal.Signals
) -> None:
    launch(slow, "import")
    until((slow.folder / "importing").exists, "a store is imported")
    assert slow.stop(number) == 0
    assert "Traceback" not in slow.said()


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
        ('log_level = "warning"\n', "SIGHUP: log_level is warning\n"),
    ):
        file.write_text(text)
        service.process.send_signal(signal.SIGHUP)
        until(lambda told=told: told in service.said(), told)  # type: ignore[misc]
        assert service.publish(event())[0] == 200
    assert service.stop() == 0
    assert service.said().endswith("SIGHUP: log_level is warning\n"), "the stop is only info"


def test_hangup_does_not_end_a_start(slow: Service) -> None:
    launch(slow)
    until(lambda: is_alive(slow), "it is alive")
    slow.process.send_signal(signal.SIGHUP)
    until(lambda: "SIGHUP" in slow.said(), "it is heard")
    (slow.folder / "gate").touch()
    slow.wait_ready()


def test_hangup_before_there_is_an_event_loop_ends_nothing(slow: Service) -> None:
    launch(slow, "import")
    until((slow.folder / "importing").exists, "a store is imported")
    slow.process.send_signal(signal.SIGHUP)
    (slow.folder / "gate").touch()
    slow.wait_ready()


def test_hangups_in_the_last_moments_of_a_stop_do_not_change_its_status(service: Service) -> None:
    service.start()
    service.process.send_signal(signal.SIGTERM)
    while service.process.poll() is None:
        if "everybody who waited has an answer" in service.said():
            service.process.send_signal(signal.SIGHUP)
    assert service.wait() == 0
