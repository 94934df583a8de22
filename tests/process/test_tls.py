"""The service with a certificate: who connects, what a bad one does, and how it is renewed."""

import json
import re
import signal
import socket
import ssl
import time
from contextlib import ExitStack, closing
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from certificates import Pair, make_pair
from events import event
from running import Service, aggregator, until


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """A pair that this process, and what it starts, trusts."""
    pair = make_pair(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pair.cert))
    return pair


def port_of(service: Service) -> int:
    return int(service.url.rpartition(":")[2])


def presented(port: int) -> bytes:
    """The certificate that a new connection is shown."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port), timeout=10))


def content(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.cert.read_text())


def test_events_are_stored_and_commands_find_the_service(service: Service, pair: Pair) -> None:
    url = service.start(*pair.flags)
    assert url.startswith("https://127.0.0.1:")
    large = event("large", payload={"filler": "x" * 900_000})
    assert service.publish([event(str(number)) for number in range(1000)])[0] == 200
    assert service.publish(large)[0] == 200
    assert len(service.stored()) == 1001
    port = ("--port", str(port_of(service)))
    nothing_trusted = {"SSL_CERT_FILE": "/dev/null"}
    for flags in (pair.flags, ()):
        asked = aggregator(
            service.folder, "health", *port, *flags, environ=nothing_trusted if flags else {}
        )
        assert asked.returncode == (0 if flags else 1), asked.stderr
        assert ("speaks TLS" in asked.stderr) is (not flags)
    asked = aggregator(service.folder, "health", "--url", url)
    assert asked.returncode == 0
    asked = aggregator(service.folder, "health", "--url", url, environ=nothing_trusted)
    assert (asked.returncode, "CERTIFICATE_VERIFY_FAILED" in asked.stderr) == (1, True)
    other = make_pair(service.folder, "other")
    for command in (("health",), ("token", "whoami")):
        asked = aggregator(service.folder, *command, *port, *other.flags)
        assert (asked.returncode, "CERTIFICATE_VERIFY_FAILED" in asked.stderr) == (1, True)
    assert service.stop() == 0


def test_bad_pair_stops_the_start_and_is_named(service: Service, pair: Pair) -> None:
    other = make_pair(service.folder, "other")
    closed = make_pair(service.folder, "closed", passphrase="secret")
    (service.folder / "empty.pem").touch()
    for cert, key, told in (
        (pair.cert, None, "tls_key: tls_cert needs it"),
        (None, pair.key, "tls_cert: tls_key needs it"),
        (pair.cert, other.key, "one.pem and .*other.key are no certificate with its key, in PEM"),
        (pair.key, pair.cert, "are no certificate with its key"),
        ("empty.pem", pair.key, "are no certificate with its key"),
        ("missing.pem", pair.key, "tls_cert: cannot read missing.pem: No such file"),
        (pair.cert, "missing.key", "tls_key: cannot read missing.key: No such file"),
        (pair.cert, ".", "tls_key: cannot read .: Is a directory"),
        (closed.cert, closed.key, "the key has a passphrase"),
    ):
        flags = [
            *(("--tls-cert", str(cert)) if cert else ()),
            *(("--tls-key", str(key)) if key else ()),
        ]
        for command in ("serve", "settings"):
            asked = aggregator(service.folder, command, *flags)
            assert asked.returncode == 2
            (line,) = asked.stderr.splitlines()
            assert re.search(told, line), line


def test_hangup_takes_a_new_certificate_while_connections_go_on(
    service: Service, pair: Pair
) -> None:
    service.start(*pair.flags)
    port, first = port_of(service), content(pair)
    held = HTTPSConnection("127.0.0.1", port, timeout=10, context=pair.trusted)
    with closing(held):

        def ask_on_it() -> None:
            held.request("GET", "/readyz")
            assert json.load(held.getresponse()) == {"status": "ready"}

        ask_on_it()
        assert presented(port) == first
        second = make_pair(service.folder, "second")
        new = content(second)
        pair.key.write_bytes(second.key.read_bytes())  # a renewal that is half done
        service.process.send_signal(signal.SIGHUP)
        until(lambda: "the certificate in force stays" in service.said(), "the bad pair is told")
        assert presented(port) == first
        ask_on_it()
        second.put_in_place_of(pair)
        service.process.send_signal(signal.SIGHUP)
        until(lambda: "one.pem: a new one is in force" in service.said(), "it is taken")
        assert presented(port) == new
        ask_on_it()
    service.process.send_signal(signal.SIGHUP)
    until(lambda: "one.pem: read again, not changed" in service.said(), "it is the same")
    assert service.stop() == 0


def test_stop_does_not_wait_for_handshakes(service: Service, pair: Pair) -> None:
    service.start(*pair.flags)
    with ExitStack() as stack:
        for number in range(100):
            one = socket.create_connection(("127.0.0.1", port_of(service)))
            stack.enter_context(one)
            if number % 2:
                one.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert service.publish(event())[0] == 200
        begun = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - begun < 8  # it gives up after 14


def test_unix_socket_is_plain(service: Service, pair: Pair) -> None:
    path = service.folder / "a.sock"
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(path))
        listening.listen()
        service.hand_over(listening)
        assert service.start(*pair.flags) == f"unix:{path}"
        with closing(socket.socket(socket.AF_UNIX)) as one:
            one.connect(str(path))
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert one.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_metrics_have_it_on_their_own_port(
    service: Service, pair: Pair, unused_tcp_port: int
) -> None:
    service.start(*pair.flags, "--metrics-port", str(unused_tcp_port))
    connection = HTTPSConnection("127.0.0.1", unused_tcp_port, timeout=10, context=pair.trusted)
    with closing(connection):
        connection.request("GET", "/metrics")
        assert b"aggregator_" in connection.getresponse().read()
