"""`aggregator settings` finds what would keep `aggregator serve` from starting."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from aggregator.cli.main import main
from installed import install
from running import aggregator

ROUTES = """
from aggregator.route import Route, Routes


class Whole(Routes):
    def routes(self):
        return []


class Faulty(Whole):
    def __init__(self, context):
        raise RuntimeError("no licence")


class Undescribed(Whole):
    def routes(self):
        return [Route("GET", "/undescribed", self.routes, {"responses": {"200": object()}})]
"""


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("rate = 3\n", ["rate: '3'"]),
        ("[sample]\nrate = 3\n", ["sample: "]),
        (
            'pipeline = "dedup | validate persist"\n',
            ["dedup belongs right of", "validate belongs left of"],
        ),
        ("[stages.sample]\nrate = 3\n", ["sample is not in the pipeline"]),
        ("[stages.dedup]\nrate = 3\n", ["dedup has no settings"]),
        ('[topics.a]\nkey = "nonsense"\n', ["topics.a.key: "]),
        ('on_invalid = "quarantine"\nstore = "mongo://x"\n', ["there is no 'mongo'"]),
        (
            'port = "x"\nrate = 3\nstore = "data.db"\nqueue = "kafka:"\npipeline = "| validate"\n'
            'indexed = "user"\ncors_origins = "here"\nhosts = "here:80"\n'
            "max_events = 60000\n[topics]\na = 1\n",
            [
                *("port: 'x'", "rate: '3'", "is no URL", "there is no 'kafka'", "left of the bar"),
                *("indexed: ", "cors_origins: ", "hosts: ", "max_events: 60000", "topics.a: "),
            ],
        ),
    ],
)
def test_fault_of_the_settings_is_found_in_the_words_of_serve(
    tmp_path: Path, text: str, faults: list[str]
) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    checked, started = (
        CliRunner().invoke(main, [command, "--config", str(file)])
        for command in ("settings", "serve")
    )
    assert (checked.exit_code, started.exit_code) == (2, 2)
    assert checked.output == started.output
    assert checked.stdout == ""
    assert len(checked.stderr.splitlines()) == len(faults)
    for fault in faults:
        assert fault in checked.stderr


@pytest.mark.parametrize(
    ("name", "said"), [("Faulty", "RuntimeError: no licence"), ("Undescribed", "cannot be added")]
)
def test_routes_that_cannot_be_added_are_found_in_the_words_of_serve(
    tmp_path: Path, name: str, said: str
) -> None:
    entry_points = f"[aggregator.routes]\nmore = strange_routes:{name}\n"
    environ = install(tmp_path / "installed", "strange_routes", ROUTES, entry_points)
    checked, started = (
        aggregator(tmp_path, command, environ=environ) for command in ("settings", "serve")
    )
    assert (checked.returncode, started.returncode) == (2, 2)
    assert checked.stderr == started.stderr
    assert said in checked.stderr
    assert "more = strange_routes:" in checked.stderr


def test_checking_opens_nothing(tmp_path: Path) -> None:
    assert aggregator(tmp_path, "settings").returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_broken_plugins_are_listed_with_their_fault_among_the_others(tmp_path: Path) -> None:
    entry_points = """
[aggregator.routes]
absent = strange_routes:Absent
[aggregator.stages]
whole = strange_routes:Whole
[aggregator.queues]
lost = nowhere.at_all:Queue
"""
    environ = install(tmp_path / "installed", "strange_routes", ROUTES, entry_points)
    listed = aggregator(tmp_path, "plugins", environ=environ)
    assert listed.returncode == 0, listed.stderr
    lines = [line.strip() for line in listed.stdout.splitlines()]
    for name, fault in (
        ("absent", "cannot be loaded: AttributeError"),
        ("whole", "is not a class derived from Stage"),
        ("lost", "cannot be loaded: ModuleNotFoundError: No module named 'nowhere'"),
    ):
        at = next(n for n, line in enumerate(lines) if line.split()[:1] == [name])
        assert lines[at].endswith("strange_routes 1.0")
        assert lines[at + 1].startswith(fault)
    assert {"dedup", "docs", "sqlite"} <= {line.split()[0] for line in lines}


def test_plugins_are_listed_before_a_pipeline_that_cannot_be_read() -> None:
    listed = CliRunner().invoke(main, ["plugins", "--pipeline", "dedup"])
    assert listed.exit_code == 2
    assert "aggregator_sqlite.store:SqliteStore" in listed.stdout
    assert "exactly one bar" in listed.stderr


def test_store_is_copied_whatever_else_the_settings_say(tmp_path: Path) -> None:
    """The flags with which the service was started are no flags of the backup."""
    (tmp_path / "a.toml").write_text("[stages.sample]\nrate = 3\n")
    made = aggregator(tmp_path, "backup", "copy.db", "--config", "a.toml", "--store", "memory:")
    assert made.returncode == 2
    assert "no backup can be made of this one" in made.stderr
