"""Copies that are taken while publishers publish, and what can go wrong meanwhile."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom

import pytest

from events import event
from publishers import Publishers, check_everything
from restored import BACKUP, RESTORE, check_restored, run_block
from running import LIMIT, MUTANTS, Service, aggregator, until

LARGE = 1_000_000  # bytes of a payload: a copy of a few dozens takes long enough to be met
TRIES = 10
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
os.execv(sys.executable, [sys.executable, "-m", "aggregator", "backup", "copy.db"])
"""


@pytest.fixture
def seed() -> int:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    return seed


def start_and_fill(service: Service) -> None:
    """With large events that are not valid: they are in the store, and not among its events."""
    service.start("--on-invalid", "quarantine")
    large = event(timestamp="", payload={"text": "x" * LARGE})
    for _ in range(2):
        assert service.publish([large] * 10)[0] == 422


def drafts(folder: Path) -> list[Path]:
    return list(folder.glob(".copy.db.*"))


@contextmanager
def halted_backup(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A backup to copy.db that stands still in the middle, and goes on when it is told to."""
    for _ in range(TRIES):
        process = subprocess.Popen(
            [sys.executable, "-m", "aggregator", "backup", "copy.db"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            while not is_copying(folder) and process.poll() is None:
                pass
            process.send_signal(signal.SIGSTOP)
            if is_copying(folder):
                yield process
                return
        finally:
            process.kill()
            process.communicate(timeout=LIMIT)
        (folder / "copy.db").unlink(missing_ok=True)
    pytest.fail(f"{TRIES} backups were made too fast to be met in the middle")


def is_copying(folder: Path) -> bool:
    """SQLite has its journal beside the draft as long as it writes to it."""
    return any(draft.name.endswith("-journal") for draft in drafts(folder))


def go_on(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Let it come to its end; its exit status, and all it said."""
    process.send_signal(signal.SIGCONT)
    said = "".join(process.communicate(timeout=LIMIT))
    return process.returncode, said


def test_copies_made_while_publishers_publish_hold_what_was_answered_before(
    service: Service, tmp_path: Path, seed: int
) -> None:
    service.start()
    befores = []
    with Publishers(service, seed) as publishers:
        ledger = publishers.ledger
        for number in range(2):
            enough = ledger.answers + 50
            until(lambda: ledger.answers > enough, "the publishers get on")  # noqa: B023
            befores.append(dict(ledger.seqs))
            made = aggregator(tmp_path, "backup", f"{number}.db")
            assert made.returncode == 0, made.stderr
            assert made.stdout.startswith(f"{number}.db: ")
        publishers.finish()
    assert ledger.unanswered == 0, "publishers were disturbed"
    check_everything(service, ledger)
    seqs = ledger.seqs
    counts = [
        check_restored(tmp_path / f"restored-{number}", tmp_path / f"{number}.db", before, seqs)
        for number, before in enumerate(befores)
    ]
    assert counts[0] < counts[1] < len(ledger.seqs)


def test_service_killed_during_a_backup_starts_again_while_it_lasts(
    service: Service, tmp_path: Path, seed: int
) -> None:
    start_and_fill(service)
    with Publishers(service, seed) as publishers:
        ledger = publishers.ledger
        until(lambda: ledger.answers > 50, "the publishers get on")
        before = dict(ledger.seqs)
        with halted_backup(tmp_path) as backup:
            for _ in range(2):
                enough = ledger.answers + 50
                until(lambda: ledger.answers > enough, "the publishers get on")  # noqa: B023
                service.kill()
                service.start()
            publishers.finish()
            status, said = go_on(backup)
    assert (status, "copy.db: " in said) == (0, True), said
    check_everything(service, ledger)
    restored = check_restored(tmp_path / "restored", tmp_path / "copy.db", before, ledger.seqs)
    assert restored < len(ledger.seqs)


def test_killed_backup_leaves_nothing_under_the_name_and_the_next_one_tidies_up(
    service: Service, tmp_path: Path
) -> None:
    start_and_fill(service)
    with halted_backup(tmp_path) as backup:
        backup.kill()
    assert drafts(tmp_path)
    assert not (tmp_path / "copy.db").exists()
    assert service.publish(event())[0] == 200
    made = aggregator(tmp_path, "backup", "copy.db")
    assert (made.returncode, "1 event up to seq 1" in made.stdout) == (0, True), made
    assert not drafts(tmp_path)


def test_interrupted_backup_leaves_nothing(service: Service, tmp_path: Path) -> None:
    start_and_fill(service)
    for number in (signal.SIGINT, signal.SIGTERM):
        with halted_backup(tmp_path) as backup:
            backup.send_signal(number)
            status, said = go_on(backup)
        assert status == 1
        assert "Traceback" not in said
        assert not drafts(tmp_path)
        assert not (tmp_path / "copy.db").exists()


def test_second_backup_to_the_same_name_leaves_the_first_one_alone(
    service: Service, tmp_path: Path
) -> None:
    start_and_fill(service)
    with halted_backup(tmp_path) as backup:
        before = drafts(tmp_path)
        second = aggregator(tmp_path, "backup", "copy.db")
        assert second.returncode == 2
        assert "copy.db is under way" in second.stderr
        assert drafts(tmp_path) == before
        status, said = go_on(backup)
    assert (status, drafts(tmp_path)) == (0, []), said


def test_what_is_made_meanwhile_is_not_overwritten(service: Service, tmp_path: Path) -> None:
    start_and_fill(service)
    with halted_backup(tmp_path) as backup:
        (tmp_path / "copy.db").write_text("mine")
        status, said = go_on(backup)
    assert (status, "is there already" in said) == (2, True), said
    assert (tmp_path / "copy.db").read_text() == "mine"
    assert not drafts(tmp_path)


def test_backup_without_room_says_so_and_leaves_nothing(service: Service, tmp_path: Path) -> None:
    start_and_fill(service)
    made = subprocess.run(
        [sys.executable, "-c", LIMITED],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert made.returncode == 2
    assert "backup: copy.db: " in made.stderr
    assert "SQLITE_" in made.stderr
    assert "Traceback" not in made.stderr
    assert not drafts(tmp_path)
    assert not (tmp_path / "copy.db").exists()


def test_backup_of_a_killed_service_holds_what_is_in_the_log_alone(
    service: Service, tmp_path: Path
) -> None:
    service.start()
    _, told = service.publish([event(str(number)) for number in range(100)])
    service.kill()
    made = aggregator(tmp_path, "backup", "copy.db")
    assert (made.returncode, "100 events" in made.stdout) == (0, True), made
    seqs = {(result["topic"], result["event_id"]): result["seq"] for result in told["results"]}
    assert check_restored(tmp_path / "restored", tmp_path / "copy.db", seqs, seqs) == 100
    service.start()
    assert service.publish(event("0"))[1]["duplicates"] == 1


def test_backup_without_the_log_is_found_out(service: Service, tmp_path: Path) -> None:
    service.start()
    _, in_file = service.publish([event(str(number)) for number in range(10)])
    assert service.stop() == 0
    service.start()
    _, in_log = service.publish([event(str(number)) for number in range(10, 20)])
    service.kill()
    store = "copies-the-file:///data/aggregator.db"
    made = aggregator(tmp_path, "backup", "copy.db", "--store", store, environ=MUTANTS)
    assert made.returncode == 0, made
    results = [*in_file["results"], *in_log["results"]]
    seqs = {(result["topic"], result["event_id"]): result["seq"] for result in results}
    with pytest.raises(AssertionError, match="db-wal is missing or empty"):
        check_restored(tmp_path / "restored", tmp_path / "copy.db", seqs, seqs)


def test_what_the_docs_say_backs_up_and_restores(service: Service, tmp_path: Path) -> None:
    service.start()
    assert service.publish(event("before"))[0] == 200
    assert "1 event up to seq 1" in run_block(BACKUP, tmp_path)
    assert service.publish(event("since"))[0] == 200
    service.kill()
    run_block(RESTORE, tmp_path)
    service.start()
    results = service.publish([event("since"), event("before")])[1]["results"]
    assert [(one["status"], one["seq"]) for one in results] == [("stored", 2), ("duplicate", 1)]


def test_old_log_beside_a_restored_file_stops_the_start_until_it_is_gone(
    service: Service, tmp_path: Path
) -> None:
    service.start()
    assert service.publish(event("before"))[0] == 200
    assert aggregator(tmp_path, "backup", "copy.db").returncode == 0
    assert service.publish(event("since"))[1]["results"][0]["seq"] == 2
    service.kill()
    database, copy = tmp_path / "data" / "aggregator.db", tmp_path / "copy.db"
    old_log = Path(f"{database}-wal")
    assert old_log.stat().st_size
    database.write_bytes(copy.read_bytes())
    for command in (["serve", "--port", "0"], ["backup", "again.db"], ["change-key"]):
        refused = aggregator(tmp_path, *command)
        assert (refused.returncode, f"{old_log} is not the log" in refused.stderr) == (2, True)
        assert database.read_bytes() == copy.read_bytes()
    old_log.unlink()
    Path(f"{database}-shm").unlink()
    service.start()
    assert [one["event_id"] for one in service.stored()] == ["before"]
    results = service.publish([event("before"), event("since")])[1]["results"]
    assert [(one["status"], one["seq"]) for one in results] == [("duplicate", 1), ("stored", 2)]


@pytest.mark.usefixtures("strace")
def test_copy_is_on_the_disk_before_it_has_its_name_and_its_name_before_it_is_told(
    service: Service, tmp_path: Path
) -> None:
    service.start()
    assert service.publish(event())[0] == 200
    trace = tmp_path / "trace"
    watched = "trace=pwrite64,write,fsync,fdatasync,link,linkat"
    subprocess.run(
        [
            *("strace", "-f", "-y", "-s", "200", "-o", str(trace), "-e", watched),
            *(sys.executable, "-m", "aggregator", "backup", "copy.db"),
        ],
        cwd=tmp_path,
        timeout=LIMIT,
        check=True,
    )
    lines = trace.read_text().splitlines()
    written = last(r"pwrite64\(.*/\.copy\.db\.\w+\.part>", lines)
    synced = last(r"fsync\(.*/\.copy\.db\.\w+\.part>(\) += 0| <unfinished \.\.\.>)$", lines)
    named = last(r"link(?:at)?\(.*\.part\", .*\".*/copy\.db\".*\) += 0$", lines)
    folder_synced = last(rf"fsync\(\d+<{re.escape(str(tmp_path))}>\) += 0$", lines)
    told = last(r"write\(1.*1 event up to seq 1", lines)
    assert written < synced < named < folder_synced < told, trace.read_text()


def last(pattern: str, lines: list[str]) -> int:
    """Which is the last line that has it."""
    return max(number for number, line in enumerate(lines) if re.search(pattern, line))
