"""The sockets that the service listens on: its own, or those that a socket unit hands over."""

import asyncio
import errno
import os
import re
import socket
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Any

from aggregator.config import Settings
from aggregator.core.quoting import quoted
from aggregator.errors import SettingError

BACKLOG = 1024
"""Connections that wait to be accepted, at most; the kernel may allow fewer."""

_FIRST_INHERITED = 3  # as in sd_listen_fds(3)
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104, it is read here, not listened on


def listening_sockets(settings: Settings) -> list[socket.socket]:
    """Sockets on which clients can connect from now on. Raises SettingError.

    Those of a socket unit go before `host` and `port`: they stay open while the service restarts,
    so that nobody is refused.
    """
    return inherited_sockets() or bound(settings.host, settings.port)


def inherited_sockets() -> list[socket.socket]:
    """Those that `LISTEN_FDS` counts, if they are for this process. Raises SettingError.

    The variables are removed: what the process starts has not inherited them.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = os.environ.pop("LISTEN_FDS", "")
    for name in ("LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if not re.fullmatch("[0-9]{0,4}", count):
        raise SettingError(f"LISTEN_FDS: {quoted(count)} should be a number of sockets")
    return [_inherited(_FIRST_INHERITED + number) for number in range(int(count or 0))]


def _inherited(number: int) -> socket.socket:
    try:
        found = socket.socket(fileno=number)
        is_listening = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise SettingError(f"LISTEN_FDS: {number} is no socket: {error.strerror}") from error
    if not is_listening or found.type != socket.SOCK_STREAM:
        raise SettingError(f"LISTEN_FDS: on socket {number} nobody can connect (ListenStream=)")
    found.set_inheritable(False)
    return found


def bound(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of the host that this machine has. Raises SettingError."""
    found: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in _addresses(host, port):
            try:
                found.append(socket.create_server(address, family=family, backlog=BACKLOG))
            except OSError as error:
                # `localhost` is ::1 too, which a machine without IPv6 does not have.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
        if missing and not found:
            raise missing
    except (OSError, UnicodeError) as error:
        for one in found:
            one.close()
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else error  # those of names are negative
        told = f"cannot listen on {host}, port {port}: {reason}"
        if number == errno.EADDRINUSE:
            told += (
                "; perhaps by another one of these. --port or AGGREGATOR_PORT names another port"
            )
        raise SettingError(told) from error
    return found


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    """Each with its family; as long as the system gives it, since it may have a scope."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, *_, address in found))


async def accept_no_more(sockets: Iterable[socket.socket]) -> None:
    """Have the event loop accept nothing on these sockets, and end what it has begun.

    A server that is closed in the tick in which it accepts drops the connection without a word.
    """
    for one in sockets:
        asyncio.get_running_loop().remove_reader(one.fileno())
    await asyncio.sleep(0)


def accepted_last(sockets: Iterable[socket.socket]) -> Iterator[socket.socket]:
    """The connections that wait to be accepted: the kernel resets them when a socket is closed."""
    for one in sockets:
        for _ in range(BACKLOG):
            try:
                connection, _ = one.accept()
            except OSError:  # there is none, mostly
                break
            connection.setblocking(False)
            yield connection


def address_of(listening: socket.socket, *, tls: bool = False) -> str:
    """The URL under which this machine reaches it; `unix:PATH` where it has a file."""
    address = listening.getsockname()
    if listening.family != socket.AF_UNIX:
        return url_of(*address[:2], tls=tls)
    # One without a file, in Linux, is bytes, and begins with a zero that is written as @.
    return f"unix:{address if isinstance(address, str) else address.decode().replace(chr(0), '@')}"


def url_of(host: str, port: int, *, tls: bool = False) -> str:
    """The URL under which this machine reaches a service that listens there.

    An IPv6 address stands in brackets. Nobody can connect to "every address".
    """
    host = _EVERYWHERE.get(host, host)
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def is_open_to_others(listening: socket.socket) -> bool:
    """Whether other machines may reach it."""
    if listening.family == socket.AF_UNIX:
        return False
    address = ip_address(listening.getsockname()[0].partition("%")[0])
    return not (getattr(address, "ipv4_mapped", None) or address).is_loopback
