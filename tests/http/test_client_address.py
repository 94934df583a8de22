"""Whose a request is: by the address, and behind proxies that are listed by what they forward."""

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from aggregator.api.client_address import Clients

PROXY = "10.0.0.1"
OTHERS = "192.0.2.7"


def client(
    remote: str, *headers: tuple[str, str], proxies: tuple[str, ...] = (PROXY, "fd00::/8")
) -> str:
    """Who has sent a request that comes from there."""
    request = make_mocked_request("GET", "/", CIMultiDict(headers))
    return Clients(proxies).of(request.clone(remote=remote))


def xff(text: str) -> tuple[str, str]:
    return "X-Forwarded-For", text


def forwarded(text: str) -> tuple[str, str]:
    return "Forwarded", text


@pytest.mark.parametrize(
    ("remote", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::9", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unix"),
    ],
)
def test_client_is_the_address_of_its_connections(remote: str, name: str) -> None:
    assert client(remote) == name


def test_nobody_but_a_listed_proxy_speaks_for_others() -> None:
    assert client(OTHERS, xff("203.0.113.9"), forwarded("for=203.0.113.9")) == OTHERS


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ([xff("203.0.113.9")], "203.0.113.9"),
        ([xff("1.1.1.1, 203.0.113.9")], "203.0.113.9"),
        ([xff("1.1.1.1"), xff("203.0.113.9")], "203.0.113.9"),
        ([xff(f"1.1.1.1, 203.0.113.9, {PROXY}, fd00::2")], "203.0.113.9"),
        ([xff(f"{PROXY}, fd00::2")], PROXY),
        ([xff("203.0.113.9:4711")], "203.0.113.9"),
        ([xff("[2001:db8::1]:4711")], "2001:db8::/64"),
        ([xff("2001:db8::1")], "2001:db8::/64"),
        ([xff("::ffff:203.0.113.9")], "203.0.113.9"),
        ([forwarded("for=203.0.113.9;proto=http;by=10.0.0.1")], "203.0.113.9"),
        ([forwarded('for=1.1.1.1, For="[2001:db8::1]:4711"')], "2001:db8::/64"),
        ([forwarded("for=1.1.1.1"), forwarded("for=203.0.113.9")], "203.0.113.9"),
        ([xff("203.0.113.9"), forwarded("for=203.0.113.9")], "203.0.113.9"),
    ],
)
def test_listed_proxy_names_the_client(headers: list[tuple[str, str]], name: str) -> None:
    assert client(PROXY, *headers) == name


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [xff("")],
        [xff("unknown")],
        [xff("203.0.113.9, nonsense")],
        [xff("203.0.113.9,")],
        [xff("203.0.113.999")],
        [xff("[203.0.113.9")],
        [xff("\x00")],
        [forwarded("proto=http")],
        [forwarded("for=unknown")],
        [forwarded("for=_hidden")],
        [forwarded('for="')],
        [xff("203.0.113.9"), forwarded("for=203.0.113.8")],
        [xff("203.0.113.9"), forwarded("nonsense")],
    ],
)
def test_proxy_that_names_nobody_is_a_client_itself(headers: list[tuple[str, str]]) -> None:
    assert client(PROXY, *headers) == PROXY


def test_whoever_is_behind_a_socket_can_be_a_proxy() -> None:
    assert client("", xff("203.0.113.9")) == "unix"
    assert client("", xff("203.0.113.9"), proxies=("unix",)) == "203.0.113.9"


def test_long_list_is_not_gone_through() -> None:
    clients = Clients([PROXY])
    request = make_mocked_request("GET", "/", CIMultiDict([xff(", ".join([PROXY] * 10_000))]))
    assert clients.of(request.clone(remote=PROXY)) == PROXY
    assert clients.of_address.cache_info().currsize == 1
