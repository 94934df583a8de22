"""A stage from somebody else's package, really installed and really run, well or badly."""

import os
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distributions
from pathlib import Path
from urllib.error import URLError

import pytest
import stranger

from events import event
from running import Service, aggregator

Environ = dict[str, str]

SAMPLED = "validate | dedup sample persist"
MOODY = "validate | dedup moody persist"


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Environ:
    """The environment of a process that has the stranger's distribution installed."""
    for tool, oldest in (("pip", 20), ("setuptools", 77)):
        found = [one.version for one in distributions(name=tool)]
        if not found or int(found[0].split(".")[0]) < oldest:
            pytest.skip(f"there is no {tool} {oldest} here to install the stranger with")
    places = [
        str(stranger.install(tmp_path_factory.mktemp("stranger"))),
        os.environ.get("PYTHONPATH", ""),
    ]
    return {"PYTHONPATH": os.pathsep.join(filter(None, places))}


def refusal(folder: Path, environ: Environ, pipeline: str, table: str = "") -> str:
    """What the service says when it does not start."""
    (folder / "aggregator.toml").write_text(table)
    serve = ("serve", "--port", "0", "--config", "aggregator.toml", "--pipeline", pipeline)
    refused = aggregator(folder, *serve, environ=environ)
    assert refused.returncode == 2, refused
    assert refused.stdout == ""
    assert "Traceback" not in refused.stderr
    return refused.stderr


def start_moody(service: Service, environ: Environ) -> None:
    service.start("--pipeline", MOODY, "--stage-timeout", "0.5", environ=environ)


def check_goes_on(service: Service, stored: list[str]) -> None:
    """The service still stores, and nothing is left of what failed."""
    assert service.publish(event("after"))[1]["stored"] == 1
    assert [one["event_id"] for one in service.stored()] == [*stored, "after"]
    stats = service.call("/stats")[1]
    assert stats["received_total"] == stats["unique_processed"] == len(stored) + 1


def test_installed_stage_runs_with_its_table_and_what_it_filters_stays_new(
    service: Service, environ: Environ
) -> None:
    config = service.folder / "aggregator.toml"
    flags = ("--pipeline", SAMPLED, "--config", str(config))
    config.write_text("[stages.sample]\npercent = 50\n")
    service.start(*flags, environ=environ)
    many = [event(str(number)) for number in range(100)]
    _, told = service.publish(many)
    assert told["stored"] + told["filtered"] == 100
    assert 20 < told["stored"] < 80
    assert {one.get("reason") for one in told["results"]} == {None, "sampled out"}
    assert service.stop() == 0
    config.write_text("[stages.sample]\npercent = 100\n")
    service.start(*flags, environ=environ)
    _, again = service.publish(many)
    assert (again["stored"], again["duplicates"]) == (told["filtered"], told["stored"])
    stats = service.call("/stats")[1]
    assert (stats["unique_processed"], stats["filtered"]) == (100, told["filtered"])


def test_installed_stages_are_shown_with_their_package(tmp_path: Path, environ: Environ) -> None:
    shown = aggregator(tmp_path, "plugins", "--pipeline", SAMPLED, environ=environ)
    assert shown.returncode == 0, shown.stderr
    line = next(line for line in shown.stdout.splitlines() if line.split()[0] == "sample")
    assert line.split(maxsplit=2) == ["sample", "strangers.sample:Sample", "strangers-stages 4.2"]
    assert SAMPLED in shown.stdout


def test_missing_stage_stops_the_start_and_lists_what_is_installed(
    tmp_path: Path, environ: Environ
) -> None:
    said = refusal(tmp_path, environ, "validate | dedup simple persist")
    for told in ("aggregator.stages", "simple", "sample", "validate", "dedup", "persist"):
        assert told in said


@pytest.mark.parametrize(
    ("pipeline", "told"),
    [
        (
            "validate | dedup gone persist",
            ("gone = strangers.gone:Gone", "strangers-stages 4.2", "a_library_that_is_not_there"),
        ),
        ("validate | dedup function persist", ("function", "not a class", "strangers-stages 4.2")),
        ("validate moody | dedup persist", ("moody", "right of the bar")),
        ("| validate dedup persist", ("validate", "left of the bar")),
    ],
)
def test_stage_that_cannot_be_used_stops_the_start(
    tmp_path: Path, environ: Environ, pipeline: str, told: tuple[str, ...]
) -> None:
    said = refusal(tmp_path, environ, pipeline)
    for word in told:
        assert word in said


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("", ("stages.sample", "percent", "required")),
        ("[stages.sample]\npercent = 101\n", ("stages.sample", "percent", "100")),
        ("[stages.sample]\npercent = 5\nper = 1\n", ("stages.sample", "per", "Unknown")),
        ("[stages.sample]\npercent = 5\n[stages.moody]\na = 1\n", ("moody", SAMPLED)),
        ("[stages.sample]\npercent = 5\n[stages.dedup]\na = 1\n", ("dedup", "no settings")),
    ],
)
def test_bad_table_stops_the_start_and_names_itself(
    tmp_path: Path, environ: Environ, table: str, told: tuple[str, ...]
) -> None:
    said = refusal(tmp_path, environ, SAMPLED, table)
    for word in told:
        assert word in said


def test_stage_that_hangs_is_named_and_its_neighbours_are_stored(
    service: Service, environ: Environ
) -> None:
    start_moody(service, environ)
    with ThreadPoolExecutor() as publishers:
        hung = publishers.submit(service.publish, event("1", "hangs"))
        neighbour = publishers.submit(service.publish, event("2"))
    status, told = hung.result()
    assert status == 500
    assert "moody" in told["detail"]
    assert "moody: no answer in time" in service.said()
    assert neighbour.result()[1]["stored"] == 1
    check_goes_on(service, ["2"])


@pytest.mark.parametrize("conduct", ["cancels", "declines", "exits"])
def test_stage_that_raises_something_unusual_fails_only_its_own_submission(
    service: Service, environ: Environ, conduct: str
) -> None:
    start_moody(service, environ)
    status, told = service.publish(event("1", conduct))
    assert status == 500
    assert "moody" in told["detail"]
    check_goes_on(service, [])


def test_stage_that_keeps_its_transaction_can_do_nothing_with_it_after_the_commit(
    service: Service, environ: Environ
) -> None:
    start_moody(service, environ)
    assert service.publish(event("1", "lingers"))[1]["stored"] == 1
    check_goes_on(service, ["1"])


def test_stage_that_clings_to_its_batch_is_named_and_ends_the_process(
    service: Service, environ: Environ
) -> None:
    start_moody(service, environ)
    with pytest.raises((URLError, ConnectionError)):
        service.publish(event("1", "clings"))
    assert service.wait() == 70
    assert "the stage moody hangs and cannot be cancelled" in service.said()
    start_moody(service, environ)
    check_goes_on(service, [])


def test_stage_that_blocks_the_loop_is_named_and_ends_the_process(
    service: Service, environ: Environ
) -> None:
    start_moody(service, environ)
    with pytest.raises((URLError, ConnectionError)):
        service.publish(event("1", "blocks"))
    assert service.wait() == 70
    assert "the event loop is blocked by the stage moody" in service.said()
    assert "moody.py" in service.said()
    start_moody(service, environ)
    check_goes_on(service, [])
