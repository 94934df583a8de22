"""Pages have what looking at every event would find, whichever way they find it."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from aggregator.core.identity import DEFAULT_KEY_SPEC, PayloadKind
from aggregator.event import Event
from aggregator.store import PAGE_BYTES, FieldIs, Page, Query
from aggregator.testing import make_event
from aggregator_sqlite import blocks, read
from aggregator_sqlite.store import SqliteStore

TOPICS = ["logins", 'say "hi"', "é", "a,b", "rare"]
SOURCES = ["web", "web,1", "\\", "logins"]
VALUES = ['"ada"', '"\\u0061da"', '"logins"', "10", "1e1", "-2.50", "true", "null", '"[],["']
WANTED = [b"sada", b"slogins", b"n1e1", b"n-25e-1", b"b1", b"b0", b"s[],[", b"snobody"]
FIELDS = ["/f", "/g/0", "/f/f"]


def _events(chance: random.Random, count: int) -> Iterator[Event]:
    for number in range(count):
        value = chance.choice(VALUES)
        name = chance.choice(["f", "g", "h", "\\u0066"])
        shape = chance.choice(['{"%s":%s}', '{"%s":[%s]}', '{"f":{"%s":%s}}']) % (name, value)
        kind = chance.choice([PayloadKind.JSON] * 8 + [PayloadKind.BYTES, PayloadKind.NOTHING])
        time = f"2026-01-31T12:00:{chance.randrange(60):02}Z"
        yield make_event(
            str(number),
            chance.choice(TOPICS[:-1]) if chance.random() < 0.99 else TOPICS[-1],
            source=chance.choice(SOURCES),
            payload=b"" if kind is PayloadKind.NOTHING else shape.encode(),
            payload_kind=kind,
            timestamp=time if kind is PayloadKind.JSON or chance.random() < 0.5 else "",
            received_at=1000 + number - chance.choice([0, 0, 5]),
        )


def _query(chance: random.Random, events: Sequence[Event]) -> Query:
    def perhaps(value: object) -> object:
        return value if chance.random() < 0.3 else None

    times = sorted(chance.choice(events).timestamp_us or 0 for _ in range(2))
    field = FieldIs(chance.choice(FIELDS), chance.choice(WANTED))
    return Query(
        topic=perhaps(chance.choice([*TOPICS, "none"])),
        source=perhaps(chance.choice([*SOURCES, "none"])),
        since=perhaps(times[0]),
        until=perhaps(times[1]),
        received_since=perhaps(1000 + chance.randrange(len(events))),
        received_until=perhaps(1000 + chance.randrange(len(events))),
        field=perhaps(field),
        limit=chance.choice([1, 3, 50, 1000]),
        descending=chance.random() < 0.5,
    )


def _is_wanted(query: Query, event: Event) -> bool:
    time = event.timestamp_us
    bounds = (query.since, query.until)
    return (
        query.topic in (None, event.topic)
        and query.source in (None, event.source)
        and (query.received_since is None or query.received_since <= event.received_at)
        and (query.received_until is None or event.received_at < query.received_until)
        and (bounds == (None, None) or time is not None)
        and (query.since is None or query.since <= (time or 0))
        and (query.until is None or (time or 0) < query.until)
        and (query.field is None or query.field.is_in(event.payload, event.payload_kind))
    )


@pytest.mark.parametrize("seed", range(4))
async def test_pages_have_what_a_scan_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(blocks, "EVENTS_PER_BLOCK", chance.choice([3, 20, 128]))
    monkeypatch.setattr(read, "SCANNED", chance.choice([1, 30, 20_000]))
    monkeypatch.setattr(read, "READ_BYTES", chance.choice([1, 20_000, 4 * PAGE_BYTES]))
    monkeypatch.setattr(read, "PAGE_BYTES", chance.choice([1, 3_000, PAGE_BYTES]))
    store = SqliteStore(f"sqlite:///{tmp_path}/a.db")
    await store.open(DEFAULT_KEY_SPEC)
    try:
        events = list(_events(chance, 600))
        for first in range(0, len(events), 150):
            async with store.transaction() as tx:
                await tx.append(events[first : first + 150])
        for _ in range(60):
            query = _query(chance, events)
            wanted = [seq for seq, event in enumerate(events, 1) if _is_wanted(query, event)]
            expected = wanted[::-1] if query.descending else wanted
            assert await _walked(store, query) == expected, query
    finally:
        await store.close()


async def _walked(store: SqliteStore, query: Query) -> list[int]:
    found: list[int] = []
    after: int | None = None
    while True:
        page: Page = await store.events(msgspec.structs.replace(query, after=after))
        found += [event.seq for event in page.events]
        assert len(page.events) <= query.limit
        assert not any(event.is_damaged for event in page.events)
        if page.next is None:
            return found
        assert after is None or (page.next < after if query.descending else page.next > after)
        after = page.next
