"""A run: everybody in turns, so that what disturbs the machine disturbs all alike."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadgen.bench.contestant import Contestant, Effort, Place
from loadgen.bench.errors import RoundError, UnavailableError
from loadgen.bench.results import Contest, Round

Say = Callable[[str], None]


@dataclass
class Entry:
    """A contestant and what became of it so far."""

    contestant: Contestant
    contest: Contest


@contextmanager
def workplace(folder: Path) -> Iterator[Place]:
    """On the disk of the folder; all but the cache is gone at the end."""
    cache = folder.resolve() / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=folder.resolve()) as run:
        place = Place(cache, Path(run) / "bodies", Path(run) / "data")
        place.bodies.mkdir()
        # A server that does not run as root looks for its data here.
        Path(run).chmod(0o755)
        yield place


@contextmanager
def empty(place: Place) -> Iterator[Place]:
    """The place with nothing stored in it."""
    shutil.rmtree(place.data, ignore_errors=True)
    place.data.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place.data, ignore_errors=True)


def compare(
    contestants: Sequence[Contestant], place: Place, effort: Effort, say: Say
) -> list[Contest]:
    entries = [Entry(contestant, contestant.contest()) for contestant in contestants]
    able = [entry for entry in entries if prepare(entry, place, say)]
    for number in range(effort.rounds):
        say(f"round {number + 1} of {effort.rounds}")
        for entry in able:
            take_turn(entry, place, effort, say)
    for entry in able:
        take_time(entry, place, effort, say)
    return [entry.contest for entry in entries]


def prepare(entry: Entry, place: Place, say: Say) -> bool:
    """Whether it can be measured here."""
    try:
        entry.contestant.prepare(place)
    except UnavailableError as error:
        entry.contest.trouble = f"skipped: {error}"
        say(f"  {entry.contest.name}: {entry.contest.trouble}")
        return False
    return True


def take_turn(entry: Entry, place: Place, effort: Effort, say: Say) -> None:
    """One round; one that went wrong is named, and is no measurement."""
    found: Round | None = None
    try:
        with empty(place):
            found = entry.contestant.turn(place, effort)
    except (RoundError, OSError) as error:
        entry.contest.trouble = f"a round failed: {error}"
        say(f"  {entry.contest.name}: {entry.contest.trouble}")
    else:
        say(f"  {entry.contest.name:<18}{found.rate:>12,.0f} events/s  {found.seconds:5.1f} s")
    entry.contest.rounds.append(found)


def take_time(entry: Entry, place: Place, effort: Effort, say: Say) -> None:
    """Latency at half the highest rate."""
    contest = entry.contest
    if contest.rate is None:
        return
    try:
        with empty(place):
            contest.paced = entry.contestant.paced(place, effort, contest.rate / 2)
    except (RoundError, OSError) as error:
        contest.trouble = f"on a schedule: {error}"
        say(f"  {contest.name}: {contest.trouble}")
    if contest.paced:
        shown = ", ".join(f"{name} {ms:,.1f}" for name, ms in contest.paced.latency.items())
        say(f"  {contest.name:<18}{contest.paced.rate:>12,.0f} requests/s  {shown} ms")
