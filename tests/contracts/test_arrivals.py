"""Events are found by the time of their arrival in one page, whatever the clock did meanwhile."""

import random
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.store import FieldIs, Query, Store
from aggregator.testing import make_event
from aggregator_memory import store as memory
from aggregator_memory.store import MemoryStore
from aggregator_sqlite import arrivals, blocks, read
from aggregator_sqlite.store import SqliteStore
from pages import cells, flip

COUNT = 400
EXAMINED = 60  # events of a page, most of which are those that are asked for

CLOCKS = {
    "steady": list(range(COUNT)),
    "slow bodies": [max(0, at - (at % 7 == 0) * 5) for at in range(COUNT)],
    "set back": [at if at < 250 else at - 20 for at in range(COUNT)],
    "standing still": [at - at % 50 for at in range(COUNT)],
}


@pytest.fixture(params=["sqlite", "memory"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    """A store that examines few events a page."""
    monkeypatch.setattr(blocks, "EVENTS_PER_BLOCK", 4)
    monkeypatch.setattr(read, "SCANNED", EXAMINED)
    monkeypatch.setattr(memory, "_SCANNED", EXAMINED)
    is_sqlite = request.param == "sqlite"
    store = SqliteStore(f"sqlite:///{tmp_path}/a.db") if is_sqlite else MemoryStore("memory:")
    await store.open(DEFAULT_KEY_SPEC)
    yield store
    await store.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A store as it is; closed also when the test fails, or its thread would keep the process."""
    store = SqliteStore(f"sqlite:///{tmp_path}/a.db")
    await store.open(DEFAULT_KEY_SPEC)
    yield store
    await store.close()


async def _fill(store: Store, times: Sequence[int], at_once: int = 10, since: int = 0) -> None:
    events = [make_event(str(number), received_at=at) for number, at in enumerate(times)]
    for first in range(since, len(events), at_once):
        async with store.transaction() as tx:
            await tx.append(events[first : first + at_once])


def _ids(times: Sequence[int], since: int, until: int) -> list[str]:
    return [str(number) for number, at in enumerate(times) if since <= at < until]


@pytest.mark.parametrize("times", CLOCKS.values(), ids=CLOCKS)
@pytest.mark.parametrize("wanted", [{}, {"topic": "logins"}], ids=["all topics", "one topic"])
async def test_one_page_has_all_that_came_within_a_time(
    store: Store, times: list[int], wanted: dict[str, str]
) -> None:
    await _fill(store, times)
    for since, until in ((380, COUNT), (395, 1000), (200, 210), (0, 5), (99, 101), (1000, 2000)):
        expected = _ids(times, since, until)
        for descending in (False, True):
            query = Query(
                received_since=since, received_until=until, descending=descending, **wanted
            )
            if len(expected) < EXAMINED // 2:
                page = await store.events(query)
                ids = [event.event_id for event in page.events]
                assert (ids[::-1] if descending else ids, page.next) == (expected, None)


@pytest.mark.parametrize("descending", [False, True])
async def test_bound_on_one_side_is_enough(store: Store, descending: bool) -> None:
    times = CLOCKS["slow bodies"]
    await _fill(store, times)
    late = await store.events(Query(received_since=380, limit=5, descending=descending))
    early = await store.events(Query(received_until=20, limit=5, descending=descending))
    for page, expected in ((late, _ids(times, 380, COUNT)), (early, _ids(times, 0, 20))):
        ids = [event.event_id for event in page.events]
        assert ids == (expected[::-1] if descending else expected)[:5]


async def _walked(store: Store, query: dict[str, int]) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = await store.events(Query(after=after, **query))
        found += [event.event_id for event in page.events]
        if page.next is None:
            return found
        assert after is None or page.next > after, "it goes on"
        after = page.next


@pytest.mark.parametrize("seed", range(3))
async def test_clock_that_jumps_hides_nothing(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    jump, times = 0, []
    for at in range(COUNT):
        if chance.random() < 0.02:
            jump = chance.choice([0, 0, 50, -300, 10**6])
        times.append(max(0, at + jump - chance.choice([0, 0, 3])))
    await _fill(store, times, chance.randint(1, 12))
    for _ in range(30):
        since = chance.choice([chance.choice(times), chance.randrange(COUNT)])
        until = since + chance.choice([1, 10, 100, 10**7])
        query = {"received_since": since, "received_until": until}
        assert await _walked(store, query) == _ids(times, since, until)
        ids = [
            event.event_id
            for event in (await store.events(Query(received_since=since, limit=1000))).events
        ]
        assert ids == _ids(times, since, 10**9)[: len(ids)]


async def test_indexed_field_is_bounded_as_well(tmp_path: Path) -> None:
    store = SqliteStore(f"sqlite:///{tmp_path}/a.db")
    await store.open(DEFAULT_KEY_SPEC)
    await store.index(["/user"])
    times = CLOCKS["set back"]
    await _fill(store, times)
    for descending in (False, True):
        query = Query(
            field=FieldIs("/user", b"sada"),
            received_since=200,
            received_until=230,
            descending=descending,
        )
        ids = [event.event_id for event in (await store.events(query)).events]
        assert sorted(ids, key=int) == _ids(times, 200, 230)
    await store.close()


DAMAGE = ("newest_at = 0", "newest_at = 9", "newest_at = 'x'", "behind = 7", "behind = 1e300",
          "newest_at = behind, behind = newest_at", "arrivals_checksum = 0")  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "place", ["first_seq BETWEEN 150 AND 300", "first_seq > 1", "first_seq > 396"]
)
async def test_damaged_number_hides_no_event(sqlite: SqliteStore, damage: str, place: str) -> None:
    times = CLOCKS["set back"]
    await _fill(sqlite, times, 4)
    with closing(sqlite3.connect(sqlite.path)) as db, db:
        db.execute(f"UPDATE blocks SET {damage} WHERE {place}")
    more = [*times, *range(COUNT, COUNT + 20)]
    await _fill(sqlite, more, 4, since=COUNT)
    times_asked = ((0, 10), (150, 170), (235, 245), (240, 260), (370, 390), (395, 410))
    for since, until in (*times_asked, (300, 10**6)):
        query = {"received_since": since, "received_until": until}
        assert await _walked(sqlite, query) == _ids(more, since, until)


@pytest.mark.parametrize("bit", [2, 5, 6])
async def test_bit_that_flips_in_the_seq_of_the_oldest_block_hides_no_other_event(
    tmp_path: Path, bit: int
) -> None:
    store = SqliteStore(f"sqlite:///{tmp_path}/a.db")
    await store.open(DEFAULT_KEY_SPEC)
    await _fill(store, range(COUNT), 4)
    await store.close()
    first, *_ = (cell for cell in cells(store.path, "blocks") if cell.is_row)
    flip(store.path, first.rowid, bit)
    with closing(sqlite3.connect(store.path)) as db:
        for at in range(4, COUNT):
            found = arrivals.bounds(db, at, at + 1)
            assert found.first <= at + 1 < found.end, "its seq is between"
