"""A page that has its own name point to this machine is refused, since the name stands in Host."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector, web
from bodies import PROBLEM, get
from wire import Answer, exchange

from aggregator import starting
from aggregator.api import hosts
from aggregator.api.hosts import Hosts
from aggregator.api.protocol import AppRunner
from aggregator.app import create_app
from aggregator.config import load
from aggregator.errors import SettingError
from aggregator.plugins import Plugins
from aggregator.server import hosts_of
from aggregator.starting import StartingServer
from conftest import Client, Start
from events import event

OURS = (
    *("localhost", "localhost:8080", "LOCALHOST", "localhost.", "Localhost.:80", "localhost:"),
    *("a.localhost", "a.b.localhost:1", "127.0.0.1", "127.0.0.1:8080", "10.1.2.3", "192.0.2.7:1"),
    *("[::1]", "[::1]:8080", "[2001:DB8::1]", "[fe80::1%eth0]", "[fe80::1%25eth0]:80", ""),
    *("listed.example", "Listed.Example.:8443", "other.example"),
)
FOREIGN = (
    *("evil.example", "evil.example:8080", "localhost.evil.example", "evillocalhost", "tests"),
    *("127.0.0.1.evil.example", "evil.example:127.0.0.1", "a.listed.example", "listed.example.."),
    *("user@localhost", "localhost@evil.example", "a:b@127.0.0.1", "localhost:80@evil.example"),
    *("localhost:8a", "localhost:-1", "localhost:80:80", "[::1", "::1", "[::1]a", "[evil.example]"),
    *("[]", "[127.0.0.1]", "127.1", "2130706433", "0x7f.0.0.1", "127.0.0.1.1", "1.2.3.4/x"),
    *("localhost evil.example", "evil.example,localhost", "http://localhost", "*", ".", ":80"),
    *("\udcff", "lócalhost", "١٢٧.0.0.1", "localhost:٨٠", "localhost" * 1000),
)


@pytest.mark.parametrize("host", OURS)
def test_name_of_this_service_is_answered(host: str) -> None:
    assert Hosts(["listed.example", "Other.example."]).has(host)


@pytest.mark.parametrize("host", FOREIGN)
def test_other_name_is_not(host: str) -> None:
    assert not Hosts(["listed.example", "Other.example."]).has(host)


def test_verdicts_that_are_remembered_are_bounded() -> None:
    ours = Hosts([])
    for number in range(2 * hosts._REMEMBERED):
        assert not ours.has(f"{number}.example")
        assert not ours.has("x" * (hosts._LONGEST + 1 + number))
    assert ours._is_ours.cache_info().currsize == hosts._REMEMBERED


CALLS = (
    *(("GET", "/"), ("GET", "/nothing"), ("GET", "/events"), ("GET", "/events?limit=x")),
    *(("HEAD", "/events"), ("GET", "/events/stream"), ("GET", "/events/a/b"), ("GET", "/stats")),
    *(("POST", "/publish"), ("PUT", "/publish"), ("OPTIONS", "/publish"), ("GET", "/publish")),
    *(("DELETE", "/quarantine?after=0"), ("POST", "/quarantine/release?after=0")),
    *(("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/docs/start.js")),
    *(("GET", "/healthz/"), ("GET", "/readyz/x"), ("GET", "/HEALTHZ")),
)
PREFLIGHT = {"Access-Control-Request-Method": "DELETE", "Origin": "http://evil.example"}


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_page_of_another_name_gets_nothing_at_all(
    start: Start, method: str, path: str
) -> None:
    client = await start(hosts="", cors_origins="*")
    headers = {
        **PREFLIGHT,
        "Host": "evil.example:8080",
        "Sec-Fetch-Site": "same-origin",
        "X-Forwarded-Host": "localhost",
        "Accept": "application/x-ndjson",
    }
    async with client.request(method, path, json=event(), headers=headers) as response:
        assert (response.status, response.content_type) == (421, PROBLEM)
        assert not [name for name in response.headers if name.startswith("Access-Control")]
        if method != "HEAD":
            told = await response.json(content_type=PROBLEM)
            assert told["title"] == "Misdirected Request"
            assert "'evil.example:8080'" in told["detail"]
            assert "the setting hosts" in told["detail"]
    assert (await get(client, "/stats"))["received_total"] == 0


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/readyz", 200)])
async def test_health_is_told_under_every_name(start: Start, path: str, status: int) -> None:
    client = await start(hosts="listed.example")
    async with client.get(path, headers={"Host": "10-1-2-3.pods.example"}) as response:
        assert response.status == status


async def test_own_names_are_answered(start: Start) -> None:
    client = await start(hosts="listed.example, other.example")
    for host in ("listed.example", "other.example:443", "localhost:1", "[::1]", "10.0.0.1"):
        async with client.get("/events", headers={"Host": host}) as response:
            assert response.status == 200
    assert (await get(client, "/events"))["events"] == []


async def _asked(client: Client, head: bytes) -> Answer:
    return await exchange(str(client.host), int(client.port or 0), [head + b"\r\n\r\n"])


LAST = b"Connection: close"
SPELLINGS = {
    b"GET http://evil.example/events HTTP/1.1\r\nHost: localhost\r\n": 421,
    b"GET http://localhost/events HTTP/1.1\r\nHost: evil.example\r\n": 421,
    b"GET http://localhost@evil.example/events HTTP/1.1\r\nHost: localhost\r\n": 421,
    b"GET http://evil@localhost/events HTTP/1.1\r\nHost: localhost\r\n": 421,
    b"GET http://localhost:1/events HTTP/1.1\r\nHost: localhost\r\n": 200,
    b"GET HTTP://LOCALHOST/events HTTP/1.1\r\nHost: localhost\r\n": 200,
    b"GET http://[::1]:80/events HTTP/1.1\r\nHost: [::1]\r\n": 200,
    b"GET http://evil.example/healthz HTTP/1.1\r\nHost: evil.example\r\n": 200,
    b"GET //evil.example/events HTTP/1.1\r\nHost: localhost\r\n": 404,
    b"GET //healthz HTTP/1.1\r\nHost: evil.example\r\n": 421,
    b"GET /events/../healthz HTTP/1.1\r\nHost: evil.example\r\n": 421,
    b"GET /events HTTP/1.0\r\n": 200,
    b"GET /events HTTP/1.0\r\nHost: evil.example\r\n": 421,
    b"GET /events HTTP/1.1\r\nHost:\r\n": 200,
    b"GET /events HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n": 400,
    b"GET /events HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n": 400,
    b"GET /events HTTP/1.1\r\nhOST:evil.example\r\n": 421,
    b"GET /events HTTP/1.1\r\nHost: \xff\r\n": 421,
    b"GET /events HTTP/1.1\r\nHost: localhost\xff\r\n": 421,
    b"GET /events HTTP/1.1\r\nHost: localhost \t \r\n": 200,
    b"OPTIONS * HTTP/1.1\r\nHost: evil.example\r\n": 421,
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n": 204,
    b"CONNECT evil.example:80 HTTP/1.1\r\nHost: localhost\r\n": 421,
    b"POST /publish HTTP/1.1\r\nHost: evil.example\r\nExpect: 100-continue\r\n"
    b"Content-Length: 2\r\n": 421,
    b"POST /publish HTTP/1.1\r\nHost: evil.example\r\nExpect: \xff\r\nContent-Length: 2\r\n": 421,
}


@pytest.mark.parametrize(("head", "status"), SPELLINGS.items())
async def test_host_is_found_however_it_is_spelled(start: Start, head: bytes, status: int) -> None:
    answer = await _asked(await start(hosts=""), head + LAST)
    assert answer.status == status
    assert answer.status < 400 or answer.content_type == PROBLEM


async def test_client_of_a_unix_socket_may_say_any_name(tmp_path: Path) -> None:
    app = create_app(load({"store": "memory:"}, {}), Plugins.installed())
    runner = AppRunner(app, Hosts([]))
    await runner.setup()
    try:
        await web.UnixSite(runner, str(tmp_path / "socket")).start()
        connector = UnixConnector(str(tmp_path / "socket"))
        async with (
            ClientSession(connector=connector) as session,
            session.get("http://evil.example/events") as response,
        ):
            assert response.status == 200
    finally:
        await runner.cleanup()


@pytest.fixture
def everywhere() -> Iterator[socket.socket]:
    with closing(socket.create_server(("0.0.0.0", 0))) as one:
        yield one


def test_beyond_loopback_it_is_looked_at_only_where_names_are_listed(
    listening: socket.socket, everywhere: socket.socket
) -> None:
    usual = load({}, {}).settings
    assert hosts_of(usual, [everywhere]) is None
    assert hosts_of(usual, [listening, everywhere]) is None
    ours = hosts_of(usual, [listening])
    assert ours
    assert not ours.has("evil.example")
    listed = load({"hosts": "a.example,b.example", "host": "c.example"}, {}).settings
    for bound in ([everywhere], [listening, everywhere], [listening]):
        ours = hosts_of(listed, bound)
        assert ours
        assert all(ours.has(f"{name}.example") for name in "abc")
        assert not ours.has("d.example")


def test_unix_socket_alone_has_no_name(tmp_path: Path, listening: socket.socket) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as one:
        one.bind(str(tmp_path / "socket"))
        assert hosts_of(load({}, {}).settings, [one, listening])


class SocketAt(socket.socket):
    """As a socket of IPv6 at that address says it, on a machine without IPv6 too."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address

    def getsockname(self) -> tuple[str, int, int, int]:
        return self.address, 80, 0, 0


@pytest.mark.parametrize(
    ("address", "is_loopback"),
    [("::ffff:127.0.0.1", True), ("::1", True), ("::ffff:1.2.3.4", False)],
)
def test_loopback_address_in_the_form_of_ipv6_is_one(address: str, *, is_loopback: bool) -> None:
    with closing(SocketAt(address)) as one:
        assert bool(hosts_of(load({}, {}).settings, [one])) == is_loopback


@pytest.mark.parametrize(
    "name",
    ["a.example:80", "http://a.example", "*.example", "a b", "[::1]", "büro.example", "a..b", "."],
)
def test_what_is_no_name_stops_the_start(name: str) -> None:
    with pytest.raises(SettingError, match=r"hosts: .* is no name"):
        load({"hosts": f"good.example,{name}"}, {})


async def test_name_counts_while_the_service_starts(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "_SHORT", 0.0)
    monkeypatch.setattr(starting, "_LINGER", 0.0)
    listening.setblocking(False)
    address = listening.getsockname()
    async with StartingServer([listening], lambda: "indexing /secret", Hosts([])):
        for path, host, status in (
            (b"/events", b"evil.example", 421),
            (b"/events", b"localhost", 503),
            (b"/healthz", b"evil.example", 200),
        ):
            head = b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, host)
            answer = await exchange(*address, [head])
            assert answer.status == status
            assert (b"/secret" in answer.body) is (status == 503)
