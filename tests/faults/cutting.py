"""A connection that breaks once the service has answered, and before the publisher has read it."""

import socket
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from urllib.parse import urlsplit

from running import LIMIT

Cut = Callable[[bytes], bytes]
"""What of a whole answer gets through."""


def nothing(_: bytes) -> bytes:
    """The answer is lost as a whole."""
    return b""


def half(answer: bytes) -> bytes:
    """The head and a part of the body get through."""
    body = answer.index(b"\r\n\r\n") + 4
    return answer[: (body + len(answer)) // 2]


class Proxy:
    """Passes requests on, one a connection, and only as much of the answers as it is told to."""

    def __init__(self, url: str, cut: Cut) -> None:
        address = urlsplit(url)
        self._service = (address.hostname, address.port)
        self._cut = cut
        self.answers: list[bytes] = []
        """What the service has answered, got through or not."""
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = "http://{}:{}".format(*self._door.getsockname())
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._door.close()

    def _serve(self) -> None:
        threads: list[threading.Thread] = []
        with suppress(OSError):  # the door is closed
            while True:
                publisher, _ = self._door.accept()
                threads.append(threading.Thread(target=self._pass_on, args=(publisher,)))
                threads[-1].start()
        for thread in threads:
            thread.join()

    def _pass_on(self, publisher: socket.socket) -> None:
        with closing(publisher), suppress(OSError):
            publisher.settimeout(LIMIT)
            with socket.create_connection(self._service, timeout=LIMIT) as service:
                service.sendall(_whole(publisher))
                answer = _whole(service)
            self.answers.append(answer)
            publisher.sendall(self._cut(answer))


def _whole(sender: socket.socket) -> bytes:
    """A request or an answer, whose head says how long it is; less if the sender goes away."""
    received = b""
    while part := sender.recv(65_536):
        received += part
        head, end, body = received.partition(b"\r\n\r\n")
        if end and len(body) >= _length(head):
            break
    return received


def _length(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.split(b"\r\n"))
    return next((int(value) for name, _, value in lines if name.lower() == b"content-length"), 0)
