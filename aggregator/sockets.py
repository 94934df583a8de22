"""The sockets that the service listens on: its own, or those that a socket unit hands over."""

import errno
import os
import socket
from ipaddress import ip_address

from aggregator.config import Settings
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
    return inherited_sockets() or _bound(settings.host, settings.port)


def inherited_sockets() -> list[socket.socket]:
    """Those that `LISTEN_FDS` counts, if they are for this process. Raises SettingError.

    The variables are removed: what the process starts has not inherited them.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = os.environ.pop("LISTEN_FDS", "")
    del os.environ["LISTEN_PID"]
    if not count.isdecimal():
        raise SettingError(f"LISTEN_FDS: {count!r} should be a number of sockets")
    return [_inherited(_FIRST_INHERITED + number) for number in range(int(count))]


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


def _bound(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of the host."""
    found: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            try:
                found.append(socket.create_server(address, family=family, backlog=BACKLOG))
            except OSError as error:
                # A name may have an address of a kind that this machine does not have.
                if error.errno != errno.EADDRNOTAVAIL or not found:
                    raise
    except (OSError, UnicodeError) as error:
        for one in found:
            one.close()
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else error  # those of names are negative
        raise SettingError(f"cannot listen on {host}, port {port}: {reason}") from error
    return found


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    each = ((family, (str(address[0]), port)) for family, *_, address in found)
    return list(dict.fromkeys(each))


def url_of(host: str, port: int) -> str:
    """The URL under which this machine reaches a service that listens there.

    An IPv6 address stands in brackets. Nobody can connect to "every address".
    """
    host = _EVERYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_open_to_others(listening: socket.socket) -> bool:
    """Whether other machines may reach it."""
    if listening.family == socket.AF_UNIX:
        return False
    return not ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback
