"""All files that the process may have are taken by connections: nothing false is said meanwhile."""

import resource
import socket
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from events import event
from running import Service, until

SPARE = 10  # connections that it can still take
CROWD = 40


def test_service_without_files_serves_again_once_the_crowd_has_gone(service: Service) -> None:
    service.start()
    assert service.publish(event("before"))[0] == 200
    pid = service.process.pid
    taken = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (taken + SPARE, hard))
    address = urlsplit(service.url)
    with ExitStack() as crowd:
        first = crowd.enter_context(socket.create_connection((address.hostname, address.port)))
        for _ in range(CROWD):
            where = address.hostname, address.port
            crowd.enter_context(socket.create_connection(where))
        until(lambda: "out of system resource" in service.said(), "it has no more files")
        first.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert first.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert service.publish([event("before"), event("after")])[0] == 200
    assert [one["event_id"] for one in service.stored()] == ["before", "after"]
    assert service.stop() == 0
