"""Other stores against a plain UNIQUE column: the same history, the same answers to everything.

SQLite's index of keys is derived from the events; here its runs are so small that they are made
and merged all the time.

What fails says its seed and its steps, and can be run again: `pytest -k 'test_long_history and 1'`,
or with `@example(seed=…)` above `test_any_history`, which has other seeds each time.
"""

import asyncio
import sqlite3
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from aggregator.core.identity import DEFAULT_KEY_SPEC, key_of
from aggregator.errors import KeyHeld
from aggregator.event import Event
from aggregator.store import Counters, FieldIs, Page, Query, Store, StoredEvent, StoreTransaction
from aggregator.testing import make_event
from aggregator.testing.making import Rollback
from aggregator_memory.store import MemoryStore
from aggregator_sqlite.key_index import KeyClaims, KeyFilter, State
from aggregator_sqlite.store import SqliteStore
from plain_store import PlainStore
from small_runs import make_filter_small, make_pages_small, make_runs_small

Sent = tuple[int, int]
"""The number of an event, which its key is made of, and which of its contents it has."""


@dataclass(frozen=True)
class Part:
    """Calls of a transaction: events are claimed, and appended in several calls."""

    claimed: tuple[Sent, ...]
    appended: tuple[tuple[Sent, ...], ...]
    in_savepoint: bool
    is_undone: bool
    """The savepoint is."""


@dataclass(frozen=True)
class Batch:
    """A transaction."""

    parts: tuple[Part, ...]
    is_rolled_back: bool


@dataclass(frozen=True)
class Reopen:
    """As after a StoreError."""


@dataclass(frozen=True)
class Restart:
    """Closed and opened; the key filter may be complete before anything else happens, or not."""

    waits: bool


Step = Batch | Reopen | Restart


class Histories:
    """Makes the steps of a history. Most numbers are new; the others came before."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._newest = 0

    def step(self) -> Step:
        kind = self._random.randrange(20)
        if kind == 0:
            return Reopen()
        if kind == 1:
            return Restart(waits=self._one_in(2))
        parts = tuple(self._part() for _ in range(self._random.randint(1, 3)))
        return Batch(parts, is_rolled_back=self._one_in(8))

    def _part(self) -> Part:
        claimed = self._some(4, new=2)
        new = [one for one in claimed if self._one_in(2)]  # as the pipeline does
        others = [self._some(3, new=6) for _ in range(self._random.randint(0, 2))]
        in_savepoint = self._one_in(3)
        is_undone = in_savepoint and self._one_in(2)
        return Part(tuple(claimed), (tuple(new), *map(tuple, others)), in_savepoint, is_undone)

    def _some(self, most: int, new: int) -> list[Sent]:
        return [self._sent(new) for _ in range(self._random.randint(0, most))]

    def _sent(self, new: int) -> Sent:
        """One in so many came before, perhaps in the same call."""
        version = self._random.randrange(3)
        if self._newest and self._one_in(new):
            return self._random.randint(1, self._newest), version
        self._newest += 1
        return self._newest, version

    def _one_in(self, many: int) -> bool:
        return self._random.randrange(many) == 0


@cache
def event_of(sent: Sent) -> Event:
    """Some have keys that begin alike, and are found by name too."""
    number, version = sent
    topic = f"topic {number % 3}"
    other = {"key": b"%016d" % number, "name": key_of(topic, f"{number % 10}")}
    return make_event(
        f"{number}",
        topic,
        source=f"source {version}",
        payload=b'{"n":%d,"version":%d}' % (number % 7, version),
        received_at=1_800_000_000_000_000 + number * 3 + version,
        **(other if number % 4 == 0 else {}),
    )


async def play(store: Store, step: Step) -> list[Any]:
    """Take the step; all that the store has answered."""
    match step:
        case Reopen():
            await store.reopen()
        case Restart(waits):
            await store.close()
            await store.open(DEFAULT_KEY_SPEC)
            if waits and isinstance(store, SqliteStore):
                assert store._warm_up
                await store._warm_up
        case Batch(parts, is_rolled_back):
            answers: list[Any] = []
            with suppress(Rollback):
                async with store.transaction() as tx:
                    for part in parts:
                        await _count(tx, await _play(tx, part, answers))
                    if is_rolled_back:
                        raise Rollback
                answers.append(tx.counters)
            return answers
    return []


async def _play(tx: StoreTransaction, part: Part, answers: list[Any]) -> list[tuple[str, Event]]:
    """Run the part; its events that are settled, and how."""
    if not part.in_savepoint:
        settled: list[tuple[str, Event]] = []
        with suppress(KeyHeld):
            await _call(tx, part, answers, settled)
        return settled
    inside: list[tuple[str, Event]] = []
    try:
        async with tx.savepoint():
            await _call(tx, part, answers, inside)
            if part.is_undone:
                raise Rollback  # noqa: TRY301, it is what undoes the savepoint
    except (KeyHeld, Rollback):
        return []
    return inside


async def _call(
    tx: StoreTransaction, part: Part, answers: list[Any], settled: list[tuple[str, Event]]
) -> None:
    claimed = [event_of(sent) for sent in part.claimed]
    owners = await tx.claim([event.key for event in claimed])
    answers.append(owners)
    answers.append(await tx.contents([owner.seq for owner in owners if owner]))
    settled += [("duplicate", event) for event, owner in zip(claimed, owners, strict=True) if owner]
    for number, sent in enumerate(part.appended):
        events = [event_of(one) for one in sent]
        if number == 0:  # these were claimed
            held = {event.key for event, owner in zip(claimed, owners, strict=True) if owner}
            events = [event for event in events if event.key not in held]
        try:
            answers.append(await tx.append(events))
        except KeyHeld:
            answers.append(KeyHeld)
            raise
        settled += [("stored", event) for event in events]


async def _count(tx: StoreTransaction, settled: list[tuple[str, Event]]) -> None:
    by_topic: dict[str, Counter[str]] = {}
    for outcome, event in settled:
        by_topic.setdefault(event.topic, Counter())[outcome] += 1
    total = Counter(outcome for outcome, _ in settled)
    await tx.count(
        Counters(**total), {topic: Counters(**counts) for topic, counts in by_topic.items()}
    )


def numbers_in(step: Step) -> list[int]:
    parts = step.parts if isinstance(step, Batch) else ()
    return [n for part in parts for sent in (part.claimed, *part.appended) for n, _ in sent]


async def told(store: Store, numbers: Sequence[int], some: Sequence[int], turn: int) -> list[Any]:
    """What the store tells: of all these numbers who holds the keys, of some what is found."""
    events = [event_of((number, 0)) for number in numbers]
    async with store.transaction() as tx:
        owners = await tx.claim([event.key for event in events])
    found = []
    for event in (event_of((number, 0)) for number in some):
        found.append(await store.find(event.key, 3))
        if event.name:
            found.append(await store.find(event.name, 3))
            found.append(await store.find(event.name, 1, "source 1"))
    topics = [await store.topics("", 2), await store.topics("topic 0", 10)]
    pages = await walked(store, **QUERIES[turn % len(QUERIES)])
    return [owners, found, pages, await store.span(), await store.counters(), topics]


QUERIES: Sequence[dict[str, Any]] = (
    {"limit": 1000},
    {"topic": "topic 1", "descending": True, "limit": 9},
    {"source": "source 2", "received_since": 1_800_000_000_000_050},
    {"field": FieldIs("/n", b"n3"), "limit": 9},
    {"descending": True},
)


async def walked(store: Store, **wanted: Any) -> list[StoredEvent]:
    found: list[StoredEvent] = []
    page = Page([], None)
    while True:
        page = await store.events(Query(**wanted))
        found += page.events
        if page.next is None:
            return found
        wanted["after"] = page.next


@asynccontextmanager
async def opened(*stores: Store) -> AsyncIterator[None]:
    try:
        for store in stores:
            await store.open(DEFAULT_KEY_SPEC)
        yield
    finally:
        for store in stores:
            await store.close()


async def live(
    tried: Store, folder: Path, random: Random, steps: int, tell: Callable[[str], None]
) -> None:
    """Take the steps on this store and on a plain one, and ask both after each."""
    plain = PlainStore(f"plain:{folder}/plain.db")
    histories = Histories(random)
    everything: set[int] = set()
    async with opened(tried, plain):
        for turn in range(steps):
            step = histories.step()
            tell(f"{step}")
            assert await play(tried, step) == await play(plain, step), step
            some = numbers_in(step)
            everything.update(some)
            asked = sorted(everything), some, turn
            assert await told(tried, *asked) == await told(plain, *asked), step
        numbers = sorted(everything)
        for turn in range(len(QUERIES)):
            asked = numbers, numbers if turn == 0 else [], turn
            assert await told(tried, *asked) == await told(plain, *asked)


def sqlite_in(folder: Path) -> Store:
    return SqliteStore(f"sqlite:///{folder}/aggregator.db")


@pytest.mark.parametrize("seed", range(2))
async def test_long_history(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_runs_small(monkeypatch)
    make_pages_small(monkeypatch)
    make_filter_small(monkeypatch)
    await live(sqlite_in(tmp_path), tmp_path, Random(seed), 80, print)
    with closing(sqlite3.connect(tmp_path / "aggregator.db")) as db:
        levels = {level for (level,) in db.execute("SELECT level FROM runs")}
    assert max(levels) > 2, "runs were merged, and what they were merged into too"


@pytest.mark.parametrize("seed", range(2))
async def test_long_history_in_memory(seed: int, tmp_path: Path) -> None:
    await live(MemoryStore("memory:"), tmp_path, Random(seed), 80, print)


@settings(max_examples=10, deadline=None, phases=set(Phase) - {Phase.shrink, Phase.explain})
@given(seed=st.integers(0, 2**32))  # a smaller one is no simpler history, so none is looked for
def test_any_history(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        make_runs_small(patch, in_memory=1, at_once=1)
        make_pages_small(patch)
        make_filter_small(patch)
        tried = sqlite_in(Path(folder))
        asyncio.run(live(tried, Path(folder), Random(seed), 12, note))


def does_nothing(*_: object) -> None:
    """In place of what should do something."""


@pytest.mark.parametrize(
    ("broken", "name"), [(KeyFilter, "add"), (KeyClaims, "undo_to"), (State, "add")]
)
async def test_broken_index_is_found_out(
    broken: type, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broken, name, does_nothing)
    with pytest.raises(AssertionError):
        await live(sqlite_in(tmp_path), tmp_path, Random(0), 80, does_nothing)
