"""A bit that flips anywhere in the file is harmless, told or refused: no answer is silently wrong.

It is silent if neither the start, nor reading, nor `aggregator check` tells of it, and an answer is
another one.
"""

import asyncio
import logging
import random
import sqlite3
import struct
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aggregator.core.identity import DEFAULT_KEY_SPEC, PayloadKind, key_of
from aggregator.errors import AggregatorError, StoreError
from aggregator.event import Event
from aggregator.store import (
    ConflictingContent,
    Counters,
    FieldIs,
    QuarantinePage,
    QuarantineQuery,
    QuarantineReason,
    Query,
    Redelivery,
)
from aggregator.testing import make_entry, make_event
from aggregator_sqlite.store import SqliteStore
from pages import SIZE, flip
from small_runs import make_pages_small, make_runs_small

BEGIN = 1_800_000_000_000_000
EVENTS = 240
IN_BATCH = 12
LEAVES = (0x0A, 0x0D)  # first bytes of their pages: of an index, of rows
LIMIT = 60.0  # seconds for all answers
TABLES = {
    "counters": ("counters",),
    "topics": ("topics", "sqlite_autoindex_topics_1"),
    "blocks": ("blocks",),
    "blocks_by_topic": ("blocks_by_topic",),
    "runs": ("runs",),
    "run_pages": ("run_pages",),
    "redeliveries": ("redeliveries",),
    "conflicting_contents": ("conflicting_contents",),
    "quarantine": ("quarantine", "quarantine_by_time"),
    "fields": ("fields",),
    "pointers": ("pointers", "sqlite_autoindex_pointers_1"),
    "meta": ("meta",),
}
"""Each with its indexes; in the file they are trees of pages."""


def event(number: int) -> Event:
    """One of several topics, sources, kinds of payload, and kinds of keys."""
    members: dict[str, Any] = {
        "received_at": BEGIN + 1_000_000 * number,
        "source": f"source-{number % 4}",
        "payload": b'{"user":"u%d","n":%d}' % (number % 7, number),
    }
    topic, event_id = f"topic-{number % 5}", f"id-{number}"
    if number % 6 == 1:
        members["key"] = key_of(topic, f"other-{number}")
        members["name"] = key_of(topic, event_id)
    if number % 10 == 3:
        members |= {"payload": b"\x00\x01" * 9, "payload_kind": PayloadKind.BYTES}
        members["attributes"] = b'{"specversion":"1.0","subject":"s"}'
    if number % 10 == 4:
        members |= {"payload": b"", "payload_kind": PayloadKind.NOTHING, "attributes": b"{}"}
    return make_event(event_id, topic, **members)


SENT = [event(number) for number in range(EVENTS)]


async def fill(store: SqliteStore) -> None:
    """Something in every table, more than a page in most."""
    for first in range(0, EVENTS, IN_BATCH):
        some = SENT[first : first + IN_BATCH]
        by_topic = Counter(one.topic for one in some)
        async with store.transaction() as tx:
            await tx.claim([one.key for one in some])
            await tx.append(some)
            again = [
                Redelivery(seq, f"source-{seq % 3}", BEGIN + seq, _content(seq))
                for seq in range(max(1, first - IN_BATCH), first)
            ]
            await tx.record(again)
            await tx.quarantine([_entry(first)])
            counted = {topic: Counters(stored=count) for topic, count in by_topic.items()}
            await tx.count(Counters(stored=len(some), invalid=1, duplicate=0), counted)
    async with store.transaction() as tx:
        await tx.drop([3])
        await tx.evict(BEGIN + 2, 10**9)
        await tx.count(Counters(filtered=3), {})


def _content(seq: int) -> ConflictingContent | None:
    return ConflictingContent(b"\x01" + bytes([seq % 256] * 16), ("/user",)) if seq % 2 else None


def _entry(number: int) -> Any:
    reason = (QuarantineReason.INVALID, QuarantineReason.FAILED)[number % 2]
    body = b'{"topic":"broken","n":%d}' % number * 20
    return make_entry(f"bad-{number}", "broken", kept_at=BEGIN + number, reason=reason, body=body)


@pytest.fixture
async def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store, closed: all is in the database."""
    make_runs_small(monkeypatch, in_memory=30, at_once=20)
    make_pages_small(monkeypatch)
    store = SqliteStore(f"sqlite:///{tmp_path}/whole.db")
    await store.open(DEFAULT_KEY_SPEC)
    await store.index(["/user"])
    await fill(store)
    await store.close()
    return store.path


async def answers(store: SqliteStore) -> list[Any]:
    """To all that is asked of a store."""
    found: list[Any] = []
    for descending in (False, True):
        found += [(await store.events(Query(limit=1000, descending=descending))).events]
    for wanted in (
        *({"topic": f"topic-{number}"} for number in range(5)),
        {"source": "source-2"},
        {"field": FieldIs("/user", b"su3")},
        {"received_since": BEGIN + 200_000_000},
        {"received_until": BEGIN + 30_000_000},
        {"received_since": BEGIN + 80_000_000, "received_until": BEGIN + 90_000_000},
    ):
        found += [(await store.events(Query(limit=1000, **wanted))).events]
    for one in SENT:
        found += [await store.find(key_of(one.topic, one.event_id), 10)]
    for seq in range(1, EVENTS + 1):
        found += [await store.history(seq, 100)]
    found += [await store.span(), await store.counters(), await store.topics("", 100)]
    found += [await store.quarantined(QuarantineQuery())]
    async with store.transaction() as tx:
        found += [await tx.claim([one.key for one in SENT])]
        found += [await tx.contents(list(range(1, EVENTS + 1)))]
    return found


async def ask(path: Path) -> list[Any]:
    """Raises SettingError or StoreError where that is told."""
    store = SqliteStore(f"sqlite:///{path}")
    try:
        await store.open(DEFAULT_KEY_SPEC)
        await store.index(["/user"])
        return await answers(store)
    finally:
        await store.close()


def shows_damage(found: list[Any]) -> bool:
    parts = (each.entries if isinstance(each, QuarantinePage) else each for each in found)
    rows = (one for each in parts if isinstance(each, list) for one in each)
    return any(getattr(one, "is_damaged", False) for one in rows)


async def outcome(path: Path, expected: list[Any], caplog: pytest.LogCaptureFixture) -> str:
    """What becomes of a file in which a bit has flipped."""
    checked = path.with_name("checked.db")
    checked.write_bytes(path.read_bytes())  # as it is before a start writes to it
    caplog.clear()
    try:
        found = await asyncio.wait_for(ask(path), LIMIT)
    except AggregatorError:
        return "refused"
    if found == expected:
        return "harmless"
    if shows_damage(found) or any(record.levelno >= logging.ERROR for record in caplog.records):
        return "told"
    try:
        told = await asyncio.wait_for(SqliteStore(f"sqlite:///{checked}").check(), LIMIT)
    except StoreError:
        return "told by the check"
    return "told by the check" if told.findings else "silent"


def bytes_of(path: Path, table: str) -> list[int]:
    """Where the table and its indexes have bytes in the file; everybody's for no table.

    What SQLite keeps free in a page is left out: a bit that flips there is always harmless.
    """
    with closing(sqlite3.connect(path)) as db:
        names = TABLES.get(table, ())
        marks = ", ".join("?" * len(names))
        wanted = f"WHERE name IN ({marks})" if names else ""
        pages = db.execute(f"SELECT pageno, pagetype FROM dbstat {wanted}", names).fetchall()
    file = path.read_bytes()
    found: list[int] = []
    for number, kind in pages:
        start = (number - 1) * SIZE
        used = [range(SIZE)] if kind == "overflow" else _used(file, start, number == 1)
        found += [start + at for places in used for at in places]
    assert found
    return found


def _used(file: bytes, start: int, is_first: bool) -> list[range]:
    """Of a page of a tree: its header and pointers, and what it has from the end on."""
    header = 100 if is_first else 0
    is_leaf = file[start + header] in LEAVES
    (cells, content) = struct.unpack_from(">HH", file, start + header + 3)
    return [range(header + (8 if is_leaf else 12) + 2 * cells), range(content or SIZE, SIZE)]


async def flip_bits(whole: Path, table: str, seed: int, count: int, caplog: Any) -> Counter[str]:
    """What became of so many flips, each in a copy of its own."""
    original = whole.read_bytes()
    places = bytes_of(whole, table)
    chance = random.Random(f"{table} {seed}")
    flipped = whole.with_name("flipped.db")
    flipped.write_bytes(original)
    expected = await ask(flipped)
    outcomes: Counter[str] = Counter()
    for _ in range(count):
        for left in whole.parent.glob("*ed.db*"):
            left.unlink()
        at, bit = chance.choice(places), chance.randrange(8)
        flipped.write_bytes(original)
        flip(flipped, at, bit)
        became = await outcome(flipped, expected, caplog)
        assert became != "silent", (table, at, bit)
        outcomes[became] += 1
    return outcomes


@pytest.mark.parametrize("table", ["", *TABLES])
async def test_flipped_bit_is_not_silent(
    whole: Path, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    await flip_bits(whole, table, 0, 3, caplog)


@pytest.mark.parametrize("table", TABLES)
async def test_no_bit_flipped_in_a_table_is_silent(
    whole: Path, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = await flip_bits(whole, table, 1, 40, caplog)
    print(table, dict(outcomes))


@pytest.mark.parametrize("part", range(5))
async def test_no_bit_flipped_anywhere_is_silent(
    whole: Path, part: int, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = await flip_bits(whole, "", 2 + part, 100, caplog)
    print(part, dict(outcomes))


async def test_check_finds_nothing_in_what_is_whole(whole: Path) -> None:
    checked = await SqliteStore(f"sqlite:///{whole}").check()
    assert (checked.findings, checked.events, checked.last_seq) == ([], EVENTS, EVENTS)
