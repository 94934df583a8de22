"""The disk is full: nothing false is said, all can be read, and room is all that is needed."""

import json
import os
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import SystemRandom
from typing import Any

import pytest
from small_disk import SmallDisk, small_disk

from events import event
from publishers import Publishers, check_everything
from running import LIMIT, Service, aggregator, until

ROOM = 800_000
ROOM_OF_THE_LOG = 20_000_000
"""More than the pages of the log that the first part of its index tells of: 4,062 of 4 kB."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Where the service keeps its data."""
    with small_disk(tmp_path / "data", mebibytes=64) as disk:
        yield disk


@pytest.fixture
def service(disk: SmallDisk) -> Iterator[Service]:
    """It ends before its disk is taken away."""
    with Service(disk.folder.parent) as service:
        yield service


def publish_until_full(service: Service, disk: SmallDisk) -> Publishers:
    """Publishers who have used up the room, and who go on."""
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    service.start()
    disk.fill(leaving=ROOM)
    return Publishers(service, seed, count=6)


def until_refused(service: Service, publishers: Publishers) -> None:
    """Wait until nobody's events are taken any more."""
    lost = publishers.ledger.unanswered
    until(
        lambda: service.call("/readyz")[0] == 503 and publishers.ledger.unanswered > lost + 12,
        "the disk is full",
    )


def large(number: int) -> dict[str, Any]:
    """An event of some 16 pages."""
    return event(str(number), payload={"filler": "x" * 65_000})


def stored(service: Service) -> dict[tuple[str, str], int]:
    return {(one["topic"], one["event_id"]): one["seq"] for one in service.stored()}


def check_file(service: Service) -> None:
    """Stop it, and have SQLite look for damage."""
    assert service.stop() == 0
    with closing(sqlite3.connect(service.folder / "data" / "aggregator.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_full_disk_is_answered_503_until_there_is_room_without_a_restart(
    service: Service, disk: SmallDisk
) -> None:
    with publish_until_full(service, disk) as publishers:
        ledger = publishers.ledger
        until_refused(service, publishers)
        refused = service.ask("/publish", json.dumps(event("refused")).encode())
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert "SQLITE_FULL" in refused.content["detail"], refused.content
        assert service.call("/healthz")[0] == 200
        answered = dict(ledger.seqs)
        assert answered.items() <= stored(service).items(), "it cannot be read while it is full"
        assert service.call("/stats")[1]["unique_processed"] >= len(answered)
        disk.clear()
        service.until_ready()
        enough = ledger.answers + 50
        until(lambda: ledger.answers > enough, "publishers get on")
        publishers.finish()
    check_everything(service, ledger)
    check_file(service)


def test_killed_while_the_disk_is_full_it_says_why_it_cannot_start_and_loses_nothing(
    service: Service, disk: SmallDisk
) -> None:
    with publish_until_full(service, disk) as publishers:
        ledger = publishers.ledger
        until_refused(service, publishers)
        service.kill()
        answered = dict(ledger.seqs)
        disk.fill()
        for _ in range(2):
            check_start_is_refused(service.folder)
        disk.clear()
        service.start()
        assert answered.items() <= stored(service).items()
        publishers.finish()
    assert answered
    check_everything(service, ledger)
    check_file(service)


def test_new_store_on_a_full_disk_says_why_it_cannot_start_and_can_later(
    service: Service, disk: SmallDisk
) -> None:
    disk.fill()
    for _ in range(2):
        check_start_is_refused(service.folder)
    disk.clear()
    service.start()
    assert service.publish(event())[1]["stored"] == 1
    check_file(service)


def test_log_whose_index_cannot_grow_is_a_failed_commit_and_no_crash(
    service: Service, disk: SmallDisk
) -> None:
    service.start()
    assert service.publish(event("before"))[0] == 200
    log = service.folder / "data" / "aggregator.db-wal"
    with closing(sqlite3.connect(service.folder / "data" / "aggregator.db")) as reader:
        reader.execute("BEGIN").execute("SELECT * FROM events").fetchall()  # keeps the log growing
        with log.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, ROOM_OF_THE_LOG)
        disk.fill()
        numbers = iter(range(10**6))
        while service.publish(large(next(numbers)))[0] == 200:
            assert log.stat().st_size <= ROOM_OF_THE_LOG
        assert log.stat().st_size == ROOM_OF_THE_LOG, "the log itself was full first"
        assert service.publish(event("refused"))[0] == 503
        assert "SQLITE_IOERR_SHMSIZE" in service.said()
        assert service.call("/readyz")[0] == 503
        assert len(service.stored()) == next(numbers)
    disk.clear()
    service.until_ready()
    assert service.publish(event("refused"))[0] == 200
    check_file(service)


def test_what_was_answered_before_the_disk_is_stored_once_there_is_room_on_it(
    service: Service, disk: SmallDisk
) -> None:
    service.start()
    disk.fill()
    request = urllib.request.Request(
        f"{service.url}/publish",
        json.dumps(event()).encode(),
        {"Content-Type": "application/json", "Prefer": "respond-async"},
    )
    with urllib.request.urlopen(request, timeout=LIMIT) as answer:
        assert answer.status == 202
    until(lambda: service.call("/readyz")[0] == 503, "the disk is full")
    assert service.call("/stats")[1]["queue_size_current"] == 1
    assert service.stored() == []
    disk.clear()
    until(service.stored, "it is stored")
    assert service.publish(event())[1]["duplicates"] == 1
    check_file(service)


def check_start_is_refused(folder: Path) -> None:
    """Once, with one clear message."""
    ended = aggregator(folder, "serve", "--port", "0")
    assert ended.returncode == 2, ended
    assert "aggregator.db" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert any(words in ended.stderr for words in ("SQLITE_FULL", "SQLITE_IOERR", "No space"))
