"""A disk that fails or is full, write by write and sync by sync: nothing is told that is not so."""

import json
import re
from random import SystemRandom

import pytest

from events import event
from publishers import Publishers, check_everything
from running import Service, until
from tracing import conducting

WRITES, SYNCS = "pwrite64", "fsync,fdatasync"

pytestmark = [
    pytest.mark.usefixtures("strace"),
    pytest.mark.parametrize("calls", [WRITES, SYNCS]),
    pytest.mark.parametrize("error", ["EIO", "ENOSPC"]),
]


@pytest.mark.parametrize("before", [[], ["before"]], ids=["empty log", "used log"])
def test_while_the_disk_fails_nothing_is_acknowledged_and_afterwards_all_is_well(
    service: Service, calls: str, error: str, before: list[str]
) -> None:
    service.start()
    for name in before:
        assert service.publish(event(name))[0] == 200
    with conducting(service, calls, f"error={error}"):
        for name in ("during", "during", *before):
            answer = service.ask("/publish", json.dumps(event(name)).encode())
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) > 0
        tried = service.said().count("the store failed")
        until(lambda: service.said().count("the store failed") > tried + 1, "it tries again")
        ready = service.ask("/readyz")
        assert ready.status == 503
        assert re.search("SQLITE_|cannot write", ready.content["detail"])
        assert service.call("/healthz")[0] == 200
        assert [one["event_id"] for one in service.stored()] == before
    service.until_ready()
    for name in ("during", *before):
        assert service.publish(event(name))[0] == 200
    check_stored(service, [*before, "during"])
    service.kill()
    service.start()
    check_stored(service, [*before, "during"])


def test_what_publishers_were_told_while_the_disk_failed_again_and_again_is_true(
    service: Service, calls: str, error: str
) -> None:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    service.start()
    with Publishers(service, seed) as publishers:
        ledger = publishers.ledger
        with conducting(service, calls, f"error={error}:when=25+25"):
            until(lambda: service.said().count("the store failed") > 3, "the disk has failed")
        service.until_ready()
        enough = ledger.answers + 20
        until(lambda: ledger.answers > enough, "publishers get on")
        publishers.finish()
    assert ledger.unanswered
    check_everything(service, ledger)
    service.kill()
    service.start()
    check_everything(service, ledger)


def check_stored(service: Service, names: list[str]) -> None:
    """These are stored, each once, and the numbers say so."""
    assert sorted(one["event_id"] for one in service.stored()) == sorted(names)
    stats = service.call("/stats")[1]
    assert stats["unique_processed"] == len(names)
    assert stats["received_total"] == len(names) + stats["duplicate_dropped"]
