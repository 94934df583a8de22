"""Which names the service is asked under, so that a page of somebody else's site cannot ask it.

A site can have its own name point to this machine (DNS rebinding). Browsers then take the service
for a part of that site, and its pages may do everything; but the name still stands in `Host`.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from socket import AF_UNIX

from aiohttp import web
from multidict import istr

from aggregator.api.responses import problem_response
from aggregator.core.quoting import quoted

_HOST = istr("Host")
_OPEN_PATHS = ("/healthz", "/readyz", "/metrics")  # asked by what looks after the service
_LONGEST = 300  # characters: a name has 253 at most, and a port 5
_REMEMBERED = 256  # verdicts
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(:[0-9]*)?")


class Hosts:
    """Refuses what was meant for another name than these and those of the loopback interface.

    A literal address always passes, and so does a request without `Host`, as in HTTP/1.0: to rebind
    takes a name. A Unix socket is out of a page's reach. `X-Forwarded-Host`, which anybody can
    send, says nothing.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(map(_plain, names))
        self._is_ours = lru_cache(_REMEMBERED)(self._judge)

    def refusal(self, request: web.BaseRequest) -> web.Response | None:
        """The answer to a request that is meant for somebody else; None for all others.

        Its target may name a host as well (RFC 9112, 3.2.2), which then has to pass too.
        """
        foreign = request.headers.get(_HOST, "")
        if self.has(foreign):
            foreign = request._message.url.raw_authority  # that of request.url may be made up
            if self.has(foreign):
                return None
        if request.path in _OPEN_PATHS or _is_from_unix_socket(request):
            return None
        return problem_response(
            HTTPStatus.MISDIRECTED_REQUEST,
            f"This service is not asked under {quoted(foreign)}: use its address, or localhost on "
            "this machine, or have the setting hosts list the name.",
        )

    def has(self, host: str) -> bool:
        """Whether the value of a header `Host`, with or without a port, is right here."""
        return not host or (len(host) <= _LONGEST and self._is_ours(host))

    def _judge(self, host: str) -> bool:
        match = _AUTHORITY.fullmatch(host)
        if not match:
            return False
        name = _plain(match[1])
        return (
            name in self._names
            or name == "localhost"
            or name.endswith(".localhost")  # no resolver asks anybody about it (RFC 6761)
            or _is_address(name)
        )


def _plain(name: str) -> str:
    """The name as it is compared: in DNS case counts for nothing, and it may end with a dot."""
    return name.lower().removesuffix(".")


def _is_address(name: str) -> bool:
    """Whether it is an IPv4 address, or one of IPv6 in brackets, perhaps with a zone."""
    try:
        if name.startswith("["):
            IPv6Address(name[1:-1])
        else:
            IPv4Address(name)
    except AddressValueError:
        return False
    return True


def _is_from_unix_socket(request: web.BaseRequest) -> bool:
    if request.transport is None:  # gone: nobody reads the answer
        return False
    connection = request.transport.get_extra_info("socket")
    return connection is not None and connection.family == AF_UNIX
