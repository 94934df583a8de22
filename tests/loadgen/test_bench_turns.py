"""Contestants take turns, and one in trouble does not stop the others."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loadgen.bench import process
from loadgen.bench.command import QUICK, chosen, everybody
from loadgen.bench.contestant import Contestant, Place
from loadgen.bench.errors import RoundError, UnavailableError
from loadgen.bench.growth import sizes
from loadgen.bench.process import Process
from loadgen.bench.results import Effort, Paced, Round
from loadgen.bench.turns import prepared, take_times, take_turns, workplace

EFFORT = Effort(1000, 100, 1.0, 2)


class Somebody(Contestant):
    group = "peers"
    title = "somebody"
    promise = "none"

    def __init__(self, name: str, turn: Callable[[], Round]) -> None:
        self.name = name
        self._turn = turn
        self.paced_at: list[float] = []

    def turn(self, place: Place, effort: Effort) -> Round:
        assert not list(place.data.iterdir())
        (place.data / "stored").touch()
        return self._turn()

    def paced(self, place: Place, effort: Effort, rate: float) -> Paced | None:
        self.paced_at.append(rate)
        return None


class Absent(Somebody):
    def prepare(self, place: Place) -> None:
        raise UnavailableError("it is not to be had")


class Broken(Somebody):
    def prepare(self, place: Place) -> None:
        raise subprocess.TimeoutExpired("installing", 900)


def test_turns_are_taken_round_by_round_and_a_failure_is_named(tmp_path: Path) -> None:
    order: list[str] = []

    def good() -> Round:
        order.append("good")
        return Round(100, 2.0, 1)

    def bad() -> Round:
        order.append("bad")
        raise RoundError("3 are missing")

    said: list[str] = []
    field = [
        Somebody("good", good),
        Absent("absent", good),
        Somebody("bad", bad),
        Broken("broken", good),
    ]
    with workplace(tmp_path) as place:
        contests, entries = prepared(field, place, said.append)
        take_turns(entries, place, EFFORT, said.append)
        take_times(entries, place, EFFORT, said.append)
    assert order == ["good", "bad"] * 2
    first, absent, second, broken = contests
    assert broken.trouble.startswith("skipped: ")
    assert first.rate == 50
    assert field[0].paced_at == [25]
    assert absent.trouble == "skipped: it is not to be had"
    assert second.rounds == [None, None]
    assert second.trouble == "a round failed: 3 are missing"
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert "  bad: a round failed: 3 are missing" in said


def test_contestants_are_chosen_by_name_or_group() -> None:
    field = everybody("python")
    names = [one.name for one in field]
    assert len(set(names)) == len(names)
    assert [one.name for one in chosen(field, ["ours-100", "limits"])] == [
        "sqlite",
        "sqlite-ordered",
        "aiohttp",
        "ours-100",
    ]
    assert len(chosen(field, QUICK)) == len(QUICK)
    beside = everybody("python", "another")
    assert [one.name for one in chosen(beside, ["ours-100"])] == ["ours-100", "ours-100-before"]
    with pytest.raises(ValueError, match="nobody is called nobody"):
        chosen(field, ["nobody"])


def test_server_that_is_not_ready_in_time_does_not_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would take time from all who are measured after it."""
    monkeypatch.setattr(process, "PATIENCE", 0.5)
    command = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]
    server = Process(command, tmp_path)
    with pytest.raises(RoundError, match="not ready within"):
        server.wait_until(lambda: False)
    with pytest.raises(RoundError, match="it ended with"):
        server.wait_until(lambda: False)


@pytest.mark.parametrize("end", [50_000, 100_000, 400_000, 1_234_567, 10_000_000])
def test_growth_ends_where_it_should(end: int) -> None:
    steps = list(sizes(end))
    assert steps[0] == min(end, 100_000)
    assert steps[-1] == end
    assert steps == sorted(set(steps))
