"""What is answered, and the fsyncs before it, slow or failing for real: strace sees to both."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from events import event
from running import MUTANTS, Service, until
from tracing import conducting, syncs

UNFINISHED = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")
SYNCED = re.compile(r"(?:fsync|fdatasync)\(.*\) += 0(?: \(DELAYED\))?$")


pytestmark = pytest.mark.usefixtures("strace")


def publish_until(service: Service, wanted: int, names: Iterator[int]) -> str:
    """Publish one event after another until one is answered so; its id."""
    answered = ""

    def is_answered() -> bool:
        nonlocal answered
        answered = str(next(names))
        return service.publish(event(answered))[0] == wanted

    until(is_answered, f"a publish is answered {wanted}")
    return answered


def test_answer_is_sent_once_the_fsync_of_its_commit_has_ended(service: Service) -> None:
    service.start()
    with syncs(service, "delay_enter=50000") as trace:  # microseconds
        for number in range(5):
            assert service.publish(event(str(number)))[0] == 200
    synced = False
    answers = 0
    for line in calls(trace):
        synced = synced or bool(SYNCED.search(line) and "aggregator.db-wal>" in line)
        if "HTTP/1.1 200" in line:
            assert synced, trace.read_text()
            synced = False
            answers += 1
    assert answers == 5


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize(("failing", "number"), [("fsync,fdatasync", 8), ("pwrite64", 30)])
def test_after_a_failure_nothing_is_acknowledged_before_a_checkpoint_is_on_disk(
    service: Service, failing: str, number: int, error: str
) -> None:
    service.start()
    names = iter(range(10**6))
    with conducting(service, failing, f"error={error}:when={number}") as trace:
        failed = publish_until(service, 503, names)
        publish_until(service, 200, names)
    lines = calls(trace)
    failure = next(place for place, line in enumerate(lines) if "(INJECTED)" in line)
    assert "aggregator.db-wal>" in lines[failure]
    answers = [place for place, line in enumerate(lines) if place > failure and "HTTP/" in line]
    assert " 503" in lines[answers[0]], "the batch that failed was not answered 503"
    first = next(place for place in answers if " 200" in lines[place])
    synced = [line for line in lines[failure:first] if SYNCED.search(line)]
    assert any("aggregator.db>" in line for line in synced), "\n".join(lines[failure:first])
    assert service.publish(event(failed))[0] == 200
    check_stored_once(service)


def test_store_that_goes_on_after_a_failure_is_found_out(service: Service) -> None:
    class Mutated(Service):
        def start(self, *flags: str, environ: dict[str, str] | None = None) -> str:
            store = f"goes-on:///{self.folder}/data/aggregator.db"
            return super().start("--store", store, *flags, environ=MUTANTS)

    with Mutated(service.folder) as mutated, pytest.raises(AssertionError, match=r"\(INJECTED\)"):
        test_after_a_failure_nothing_is_acknowledged_before_a_checkpoint_is_on_disk(
            mutated, "fsync,fdatasync", 8, "EIO"
        )


def test_after_a_failed_fsync_a_log_that_somebody_reads_for_long_is_written_again(
    service: Service,
) -> None:
    """Such a reader, a backup say, keeps the newest commits from being copied out of the log."""
    service.start()
    names = iter(range(10**6))
    with closing(sqlite3.connect(service.folder / "data" / "aggregator.db")) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM events").fetchone() == (0,)
        with syncs(service, "error=EIO:when=8") as trace:
            failed = publish_until(service, 503, names)
            publish_until(service, 200, names)
        assert reader.execute("SELECT count(*) FROM events").fetchone() == (0,)
    lines = calls(trace)
    failure = next(place for place, line in enumerate(lines) if "(INJECTED)" in line)
    rest = lines[failure + 1 :]
    first = next(place for place, line in enumerate(rest) if "HTTP/1.1 200" in line)
    again = [line for line in rest[:first] if "fsync(" in line]  # SQLite itself says fdatasync
    assert any("aggregator.db-wal>" in line and SYNCED.search(line) for line in again), rest
    assert service.publish(event(failed))[0] == 200
    check_stored_once(service)


def test_while_no_fsync_succeeds_nothing_is_acknowledged(service: Service) -> None:
    service.start()
    assert service.publish(event("before"))[0] == 200
    with syncs(service, "error=EIO"):
        assert service.publish(event("during"))[0] == 503
        tried = service.said().count("the store failed")
        for _ in range(20):
            assert service.publish(event("during"))[0] == 503
            assert service.call("/readyz")[0] == 503
        until(
            lambda: service.said().count("the store failed") > tried + 2,
            "the service tries to get its store back",
        )
        assert service.publish(event("before"))[0] == 503
    service.until_ready()
    assert service.publish([event("during"), event("before")])[0] == 200
    check_stored_once(service)
    assert service.stop() == 0


def calls(trace: Path) -> list[str]:
    """The traced calls in the order of their ends."""
    begun: dict[str, str] = {}
    ended = []
    for line in trace.read_text().splitlines():
        if call := UNFINISHED.match(line):
            begun[call[1]] = call[2]
        elif call := RESUMED.match(line):
            ended.append(begun.pop(call[1], "") + call[2])
        else:
            ended.append(line)
    return ended


def check_stored_once(service: Service) -> None:
    """No event is stored twice, and the numbers say so too."""
    stored = [one["event_id"] for one in service.stored()]
    assert len(set(stored)) == len(stored)
    stats = service.call("/stats")[1]
    assert stats["unique_processed"] == len(stored)
    assert stats["received_total"] == len(stored) + stats["duplicate_dropped"]
