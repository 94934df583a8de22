"""What keys are made of is kept in the store, and changed by a command that says what it means."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aggregator.cli.main import main
from running import Service

MEMBERS = (
    b'{"topic":"a","event_id":"%s","timestamp":"2026-01-31T12:00:00Z","source":"s","payload":%s}'
)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments])


@pytest.fixture
def store(service: Service, tmp_path: Path) -> str:
    """A store with one event in it."""
    service.start()
    assert service.call("/publish", MEMBERS % (b"1", b'{"n":1}'))[0] == 200
    service.stop()
    return f"sqlite:///{tmp_path}/data/aggregator.db"


def test_other_key_spec_stops_the_start_and_names_the_command(store: str) -> None:
    result = run("serve", "--store", store, "--key", "topic,/n", "--port", "0")
    assert result.exit_code == 2
    for said in ("'topic,event_id'", "'topic,/n'", "aggregator change-key"):
        assert said in result.output


def test_command_only_says_what_it_means_unless_agreed(store: str) -> None:
    for _ in range(2):
        result = run("change-key", "--store", store, "--key", "topic,/n")
        assert result.exit_code == 1
        for said in ("topic,event_id", "topic,/n", "stored once more", "--yes"):
            assert said in result.output


def test_agreed_change_is_kept(store: str, service: Service) -> None:
    assert run("change-key", "--store", store, "--key", "topic, /n", "--yes").exit_code == 0
    again = run("change-key", "--store", store, "--key", "topic,/n")
    assert (again.exit_code, "already" in again.output) == (0, True)
    assert run("change-key", "--store", store).exit_code == 1
    service.start("--key", "topic,/n")
    for event_id, status in ((b"1", "stored"), (b"2", "duplicate")):
        _, answer = service.call("/publish", MEMBERS % (event_id, b'{"n":1}'))
        assert answer["results"][0]["status"] == status
    _, page = service.call("/events")
    assert [event["event_id"] for event in page["events"]] == ["1", "1"]


def test_key_of_one_topic_belongs_to_the_key_spec(store: str, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[topics."b"]\nkey = "topic,/n"\n')
    result = run("change-key", "--store", store, "--config", str(file))
    assert 'topic,event_id; "b": topic,/n' in result.output


def test_store_in_use_is_left_alone(service: Service, tmp_path: Path) -> None:
    service.start()
    store = f"sqlite:///{tmp_path}/data/aggregator.db"
    result = run("change-key", "--store", store, "--key", "topic,/n", "--yes")
    assert (result.exit_code, "in use" in result.output) == (2, True)


def test_key_of_a_topic_names_the_topic(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[topics.a]\nkey = "/n"\n')
    output = run("serve", "--config", str(file)).output
    assert "topics.a.key: Names no topic" in output
    assert "'topic,/n'" in output


def test_command_changes_nothing_unless_agreed(store: str, tmp_path: Path) -> None:
    database = tmp_path / "data" / "aggregator.db"
    before = database.read_bytes()
    run("change-key", "--store", store, "--key", "topic,/n")
    run("change-key", "--store", store)
    assert database.read_bytes() == before


def test_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    result = run("change-key", "--store", f"sqlite:///{tmp_path}/no/where.db", "--yes")
    assert (result.exit_code, "there is none yet" in result.output) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_change_keeps_the_indexes_that_are_set(service: Service, tmp_path: Path) -> None:
    service.start("--indexed", "/n")
    assert service.call("/publish", MEMBERS % (b"1", b'{"n":1}'))[0] == 200
    service.stop()
    store = f"sqlite:///{tmp_path}/data/aggregator.db"
    flags = ["--store", store, "--key", "topic,/n", "--yes"]
    assert run("change-key", *flags).exit_code == 0
    with closing(sqlite3.connect(tmp_path / "data" / "aggregator.db")) as db:
        assert db.execute("SELECT count(*) FROM fields").fetchone() == (1,)


BAD = {
    "topic": "the same",
    "topic,colour": "'colour'",
    "topic,/~2": "pointer",
    "topic,topic": "twice",
    "header:": "header:",
    "": "Shorter",
}


@pytest.mark.parametrize(("key", "said"), BAD.items())
def test_bad_key_spec_is_refused(key: str, said: str) -> None:
    result = run("serve", "--key", key)
    assert (result.exit_code, said in result.output) == (2, True), result.output


def test_bad_rules_of_a_topic_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(
        '[topics.a]\nkey = "colour"\n[topics.b]\non_conflict = "panic"\ncolour = "red"\n'
    )
    output = run("serve", "--config", str(file), "--indexed", "a,/b").output
    for said in ("topics.a.key: ", "topics.b.on_conflict: ", "topics.b.colour: ", "indexed: 'a'"):
        assert said in output
