"""A block in which a bit has flipped: the others are read, and none of its events is new."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.errors import StoreError
from aggregator.store import Content, FieldIs, KeyOwner, Query
from aggregator.testing import make_event
from aggregator_sqlite import read
from aggregator_sqlite.store import SqliteStore
from small_runs import make_runs_small

HEADER = 32  # bytes before the keys of a block
WITH_PLACE = HEADER + 3  # the seq by which SQLite finds it, and its size, stand before its header
EVENTS = [make_event(str(number)) for number in range(9)]
KEYS = [event.key for event in EVENTS]
IN_BLOCK = 3


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await fill(store)
    yield store
    await store.close()


async def fill(store: SqliteStore) -> None:
    """Three blocks."""
    await store.open(DEFAULT_KEY_SPEC)
    for first in range(0, len(EVENTS), IN_BLOCK):
        async with store.transaction() as tx:
            await tx.append(EVENTS[first : first + IN_BLOCK])


async def told(store: SqliteStore) -> list[KeyOwner | None]:
    async with store.transaction() as tx:
        return await tx.claim(KEYS)


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


def flips(original: bytes, wanted: bytes, count: int) -> Iterator[bytes]:
    """The file with each bit flipped, one at a time, of so many bytes that stand before these."""
    assert original.count(wanted) == 1
    begin = original.index(wanted)
    for at in range(begin - count, begin):
        for bit in range(8):
            flipped = bytearray(original)
            flipped[at] ^= 1 << bit
            yield bytes(flipped)


@pytest.mark.parametrize("in_memory", [3, 1000])
@pytest.mark.parametrize("count", [HEADER, WITH_PLACE])
async def test_no_flipped_bit_in_what_sqlite_keeps_of_a_block_makes_its_events_new(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int, count: int
) -> None:
    make_runs_small(monkeypatch, in_memory=in_memory)
    await store.close()
    await store.open(DEFAULT_KEY_SPEC)
    await store.close()
    other = SqliteStore(f"sqlite:///{tmp_path}/flipped.db")
    opened = 0
    for flipped in flips(store.path.read_bytes(), b"".join(KEYS[3:6]), count):
        other.path.write_bytes(flipped)
        try:
            await other.open(DEFAULT_KEY_SPEC)
            with contextlib.suppress(StoreError):
                owners = [owner.seq if owner else None for owner in await told(other)]
                assert owners == list(range(1, 10))
            seqs = [event.seq for event in (await other.events(Query())).events]
            around = [seq for seq in seqs if not 4 <= seq <= 6]
            assert around == [1, 2, 3, 7, 8, 9] or count == WITH_PLACE
            opened += 1
        except StoreError:
            continue
        finally:
            await other.close()
    assert opened


@pytest.mark.parametrize("column", ["keys", "digests", "ends", "sizes", "events"])
async def test_bytes_that_became_text_are_read_as_before(store: SqliteStore, column: str) -> None:
    events = (await store.events(Query())).events
    owners = await told(store)
    change(store.path, f"UPDATE blocks SET {column} = CAST({column} AS TEXT)")
    await store.reopen()
    assert (await store.events(Query())).events == events
    assert await told(store) == owners


@pytest.mark.parametrize(
    "damage",
    [
        "ends = zeroblob(5)",
        "ends = zeroblob(16)",
        "sizes = ''",
        "digests = zeroblob(16)",
        "ends = '', sizes = '', digests = ''",
    ],
)
async def test_block_whose_parts_do_not_fit_is_passed_over_and_logged(
    store: SqliteStore, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    one, *_, nine = await told(store)
    change(store.path, f"UPDATE blocks SET {damage} WHERE first_seq = 4")
    for query in (Query(), Query(topic="logins"), Query(field=FieldIs("/user", b"sada"))):
        assert [one.seq for one in (await store.events(query)).events] == [1, 2, 3, 7, 8, 9]
    assert "the block of event 4 cannot be read" in caplog.text
    assert await store.find(KEYS[4], 10) == []
    owners = await told(store)
    assert (owners[0], owners[8]) == (one, nine)
    assert owners[3:6] == [KeyOwner(seq, b"", 0) for seq in (4, 5, 6)]
    async with store.transaction() as tx:
        three, four, seven = await tx.contents([3, 4, 7])
    assert four == Content("", None)
    assert three == seven == Content("tests", EVENTS[0].payload)


async def test_damaged_blocks_do_not_keep_fields_from_being_indexed(store: SqliteStore) -> None:
    change(store.path, "UPDATE blocks SET sizes = '' WHERE first_seq = 4")
    await store.close()
    await store.open(DEFAULT_KEY_SPEC)
    await store.index(["/user"])
    page = await store.events(Query(field=FieldIs("/user", b"sada")))
    assert [event.seq for event in page.events] == [1, 2, 3, 7, 8, 9]


@pytest.mark.parametrize(
    "damage",
    ["keys = zeroblob(48)", "keys = zeroblob(32)", "first_seq = 40", "checksum = checksum + 1"],
)
async def test_damaged_keys_stop_the_start_until_they_are_taken_as_they_stand(
    store: SqliteStore, damage: str
) -> None:
    change(store.path, f"UPDATE blocks SET {damage} WHERE first_seq = 7")
    with pytest.raises(StoreError, match=r"the keys of the events from (7|40) on are damaged"):
        await store.reopen()
    change(
        store.path,
        "UPDATE blocks SET first_seq = first_seq_copy, checksum = -1 WHERE first_seq > 6",
    )
    await store.reopen()
    owners = await told(store)
    assert [owner.seq for owner in owners[:6] if owner] == [1, 2, 3, 4, 5, 6]


async def test_entry_of_a_topic_that_leads_nowhere_is_passed_over(store: SqliteStore) -> None:
    change(store.path, "UPDATE blocks_by_topic SET first_seq = 5 WHERE first_seq = 4")
    for descending in (False, True):
        page = await store.events(Query(topic="logins", descending=descending))
        assert {event.seq for event in page.events} == {1, 2, 3, 7, 8, 9}


async def test_page_reads_no_more_than_it_says(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "READ_BYTES", 500)
    page = await store.events(Query(source="nobody's"))
    assert (page.events, page.next) == ([], 6)
