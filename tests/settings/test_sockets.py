"""Which sockets the service listens on, and which it refuses."""

import asyncio
import os
import select
import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from aggregator import sockets, starting
from aggregator.errors import SettingError
from aggregator.starting import StartingServer

VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


@pytest.fixture
def inherited(monkeypatch: pytest.MonkeyPatch) -> Callable[[socket.socket], list[socket.socket]]:
    """What is made of a socket that this process is told to have inherited."""

    def inherit(one: socket.socket) -> list[socket.socket]:
        for name, value in zip(VARIABLES, (str(os.getpid()), "1", "a.socket"), strict=True):
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sockets, "_FIRST_INHERITED", one.detach())
        return sockets.inherited_sockets()

    return inherit


def test_what_is_inherited_is_not_handed_on(inherited: Any, listening: socket.socket) -> None:
    address = listening.getsockname()
    listening.set_inheritable(True)
    (found,) = inherited(listening)
    with closing(found):
        assert found.getsockname() == address
        assert not found.get_inheritable()
        assert not {*VARIABLES} & os.environ.keys()


@pytest.mark.filterwarnings("ignore:unclosed")  # as the process ends, so do they
@pytest.mark.parametrize("kind", ["not listening", "datagrams", "packets"])
def test_socket_on_which_nobody_can_connect_is_refused(inherited: Any, kind: str) -> None:
    if kind == "packets":
        one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        one.bind("")  # the system gives it a name
        one.listen()
    else:
        types = {"not listening": socket.SOCK_STREAM, "datagrams": socket.SOCK_DGRAM}
        one = socket.socket(socket.AF_INET, types[kind])
        one.bind(("127.0.0.1", 0))
    with pytest.raises(SettingError, match=r"nobody can connect \(ListenStream=\)"):
        inherited(one)


HERE, ELSEWHERE = (
    (socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 0))
    for address in ("127.0.0.1", "192.0.2.1")
)


@pytest.mark.parametrize("addresses", [(HERE, ELSEWHERE), (ELSEWHERE, HERE)])
def test_address_that_the_machine_lacks_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, addresses: tuple[Any, ...]
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    (found,) = sockets.bound("a-name", 0)
    with closing(found):
        assert found.getsockname()[0] == "127.0.0.1"


def test_host_whose_addresses_the_machine_lacks_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: (ELSEWHERE,))
    with pytest.raises(SettingError, match="cannot listen on a-name, port 0: Cannot assign"):
        sockets.bound("a-name", 0)


async def test_connection_that_comes_while_a_short_start_goes_on_is_left_for_the_service(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def starts() -> bool:
        """Whether the connection still waits once the start has ended."""
        with closing(socket.create_connection(listening.getsockname())) as client:
            client.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with StartingServer([listening], lambda: "starting"):
                await asyncio.sleep(0.1)  # a loop that runs would take it within 1 ms
            client.setblocking(False)
            return bool(select.select([listening], [], [], 0)[0])

    listening.setblocking(False)
    monkeypatch.setattr(starting, "_SHORT", 3600.0)
    assert await starts()
