"""An index is dropped by a command that says what it means, and by no start that forgot it."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aggregator.cli.main import main
from events import event
from running import Service


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["drop-index", *arguments])


@pytest.fixture
def store(service: Service, tmp_path: Path) -> str:
    """A store that indexes two places, with one event in it."""
    service.start("--indexed", "/user, /n")
    assert service.publish(event("1", payload={"user": "ada", "n": 1}))[0] == 200
    service.stop()
    return f"sqlite:///{tmp_path}/data/aggregator.db"


def test_start_that_does_not_name_an_index_keeps_it_and_says_so(
    store: str, service: Service
) -> None:
    service.start("--indexed", "/n")
    assert "an index of /user, which the setting `indexed` does not name" in service.said()
    assert "aggregator drop-index /user" in service.said()
    assert service.publish(event("2", payload={"user": "ada", "n": 2}))[0] == 200
    service.stop()
    assert run("--store", store, "--indexed", "/n").output.splitlines() == [
        "/user  not named by the setting `indexed`",
        "/n  named by the setting `indexed`",
    ]
    before = service.said()
    service.start("--indexed", "/user,/n")
    assert "making the index" not in service.said().removeprefix(before)
    _, page = service.call("/events?field=/user&equals=ada")
    assert [one["event_id"] for one in page["events"]] == ["1", "2"]


def test_command_only_says_what_it_means_unless_agreed(store: str) -> None:
    for _ in range(2):
        result = run("/user", "--store", store)
        assert (result.exit_code, "over 1 stored events would go" in result.output) == (1, True)
        assert "--yes" in result.output


def test_dropped_index_is_gone_and_events_are_found_without_it(
    store: str, service: Service
) -> None:
    result = run("/user", "--store", store, "--indexed", "/n", "--yes")
    assert (result.exit_code, result.output) == (0, "dropped the index of /user\n")
    assert run("--store", store).output == "/n  not named by the setting `indexed`\n"
    service.start("--indexed", "/n")
    assert "drop-index" not in service.said()
    _, page = service.call("/events?field=/user&equals=ada")
    assert [one["event_id"] for one in page["events"]] == ["1"]


def test_what_cannot_be_dropped_is_said_at_once_and_nothing_is(store: str) -> None:
    result = run("/user", "/n", "/nowhere", "--store", store, "--indexed", "/n", "--yes")
    assert result.exit_code == 2
    assert "/nowhere: is not indexed" in result.output
    assert "/n: the setting `indexed` names it" in result.output
    assert len(run("--store", store).output.splitlines()) == 2


def test_running_service_and_missing_store_are_told(
    store: str, service: Service, tmp_path: Path
) -> None:
    missing = f"sqlite:///{tmp_path}/no.db"
    assert "there is none yet" in run("/user", "--store", missing).output
    assert not (tmp_path / "no.db").exists()
    service.start()
    result = run("/user", "--store", store, "--yes")
    assert (result.exit_code, "is in use by" in result.output) == (2, True)
