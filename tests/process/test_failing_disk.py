"""Writes that really fail: the service says so, acknowledges nothing, and comes back by itself."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from random import SystemRandom

from events import event
from publishers import Publishers, check_everything
from running import LIMIT, Service, until

LIMITED_START = """
import os, resource, sys
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
os.execv(sys.executable, [sys.executable, "-m", "aggregator", "serve", "--port", "0"])
"""


@contextmanager
def no_file_beyond(service: Service, size: int) -> Iterator[None]:
    """Every write of the running service beyond `size` bytes of a file fails with EFBIG."""
    soft, hard = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (size, hard))
    yield
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (soft, hard))


def test_failed_write_is_answered_503_until_the_disk_is_well_again(service: Service) -> None:
    service.start()
    assert service.publish(event("before"))[0] == 200
    with no_file_beyond(service, 0):
        for _ in range(3):
            answer = service.ask(
                "/publish", json.dumps([event("during"), event("before")]).encode()
            )
            assert answer.status == 503
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert int(answer.headers["Retry-After"]) > 0
            assert "SQLITE_" in answer.content["detail"]
            assert "results" not in answer.content
        ready = service.ask("/readyz")
        assert ready.status == 503
        assert ready.headers["Content-Type"] == "application/problem+json"
        assert "SQLITE_" in ready.content["detail"]
        assert service.call("/healthz")[0] == 200
    service.until_ready()
    assert service.publish(event("during"))[0] == 200
    assert [one["event_id"] for one in service.stored()] == ["before", "during"]
    stats = service.call("/stats")[1]
    assert stats["unique_processed"] == 2
    assert stats["received_total"] == stats["unique_processed"] + stats["duplicate_dropped"]
    service.kill()
    service.start()
    assert [one["event_id"] for one in service.stored()] == ["before", "during"]
    restarted = service.call("/stats")[1]
    assert restarted | {"uptime_seconds": 0} == stats | {"uptime_seconds": 0}


def test_what_publishers_were_told_while_the_disk_failed_is_true(service: Service) -> None:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    service.start()
    log = service.folder / "data" / "aggregator.db-wal"
    with Publishers(service, seed, count=6) as publishers:
        ledger = publishers.ledger
        for room in (0, 40_000, 300_000):
            enough = ledger.answers + 50
            until(lambda: ledger.answers >= enough, "publishers are answered")  # noqa: B023
            lost = ledger.unanswered
            limit = (log.stat().st_size if log.exists() else 0) + room
            with no_file_beyond(service, limit):
                until(lambda: ledger.unanswered > lost + 6, "publishers are refused")  # noqa: B023
            service.until_ready()
        publishers.finish()
    check_everything(service, ledger)
    service.kill()
    service.start()
    check_everything(service, ledger)


def test_start_on_a_disk_that_fails_says_so(service: Service) -> None:
    service.start()
    service.publish(event())
    service.kill()
    started = subprocess.run(
        [sys.executable, "-c", LIMITED_START],
        cwd=service.folder,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert started.returncode == 2
    assert "SQLITE_" in started.stderr
    assert "Traceback" not in started.stderr
    service.start()
    assert service.publish(event())[1]["duplicates"] == 1
