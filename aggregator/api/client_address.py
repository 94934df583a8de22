"""Which client a request is of: what one client may hold at once is counted under this name.

A client is the address that its connections come from. Of IPv6 it is the network of 64 bits, which
is the least that one customer gets; whoever connects through a Unix socket is one client together.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp import web
from multidict import istr

from aggregator.access import access_of

UNIX = "unix"
"""The client behind Unix sockets, and how they are named as a proxy."""

_TOKEN = "token "  # noqa: S105, before a token's name: no address begins so
_FORWARDED = istr("Forwarded")
_X_FORWARDED_FOR = istr("X-Forwarded-For")
_MOST_HOPS = 16  # proxies in a row that are looked at
_MOST_KNOWN = 4096  # addresses
_HOP = re.compile(r"(?:\[([^\]]+)\]|([^:]+))(?::[0-9]{1,5})?")  # an IPv6 address: in brackets


class Clients:
    """Tells clients apart, behind proxies too.

    `proxies` are addresses or networks, or `unix`, whose word counts: what they forward names the
    client. Of anybody else it is passed over, for everybody can write such a header. A proxy that
    forwards nothing, or what cannot be read, or two headers that disagree, is a client itself.
    """

    def __init__(self, proxies: Iterable[str] = ()) -> None:
        proxies = set(proxies)
        self._is_unix_a_proxy = UNIX in proxies
        self._proxies = [ip_network(proxy) for proxy in proxies - {UNIX}]
        self.of_address = lru_cache(_MOST_KNOWN)(self._of_address)
        """The client at an address, and whether that is a proxy; "" is a Unix socket."""

    def of(self, request: web.BaseRequest) -> str:
        """The client that has sent the request: the name of its token, or else its address."""
        if token := access_of(request).token:
            return f"{_TOKEN}{token.name}"
        client, is_proxy = self.of_address(request.remote or "")
        return (self._forwarded(request) or client) if is_proxy else client

    def _of_address(self, text: str) -> tuple[str, bool]:
        if not text:
            return UNIX, self._is_unix_a_proxy
        address = _parsed(text)
        name = str(address)
        if isinstance(address, IPv6Address):
            name = str(IPv6Network((int(address), 64), strict=False))
        return name, any(address in proxy for proxy in self._proxies)

    def _forwarded(self, request: web.BaseRequest) -> str | None:
        """Who is named by the headers; None where they do not tell."""
        named = set()
        if lines := request.headers.getall(_X_FORWARDED_FOR, ()):
            named.add(self._first_beyond(",".join(lines).split(",")))
        if _FORWARDED in request.headers:
            named.add(self._first_beyond([hop.get("for", "") for hop in request.forwarded]))
        return named.pop() if len(named) == 1 else None

    def _first_beyond(self, hops: Sequence[str]) -> str | None:
        """The first client from the right that is no proxy of ours; None if one is no address."""
        client = None
        for hop in reversed(hops[-_MOST_HOPS:]):
            try:
                client, is_proxy = self.of_address(str(_parsed(_without_port(hop.strip()))))
            except ValueError:
                return None
            if not is_proxy:
                break
        return client


def _without_port(hop: str) -> str:
    match = _HOP.fullmatch(hop)
    return match[1] or match[2] if match else hop


def _parsed(text: str) -> IPv4Address | IPv6Address:
    """The address; an IPv4 address that is written as IPv6 is one of IPv4. Raises ValueError."""
    address = ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address
