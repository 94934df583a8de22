"""Where nothing can be written, what is stored is served: a full disk, a read-only one."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_disk import SmallDisk, small_disk

from events import event
from running import Service, aggregator

EVENTS = 30
READ_ONLY = "--read-only"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Where the service keeps its data."""
    with small_disk(tmp_path / "data", mebibytes=64) as disk:
        yield disk


@pytest.fixture
def service(disk: SmallDisk) -> Iterator[Service]:
    """It has stored some events, and was killed; it ends before its disk is taken away."""
    with Service(disk.folder.parent) as service:
        service.start()
        for number in range(EVENTS):
            assert service.publish(event(str(number)))[0] == 200
        service.kill()
        yield service


def remount(disk: SmallDisk, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk.folder)], check=True)


def contents(disk: SmallDisk) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in disk.folder.iterdir()
        if path.is_file() and not path.name.endswith("-shm")
    }


def check_read(service: Service, count: int = EVENTS) -> None:
    """All of that can be read, and nothing is taken."""
    assert [one["event_id"] for one in service.stored()] == [str(n) for n in range(count)]
    assert service.call("/readyz") == (200, {"status": "read-only"})
    assert service.call("/stats")[1]["unique_processed"] == count
    for number in (0, count - 1)[:count]:
        assert service.call(f"/events/logins/{number}")[0] == 200
    refused = service.ask("/publish", json.dumps(event("refused")).encode())
    assert refused.status == 503
    assert "only reads (read_only)" in refused.content["detail"]
    assert int(refused.headers["Retry-After"]) > 0
    assert service.call("/healthz")[0] == 200
    assert service.stop() == 0


def check_all_came_back(service: Service) -> None:
    """It can be written again, and was not harmed."""
    service.start()
    assert service.publish([event("0"), event("new")])[1]["stored"] == 1
    assert len(service.stored()) == EVENTS + 1
    assert service.stop() == 0


def test_full_disk_is_served_by_a_start_that_only_reads(disk: SmallDisk, service: Service) -> None:
    disk.fill()
    refused = aggregator(service.folder, "serve", "--port", "0")
    assert refused.returncode == 2
    assert "serve --read-only" in refused.stderr
    before = contents(disk)
    service.start(READ_ONLY)
    check_read(service)
    assert contents(disk) == before
    disk.clear()
    check_all_came_back(service)


def test_read_only_disk_is_served_with_what_is_in_the_log(
    disk: SmallDisk, service: Service
) -> None:
    before = contents(disk)
    remount(disk, "ro")
    refused = aggregator(service.folder, "serve", "--port", "0")
    assert refused.returncode == 2
    assert "serve --read-only" in refused.stderr
    service.start(READ_ONLY)
    check_read(service)
    remount(disk, "rw")
    assert contents(disk) == before
    check_all_came_back(service)


def test_log_that_cannot_be_read_there_is_said_to_be_left_out(
    disk: SmallDisk, service: Service
) -> None:
    """Its index is gone, and cannot be made."""
    (disk.folder / "aggregator.db-shm").unlink()
    remount(disk, "ro")
    service.start(READ_ONLY)
    assert service.process.stdout
    about = service.process.stdout.readline()
    assert f"read only, without {EVENTS} commits in its log" in about
    assert f"{EVENTS} commits in the log are not shown" in service.said()
    check_read(service, count=0)
    remount(disk, "rw")
    check_all_came_back(service)


def test_stopped_store_on_a_read_only_disk_is_served_whole(
    disk: SmallDisk, service: Service
) -> None:
    service.start()
    assert service.stop() == 0
    remount(disk, "ro")
    service.start(READ_ONLY)
    assert "not shown" not in service.said()
    check_read(service)
    remount(disk, "rw")
    check_all_came_back(service)


def test_service_on_a_disk_that_is_full_is_read_by_another_beside_it(
    disk: SmallDisk, service: Service
) -> None:
    service.start()
    disk.fill()
    for number in range(1000):
        if service.publish(event(f"more-{number}", payload={"filler": "x" * 65_000}))[0] != 200:
            break
    assert service.call("/readyz")[0] == 503
    stored = len(service.stored())
    with Service(service.folder) as beside:
        beside.start(READ_ONLY)
        assert len(beside.stored()) == stored
        assert beside.call("/readyz")[0] == 200
        disk.clear()
        service.until_ready()
        assert service.publish(event("at last"))[1]["stored"] == 1
        assert beside.stored()[-1]["event_id"] == "at last"
        assert beside.stop() == 0
    assert service.stop() == 0
