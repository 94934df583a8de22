"""Events stand in blocks, and each is read as if it stood alone."""

import random
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from aggregator.core.identity import DEFAULT_KEY_SPEC, PayloadKind
from aggregator.event import Event
from aggregator.store import FieldIs, KeyOwner, Query, StoredEvent
from aggregator.testing import make_event
from aggregator_sqlite import blocks
from aggregator_sqlite.store import SqliteStore
from tampering import as_sent, empty, remove

CLOUD = b'{"specversion":"1.0","note":"a]b\\\\\\"c"}'
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "spelled": {
        "payload": b'{"a" : [1.50, "]\\u00e9"],\n"b":\t{}}',
        "source": 'two\n"a" \u00e9',
    },
    "null": {"payload": b"null", "attributes": CLOUD, "timestamp": ""},
    "text": {"payload": b'"\xc3\xa9"', "attributes": CLOUD},
    "nothing": {"payload": b"", "payload_kind": PayloadKind.NOTHING, "attributes": CLOUD},
    "no bytes": {"payload": b"", "payload_kind": PayloadKind.BYTES, "attributes": CLOUD},
    "bytes": {"payload": bytes(range(256)), "payload_kind": PayloadKind.BYTES, "attributes": CLOUD},
    "no JSON": {"payload": b'{"a":'},
    "other topic": {"topic": "\U0001f600 \u2028"},
    "early": {"received_at": 0, "timestamp": "0001-01-01T00:00:00Z"},
}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await store.open(DEFAULT_KEY_SPEC)
    yield store
    await store.close()


def every_kind() -> list[Event]:
    return [make_event(name, **members) for name, members in KINDS.items()]


async def append(store: SqliteStore, events: Sequence[Event], at_once: int) -> None:
    for first in range(0, len(events), at_once):
        async with store.transaction() as tx:
            await tx.append(events[first : first + at_once])


def as_stored(seq: int, event: Event) -> StoredEvent:
    payload = (
        None if (event.payload_kind, event.payload) == (PayloadKind.JSON, b"") else event.payload
    )
    members = (event.topic, event.event_id, event.timestamp or None, event.source, payload)
    kept = (event.key, event.digest, event.payload_kind, event.attributes)
    return StoredEvent(seq, event.received_at, *members, *kept)


def asked(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db, db:
        return db.execute(statement).fetchall()


@pytest.mark.parametrize("at_once", [1, 3, len(KINDS)])
async def test_each_kind_of_event_is_read_as_it_was_stored(
    store: SqliteStore, at_once: int
) -> None:
    events = every_kind()
    await append(store, events, at_once)
    expected = [as_stored(seq, event) for seq, event in enumerate(events, 1)]
    assert (await store.events(Query())).events == expected
    assert [(await store.find(event.key, 1))[0] for event in events] == expected
    async with store.transaction() as tx:
        contents = await tx.contents(range(1, len(events) + 1))
        owners = await tx.claim([event.key for event in events])
    assert [(content.source, content.payload, content.payload_kind) for content in contents] == [
        (event.source, event.payload, event.payload_kind) for event in expected
    ]
    assert [(one.seq, one.digest, one.received_at) for one in owners if one] == [
        (event.seq, event.digest, event.received_at) for event in expected
    ]


async def test_sqlite_itself_can_show_events(store: SqliteStore) -> None:
    events = [event for event in every_kind() if event.event_id != "no JSON"]
    await append(store, events, 100)
    statement = (
        "SELECT seq, received_us, topic, event_id, timestamp, source, time_us, payload_kind, key, "
        "digest, block FROM events"
    )
    assert asked(store.path, statement) == [
        (
            *(seq, one.received_at, one.topic, one.event_id, one.timestamp or None, one.source),
            *(one.timestamp_us, one.payload_kind.name.lower(), one.key.hex(), one.digest.hex(), 1),
        )
        for seq, one in enumerate(events, 1)
    ]
    shown = dict(asked(store.path, "SELECT event_id, payload FROM events"))
    assert shown["plain"] == '{"user":"ada"}'
    assert shown["nothing"] is None
    assert shown["bytes"].startswith("AAECAwQF")


@pytest.mark.parametrize(
    ("timestamp", "shown"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000Z"),
        ("2026-01-31T13:00:00.104200+01:00", "2026-01-31T12:00:00.104200Z"),
        ("1969-12-31T23:59:59.25Z", "1969-12-31T23:59:59.250000Z"),
        ("0001-01-01T00:00:00.000001Z", "0001-01-01T00:00:00.000001Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ("", None),
    ],
)
async def test_sqlite_itself_shows_times_in_utc(
    store: SqliteStore, timestamp: str, shown: str | None
) -> None:
    await append(store, [make_event("1", timestamp=timestamp, received_at=1)], 1)
    told = asked(store.path, "SELECT time, received_at FROM events")
    assert told == [(shown, "1970-01-01T00:00:00.000001Z")]


async def test_blocks_end_where_there_is_enough_in_them(store: SqliteStore) -> None:
    await append(store, [make_event(str(number)) for number in range(300)], 300)
    large = [make_event(f"large {number}", payload=b'"%b"' % bytes(40_000)) for number in range(3)]
    huge = make_event("huge", payload=b'"%b"' % bytes(400_000))
    await append(store, [*large, huge, make_event("last")], 100)
    counted = asked(store.path, "SELECT first_seq, length(keys) / 16 FROM blocks")
    assert counted == [(1, 128), (129, 128), (257, 44), *((seq, 1) for seq in range(301, 306))]


@pytest.mark.parametrize("seed", range(5))
async def test_pages_are_what_a_list_would_give(
    store: SqliteStore, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "EVENTS_PER_BLOCK", 4)
    await store.close()
    await store.open(DEFAULT_KEY_SPEC)
    await store.index(["/user"] * (seed % 2))
    chance = random.Random(seed)
    events = [an_event(chance, number) for number in range(120)]
    for first in range(0, 120, 10):
        await append(store, events[first : first + 10], chance.randint(1, 10))
    gone = set(chance.sample(range(1, 121), 15))
    remove(store.path, *gone)
    kept = [as_stored(seq, one) for seq, one in enumerate(events, 1) if seq not in gone]
    for _ in range(200):
        query = a_query(chance)
        found = await store.events(query)
        expected = what_matches(kept, query)
        assert found.events == expected[: query.limit]
        if found.next is None:
            assert found.events == expected
        else:
            rest = msgspec.structs.replace(query, after=found.next, limit=200)
            assert found.events + (await store.events(rest)).events == expected


def an_event(chance: random.Random, number: int) -> Event:
    return make_event(
        str(number),
        chance.choice(["a", "a", "a", "b", "c"]),
        source=chance.choice("xy"),
        received_at=1000 + number + chance.choice([0, 0, 0, -20, 5, 40 * (number > 100)]),
        payload=b'{"user":"%d"}' % chance.randrange(4),
    )


def a_query(chance: random.Random) -> Query:
    since = chance.choice([None, 1030])
    user = FieldIs("/user", b"s%d" % chance.randrange(4))
    return Query(
        topic=chance.choice([None, None, "a", "b", "c", "d"]),
        source=chance.choice([None, None, "x"]),
        received_since=since,
        received_until=chance.choice([None, 1090]),
        field=chance.choice([None, None, user]),
        after=chance.choice([None, chance.randrange(125)]),
        limit=chance.choice([1, 3, 10, 200]),
        descending=chance.random() < 0.5,
    )


def what_matches(stored: Sequence[StoredEvent], query: Query) -> list[StoredEvent]:
    matching = [
        event
        for event in (reversed(stored) if query.descending else stored)
        if query.topic in (None, event.topic)
        and query.source in (None, event.source)
        and (query.received_since is None or query.received_since <= event.received_at)
        and (query.received_until is None or event.received_at < query.received_until)
        and (query.field is None or query.field.is_in(event.payload, event.payload_kind))
    ]
    if query.after is None:
        return matching
    after = query.after
    return [one for one in matching if (one.seq < after if query.descending else one.seq > after)]


async def test_payload_that_is_kept_no_more_is_none(store: SqliteStore) -> None:
    await append(store, every_kind(), 100)
    empty(store.path, 1)
    first, second, *_ = (await store.events(Query())).events
    assert (first.event_id, first.payload) == ("plain", None)
    assert second == as_stored(2, every_kind()[1])


@pytest.mark.parametrize("column", ["keys", "digests", "ends", "sizes", "events"])
async def test_no_flipped_bit_hides_an_event_around_it(store: SqliteStore, column: str) -> None:
    """Where an event ends the next one begins: two are damaged then, and never more."""
    events = every_kind()
    await append(store, events, 100)
    stored = (await store.events(Query())).events
    ((written,),) = asked(store.path, f"SELECT {column} FROM blocks")
    chance = random.Random(column)
    for _ in range(100):
        flipped = bytearray(written)
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        with closing(sqlite3.connect(store.path)) as db, db:
            db.execute(f"UPDATE blocks SET {column} = ?", (bytes(flipped),))
        found = (await store.events(Query())).events
        assert [event.seq for event in found] == [event.seq for event in stored]
        damaged = sum(one != other for one, other in zip(found, stored, strict=True))
        assert damaged <= (2 if column == "ends" else 1)
        async with store.transaction() as tx:
            owners = await tx.claim([event.key for event in events])
            assert [one.seq for one in owners if one] == [event.seq for event in stored]
            await tx.contents([event.seq for event in stored])


def test_events_are_taken_apart_as_they_were_put_together() -> None:
    events = every_kind()
    ((row, some),) = blocks.pack(5, events)
    block = blocks.Block(row)
    assert list(block.seqs) == list(range(5, 5 + len(events)))
    for seq, event in zip(block.seqs, some, strict=True):
        again = as_sent(block, seq)
        assert (
            msgspec.structs.replace(again, submission="submission", known_timestamp_us=UNSET)
            == event
        )


def test_bit_that_flips_leaves_the_members_of_other_events_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are decoded together, where one event must not run on into the next."""
    ((row, _),) = blocks.pack(5, every_kind())
    block = blocks.Block(row)
    monkeypatch.setattr(blocks, "_FEW", 1)
    written = [block.members(seq) for seq in block.seqs]
    assert list(block.members_of(block.seqs)) == written
    stored = row[-1]
    for bit in range(8 * len(stored)):
        flipped = bytearray(stored)
        flipped[bit // 8] ^= 1 << bit % 8
        found = blocks.Block((*row[:-1], bytes(flipped))).members_of(block.seqs)
        assert sum(one != other for one, other in zip(found, written, strict=True)) <= 1


async def test_owner_of_a_large_event_is_found_without_reading_it(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = make_event("1", payload=b'{"f":"' + b"x" * 200_000 + b'"}', received_at=123_456)
    small = make_event("2")
    await append(store, [large, small], at_once=2)
    read: list[int] = []
    members = blocks.Block.members

    def noting(block: blocks.Block, seq: int) -> blocks.Members:
        read.append(block.size)
        return members(block, seq)

    monkeypatch.setattr(blocks.Block, "members", noting)
    async with store.transaction() as tx:
        owners = await tx.claim([large.key, small.key])
    assert owners == [
        KeyOwner(1, large.digest, large.received_at),
        KeyOwner(2, small.digest, small.received_at),
    ]
    assert len(read) == 1
    assert read[0] < 1_000
