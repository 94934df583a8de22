"""Two processes on one store, or on one port: the second says why it does not start."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from events import event
from running import MUTANTS, Service, aggregator


def test_second_process_on_the_store_says_who_holds_it(service: Service) -> None:
    service.start()
    folder = service.folder
    (folder / "other.db").symlink_to("data/aggregator.db")
    (folder / "elsewhere").symlink_to("data", target_is_directory=True)
    for path in (
        "other.db",
        "elsewhere/aggregator.db",
        f"../{folder.name}/data/aggregator.db",
        f"{folder}/data/aggregator.db",
    ):
        second = aggregator(folder, "serve", "--port", "0", "--store", f"sqlite:///{path}")
        assert second.returncode == 2, path
        assert second.stdout == ""
        assert f"{folder}/data/aggregator.db is in use by " in second.stderr
        assert f"process {service.process.pid} on " in second.stderr
        assert "Traceback" not in second.stderr
    assert service.publish(event())[0] == 200


@pytest.mark.parametrize(("scheme", "is_refused"), [("sqlite", True), ("takes-no-lock", False)])
def test_second_start_on_one_store_is_refused_by_its_lock_alone(
    service: Service, scheme: str, is_refused: bool
) -> None:
    start = ("--store", f"{scheme}:///data/aggregator.db")
    service.start(*start, environ=MUTANTS)
    with Service(service.folder) as second:
        if is_refused:
            with pytest.raises(AssertionError, match=r"did not start.*is in use by"):
                second.start(*start, environ=MUTANTS)
            second.wait()
        else:
            second.start(*start, environ=MUTANTS)


def test_hard_link_is_no_way_around_the_lock(service: Service) -> None:
    """Two names of one file have two logs: each process would overwrite what the other stored."""
    service.start()
    service.publish(event())
    (service.folder / "linked.db").hardlink_to(service.folder / "data" / "aggregator.db")
    with Service(service.folder) as second:
        with pytest.raises(AssertionError, match="linked"):
            second.start("--store", "sqlite:///linked.db")
        assert second.wait() == 2


def test_second_name_of_a_file_leaves_nothing_behind_when_it_is_refused(service: Service) -> None:
    """No log, which the next start under that name would take for its own, and no other mode."""
    service.start()
    service.publish(event())
    assert aggregator(service.folder, "backup", "copy.db").returncode == 0
    linked = service.folder / "linked.db"
    linked.hardlink_to(service.folder / "copy.db")
    before = linked.read_bytes()
    refused = aggregator(service.folder, "serve", "--port", "0", "--store", "sqlite:///linked.db")
    assert refused.returncode == 2
    assert "linked.db is one of 2 hard links" in refused.stderr
    assert linked.read_bytes() == before
    assert [path.name for path in service.folder.glob("linked.db?*")] == ["linked.db.lock"]


def test_copy_is_not_made_without_the_log_that_has_the_other_name(service: Service) -> None:
    service.start()
    service.publish(event())
    linked, copy = service.folder / "linked.db", service.folder / "copy.db"
    linked.hardlink_to(service.folder / "data" / "aggregator.db")
    refused = aggregator(service.folder, "backup", "copy.db", "--store", "sqlite:///linked.db")
    assert refused.returncode == 2
    assert "linked.db is one of 2 hard links" in refused.stderr
    accepted = aggregator(
        service.folder, "check", "--accept-missing-log", "--store", "sqlite:///linked.db"
    )
    assert (accepted.returncode, "hard links" in accepted.stderr) == (2, True), accepted
    linked.unlink()
    assert aggregator(service.folder, "backup", "copy.db").returncode == 0
    linked.hardlink_to(copy)  # as programs do that keep old copies
    made = aggregator(service.folder, "backup", "again.db", "--store", "sqlite:///linked.db")
    assert (made.returncode, "1 event up to seq 1" in made.stdout) == (0, True), made


def test_store_is_free_once_its_holder_was_killed(service: Service) -> None:
    service.start()
    _, told = service.publish(event())
    assert aggregator(service.folder, "serve", "--port", "0").returncode == 2
    service.kill()
    with Service(service.folder) as second:
        second.start()
        again = second.publish(event())[1]["results"][0]
        assert (again["status"], again["seq"]) == ("duplicate", told["results"][0]["seq"])


def test_port_in_use_stops_the_start_with_a_clear_message(service: Service) -> None:
    port = service.start().rpartition(":")[2]
    second = aggregator(service.folder, "serve", "--port", port, "--store", "sqlite:///other.db")
    assert second.returncode == 2
    assert f"port {port}" in second.stderr
    assert "already in use" in second.stderr
    assert "Traceback" not in second.stderr
    assert service.publish(event())[0] == 200


def test_store_that_cannot_be_locked_stops_the_start_with_a_clear_message(
    tmp_path: Path,
) -> None:
    (tmp_path / "data" / "aggregator.db.lock").mkdir(parents=True)
    second = aggregator(tmp_path, "serve", "--port", "0")
    assert "aggregator.db.lock" in second.stderr
    assert "Traceback" not in second.stderr
    assert second.returncode == 2


def test_program_that_only_reads_the_store_does_not_keep_the_service_from_starting(
    service: Service,
) -> None:
    """A replicator such as Litestream reads for as long as it runs; all can be durable even so."""
    service.start()
    service.publish(event())
    reader = sqlite3.connect(service.folder / "data" / "aggregator.db", isolation_level=None)
    with closing(reader):
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()
        service.kill()
        service.start()
        assert service.publish(event())[1]["duplicates"] == 1
