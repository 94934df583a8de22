"""A service whose log is damaged says so and does not start; one whose log is torn just starts."""

import sqlite3
import subprocess
from collections.abc import Iterator
from random import Random, SystemRandom

import pytest
from images import FRAME

from events import event
from killed import COMMITS, LENGTH, Killed
from running import MUTANTS, Service, aggregator


@pytest.fixture
def service(killed: Killed) -> Iterator[Service]:
    """On what the killed one left; not started yet."""
    with Service(killed.folder) as service:
        yield service


PLACES = {
    "a page": (FRAME + 1000, 5),
    "the salts of a frame": (9, 7),
}


def check_refused(killed: Killed, tries: int = 1) -> list[str]:
    """The start is refused, as often as it is tried; nothing is changed, one copy kept."""
    before = killed.contents()
    written = killed.log.stat().st_mtime_ns
    for _ in range(tries):
        tried = aggregator(killed.folder, "serve", "--port", "0")
        assert tried.returncode == 2, tried.stderr
        assert f"{killed.log} is damaged" in tried.stderr
        assert "Traceback" not in tried.stderr
        after = killed.contents()
        (copy,) = after.keys() - before.keys()
        assert after.pop(copy) == before[killed.log.name]
        assert after == before
        assert killed.log.stat().st_mtime_ns == written
        assert f"a copy is kept in {killed.database.parent / copy}" in tried.stderr
    return tried.stderr.splitlines()


def check_goes_on_as_told(killed: Killed, service: Service, told: list[str], kept: int) -> None:
    """The command that was told, in a shell; then what is kept is there, and the rest is taken."""
    (line,) = [line for line in told if "truncate" in line]
    subprocess.run(line[line.index("truncate") :], shell=True, check=True)
    if kept == 0:
        assert any("aggregator check --accept-missing-log" in line for line in told)
        accepted = aggregator(killed.folder, "check", "--accept-missing-log")
        assert accepted.returncode == 0, accepted
    service.start()
    check_kept(service, kept)


def check_kept(service: Service, kept: int) -> None:
    """The first events are there and nothing else is; all are taken when they come again."""
    assert [one["event_id"] for one in service.stored()] == [str(n) for n in range(1, kept + 1)]
    assert service.call("/stats")[1]["unique_processed"] == kept
    everything = [event(str(number)) for number in range(1, COMMITS + 1)]
    statuses = [result["status"] for result in service.publish(everything)[1]["results"]]
    assert statuses == ["duplicate"] * kept + ["stored"] * (COMMITS - kept)
    assert len(service.stored()) == COMMITS
    assert service.stop() == 0
    database = sqlite3.connect(service.folder / "data" / "aggregator.db")
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()


@pytest.mark.parametrize("place", PLACES)
def test_damage_before_later_commits_stops_the_start_until_the_loss_is_accepted(
    killed: Killed, service: Service, place: str
) -> None:
    byte, bit = PLACES[place]
    killed.flip(killed.first_frame(11) + byte, bit)
    told = check_refused(killed)
    assert "about 10," in told[0]
    assert "stop every other program" in told[2]
    check_goes_on_as_told(killed, service, told, kept=10)


def test_store_that_trusts_its_log_loses_what_was_answered_in_silence(
    killed: Killed, service: Service
) -> None:
    byte, bit = PLACES["a page"]
    killed.flip(killed.first_frame(11) + byte, bit)
    service.start("--store", "trusts-its-log:///data/aggregator.db", environ=MUTANTS)
    assert service.said() == ""
    check_kept(service, kept=10)


def test_damage_at_any_place_stops_the_start_until_the_loss_is_accepted(
    killed: Killed, service: Service
) -> None:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    random = Random(seed)
    byte = random.randrange(killed.first_frame(2), killed.last_frame(COMMITS - 1))
    killed.flip(byte, random.randrange(8))
    told = check_refused(killed)
    check_goes_on_as_told(killed, service, told, kept=sum(byte >= end for end in killed.ends))


def test_damaged_header_of_the_log_stops_the_start_until_the_loss_is_accepted(
    killed: Killed, service: Service
) -> None:
    killed.flip(17)
    told = check_refused(killed, tries=2)
    check_goes_on_as_told(killed, service, told, kept=0)


def test_damage_in_the_last_commit_costs_that_one_alone(killed: Killed, service: Service) -> None:
    killed.flip(killed.first_frame(COMMITS) + FRAME + 1000)
    service.start()
    check_kept(service, COMMITS - 1)


@pytest.mark.parametrize("missing", [1, 2 * LENGTH + 5])
def test_torn_end_costs_what_was_under_way_alone(
    killed: Killed, service: Service, missing: int
) -> None:
    with killed.log.open("r+b") as log:
        log.truncate(killed.ends[-1] - missing)
    service.start()
    check_kept(service, COMMITS - 1)


def test_log_without_damage_is_taken_whole(killed: Killed, service: Service) -> None:
    service.start()
    check_kept(service, COMMITS)


def test_changing_the_key_is_refused_too(killed: Killed) -> None:
    killed.flip(killed.first_frame(11) + FRAME)
    before = killed.contents()
    for agreed in ([], ["--yes"]):
        tried = aggregator(killed.folder, "change-key", "--key", "topic,source", *agreed)
        assert tried.returncode == 2
        assert f"{killed.log} is damaged" in tried.stderr
    assert killed.contents().items() >= before.items()


@pytest.mark.parametrize("conduct", ["gone", "empty"])
def test_log_without_its_database_stops_the_start_and_is_left_alone(
    killed: Killed, service: Service, conduct: str
) -> None:
    """SQLite would make a new database and remove the log, which holds all that is stored."""
    database, log = killed.database.read_bytes(), killed.log.read_bytes()
    killed.database.unlink()
    if conduct == "empty":
        killed.database.touch()
    tried = aggregator(killed.folder, "serve", "--port", "0")
    assert (tried.returncode, "is gone or empty" in tried.stderr) == (2, True), tried.stderr
    assert killed.log.read_bytes() == log
    killed.database.write_bytes(database)
    service.start()
    check_kept(service, COMMITS)
