"""Everybody in turns, so that what disturbs the machine disturbs all alike."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from loadgen.bench.contestant import Contestant, Place
from loadgen.bench.errors import TROUBLE
from loadgen.bench.results import Contest, Effort, Round

Say = Callable[[str], None]


class Prepared(NamedTuple):
    """A contestant that can be measured here, and what became of it so far."""

    contestant: Contestant
    contest: Contest


@contextmanager
def workplace(folder: Path) -> Iterator[Place]:
    """On the disk of the folder; all but the cache is gone at the end."""
    home = folder.resolve()
    cache = home / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=home) as run:
        place = Place(cache, Path(run) / "bodies", Path(run) / "data")
        place.bodies.mkdir()
        Path(run).chmod(0o755)  # a server that must not run as root has its data here
        yield place


@contextmanager
def empty(place: Place) -> Iterator[None]:
    """Nothing is stored in the place."""
    shutil.rmtree(place.data, ignore_errors=True)
    place.data.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(place.data, ignore_errors=True)


def prepared(
    contestants: Sequence[Contestant], place: Place, say: Say
) -> tuple[list[Contest], list[Prepared]]:
    """A contest for each, and those that can be measured here."""
    contests, able = [], []
    for contestant in contestants:
        contest = contestant.contest()
        contests.append(contest)
        try:
            contestant.prepare(place)
        except TROUBLE as error:
            contest.trouble = f"skipped: {error}"
            say(f"  {contest.name}: {contest.trouble}")
        else:
            able.append(Prepared(contestant, contest))
    return contests, able


def take_turns(entries: Sequence[Prepared], place: Place, effort: Effort, say: Say) -> None:
    for number in range(effort.rounds):
        say(f"round {number + 1} of {effort.rounds}")
        for contestant, contest in entries:
            take_turn(contest, partial(turn_on_empty, contestant, place, effort), say)


def turn_on_empty(contestant: Contestant, place: Place, effort: Effort) -> Round:
    with empty(place):
        return contestant.turn(place, effort)


def take_turn(contest: Contest, turn: Callable[[], Round], say: Say) -> None:
    """One round; one that went wrong is named, and is no measurement."""
    found: Round | None = None
    try:
        found = turn()
    except TROUBLE as error:
        contest.trouble = f"a round failed: {error}"
        say(f"  {contest.name}: {contest.trouble}")
    else:
        say(f"  {contest.name:<18}{found.rate:>12,.0f} events/s  {found.seconds:5.1f} s")
    contest.rounds.append(found)


def take_times(entries: Sequence[Prepared], place: Place, effort: Effort, say: Say) -> None:
    """Latency at half the highest rate."""
    say("latency at half the highest rate")
    for contestant, contest in entries:
        if contest.rate is None:
            continue
        try:
            with empty(place):
                contest.paced = contestant.paced(place, effort, contest.rate / 2)
        except TROUBLE as error:
            contest.trouble = f"on a schedule: {error}"
            say(f"  {contest.name}: {contest.trouble}")
        if contest.paced:
            shown = ", ".join(f"{name} {ms:,.1f}" for name, ms in contest.paced.latency.items())
            say(f"  {contest.name:<18}{contest.paced.rate:>10,.0f} requests/s  {shown} ms")
