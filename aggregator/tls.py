"""TLS on the sockets that the service listens on: the certificate, and how a connection speaks it.

asyncio lets a protocol know of a connection once its handshake has ended. Until then nobody would
count it; so TLS is a protocol here, which knows of a connection as soon as it is accepted. asyncio
has no public name for its own, and private parts of it are overridden.
"""

import asyncio
import hashlib
import logging
import re
import socket
import ssl
from asyncio.sslproto import SSLProtocol, _SSLProtocolTransport
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from aggregator.errors import SettingError

log = logging.getLogger(__name__)

_HANDSHAKE = 10  # seconds; asyncio's own are 60
_SHUTDOWN = 10.0  # seconds in which a client takes what is left, and says that it goes too
_UNREAD = 32_768  # bytes of records that nobody takes; twice as many before no more are received
_FIRST = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Certificate:
    """The certificate in force with its key: those of the files as they could be read last."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Read both. Raises SettingError, which says what is wrong."""
        self._cert, self._key = cert, key
        self.context, self._digest = self._read()
        """For connections that are made from now on."""

    def read_again(self) -> None:
        """Put them into force for new connections; a bad pair changes nothing, and is logged."""
        try:
            context, digest = self._read()
        except SettingError as error:
            log.error("SIGHUP: the certificate in force stays: %s", error)
            return
        what = "read again, not changed" if digest == self._digest else "a new one is in force"
        self.context, self._digest = context, digest
        log.warning("SIGHUP: the certificate %s: %s", self._cert, what)

    def _read(self) -> tuple[ssl.SSLContext, bytes]:
        # Into a context of its own: one that has read a part of a bad pair serves nobody any more.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION  # it costs the client nothing to ask for
        context.set_alpn_protocols(["http/1.1"])
        for name, path in (("tls_cert", self._cert), ("tls_key", self._key)):
            try:
                content = path.read_bytes()
            except OSError as error:
                raise SettingError(f"{name}: cannot read {path}: {error.strerror}") from error
            if name == "tls_cert":
                digest = hashlib.sha256(content).digest()
        try:
            context.load_cert_chain(self._cert, self._key, password=_no_passphrase)
        except (OSError, ValueError) as error:
            raise SettingError(
                f"tls_cert, tls_key: {self._cert} and {self._key} are no certificate with its key, "
                f"in PEM: {_why(error)}"
            ) from error
        return context, digest


def trusting(cert: Path) -> ssl.SSLContext:
    """For a client on this machine: it trusts this certificate alone, whatever the name in it.

    Raises SettingError if there is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # it is asked by its address
    context.verify_flags = ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        first = _FIRST.search(cert.read_text(encoding="ascii", errors="replace"))
        context.load_verify_locations(cadata=first[0] if first else "")
    except (OSError, ValueError) as error:
        raise SettingError(f"tls_cert: cannot read {cert}: {_why(error)}") from error
    return context


def _no_passphrase() -> NoReturn:
    """OpenSSL would ask the terminal for it."""
    raise ValueError("the key has a passphrase; write it without one")


def _why(error: Exception) -> str:
    """In words; OpenSSL's come with the line of its source."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return getattr(error, "strerror", None) or str(error)


class TlsProtocol(SSLProtocol):
    """TLS between a connection and the protocol above it; nothing that it holds grows.

    The protocol above is told of the connection once the handshake has ended.
    """

    # Bytes that are received at once, for which each connection has a buffer; asyncio's own has
    # eight times as many. A record is of 16 KiB at most.
    max_size = 32_768

    def __init__(self, above: asyncio.BaseProtocol, context: ssl.SSLContext) -> None:
        super().__init__(
            asyncio.get_running_loop(),
            above,
            context,
            waiter=None,  # type: ignore[arg-type]  # nobody waits for the handshake
            server_side=True,
            ssl_handshake_timeout=_HANDSHAKE,
            ssl_shutdown_timeout=_SHUTDOWN,
        )
        self._set_read_buffer_limits(_UNREAD)  # type: ignore[attr-defined]  # not in typeshed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        # As soon as the socket takes no more all waits here, so that one limit is for all.
        transport.set_write_buffer_limits(0)  # type: ignore[attr-defined]
        super().connection_made(transport)

    def eof_received(self) -> None:
        # While the protocol above reads nothing, asyncio would keep a connection that has ended,
        # and drop what is written to it.
        if super().eof_received() and self._transport:
            self._transport.abort()

    def _get_app_transport(self) -> _SSLProtocolTransport:
        if self._app_transport is None:
            self._app_transport = _Transport(self._loop, self)
            self._app_transport_created = True
        return self._app_transport

    def _get_write_buffer_size(self) -> int:
        unsent: int = super()._get_write_buffer_size()  # type: ignore[misc]
        if self._transport:
            unsent += self._transport.get_write_buffer_size()  # type: ignore[attr-defined]
        return unsent

    def _on_handshake_complete(self, handshake_exc: Any) -> None:
        if handshake_exc is not None:
            self._process_outgoing()  # type: ignore[attr-defined]  # or the client is not told why
        super()._on_handshake_complete(handshake_exc)


class _Transport(_SSLProtocolTransport):
    def close(self) -> None:
        # asyncio's forgets the connection when it is closed twice, and could not abort it any more.
        if not self.is_closing():
            super().close()


def protocols(
    make: ProtocolFactory,
    listening: socket.socket,
    certificate: Certificate | None,
    kind: type[TlsProtocol] = TlsProtocol,
) -> ProtocolFactory:
    """What makes the protocols of connections to that socket: with TLS if there is a certificate.

    Not for a Unix socket: nothing that is sent there leaves the machine.
    """
    if certificate is None or listening.family == socket.AF_UNIX:
        return make
    return lambda: kind(make(), certificate.context)
