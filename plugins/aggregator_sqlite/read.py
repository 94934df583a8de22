"""What is read outside of transactions: pages of events, single ones, counters, topics, history."""

import logging
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from heapq import merge
from typing import Any, TypeVar

import msgspec

from aggregator.store import (
    CONTENTS_BYTES,
    PAGE_BYTES,
    ConflictStats,
    Content,
    Counters,
    FieldIs,
    History,
    Page,
    Query,
    RedeliveryStats,
    Span,
    StoredEvent,
    Topic,
)
from aggregator_sqlite import arrivals, blocks, fields, sums
from aggregator_sqlite.blocks import Block, Members, payload_kind_of
from aggregator_sqlite.key_index import KeyIndex, KeysInFile
from aggregator_sqlite.runs import KEY
from aggregator_sqlite.sums import WHAT_TO_DO

log = logging.getLogger(__name__)

SCANNED = 20_000  # events that one page examines at most
READ_BYTES = 4 * PAGE_BYTES  # of blocks that one page reads, about
_SCANNED_SOURCES = 20_000  # of one event, by name: further ones are not looked at

# All of them select what is after :after and before :before; a block, if any event of it is.
FORWARD = """
SELECT first_seq FROM blocks
WHERE first_seq >= coalesce((SELECT max(first_seq) FROM blocks WHERE first_seq <= :after), 0)
    AND first_seq < :before
ORDER BY first_seq
"""
BACKWARD = """
SELECT first_seq FROM blocks
WHERE first_seq >= coalesce((SELECT max(first_seq) FROM blocks WHERE first_seq <= :after), 0)
    AND first_seq < :before
ORDER BY first_seq DESC
"""
FORWARD_ON_TOPIC = """
SELECT first_seq FROM blocks_by_topic
WHERE topic_id = :topic_id AND first_seq < :before AND first_seq >= coalesce((
    SELECT max(first_seq) FROM blocks_by_topic WHERE topic_id = :topic_id AND first_seq <= :after
), 0)
ORDER BY first_seq
"""
BACKWARD_ON_TOPIC = """
SELECT first_seq FROM blocks_by_topic
WHERE topic_id = :topic_id AND first_seq < :before AND first_seq >= coalesce((
    SELECT max(first_seq) FROM blocks_by_topic WHERE topic_id = :topic_id AND first_seq <= :after
), 0)
ORDER BY first_seq DESC
"""
FORWARD_BY_FIELD = """
SELECT seq FROM fields
WHERE pointer_id = :pointer_id AND value = :value AND seq > :after AND seq < :before
ORDER BY seq
"""
BACKWARD_BY_FIELD = """
SELECT seq FROM fields
WHERE pointer_id = :pointer_id AND value = :value AND seq > :after AND seq < :before
ORDER BY seq DESC
"""
TOPIC_ID = "SELECT id FROM topics WHERE name = ?"
SPAN = "SELECT (SELECT min(first_seq) FROM blocks), last_seq FROM counters"
TOPICS = """
SELECT name, stored, duplicate, conflict, first_seq, first_at, last_seq, last_at, checksum
FROM topics WHERE name > ? AND stored > 0 ORDER BY name LIMIT ?
"""
REDELIVERIES = """
SELECT seq, source, duplicates, conflicts, first_at, last_at, checksum
FROM (SELECT * FROM redeliveries WHERE seq = :seq LIMIT :scanned)
ORDER BY first_at, source LIMIT :most
"""
CONFLICTS_OF = """
SELECT seq, digest, differences, source, times, first_at, last_at, checksum
FROM conflicting_contents
WHERE seq = ? ORDER BY first_at, digest LIMIT ?
"""

S = TypeVar("S", bound=msgspec.Struct)

QuickTest = Callable[[bytes], bool]
"""False only for bytes within which no event that is wanted can stand."""
Candidates = Generator[tuple[Block | None, Sequence[int]], None, None]
"""Events that may match, by block, which is None if it is gone or unreadable: their seqs."""


def page(db: sqlite3.Connection, query: Query) -> Page:
    """One page of the events that match. Its work is bounded, however few match.

    It looks into no more than SCANNED events and PAGE_BYTES of them, and reads no more than
    READ_BYTES of blocks. Then it ends, and says where to go on.
    """
    events: list[StoredEvent] = []
    looked_into = size = read = last = 0
    before = None
    is_on_topic, may_match = _topic_test(query), _quick_test(query)
    with closing(_scan(db, query)) as candidates:
        for block, seqs in candidates:
            if block is not None and block is not before:
                if read >= READ_BYTES:
                    return Page(events, last)
                read, before = read + block.size, block
            on_topic = _passing(block, is_on_topic, seqs)
            some = _passing(block, may_match, on_topic)
            if on_topic and len(events) == query.limit:
                return Page(events, last)
            decoded = block.members_of(some) if block else [Members() for _ in some]
            for seq, members in zip(some, decoded, strict=True):
                if looked_into == SCANNED or size >= PAGE_BYTES:
                    return Page(events, last)
                looked_into, last = looked_into + 1, seq
                if block is None or not _is_wanted(query, members):
                    continue
                size += block.size_of(seq)
                if query.field is None or _has_field(query.field, block, seq, members):
                    events.append(block.event(seq, members))
                    if len(events) == query.limit and seq != on_topic[-1]:
                        return Page(events, seq)
            last = seqs[-1]
    return Page(events, None)


def _passing(block: Block | None, test: QuickTest | None, seqs: Sequence[int]) -> Sequence[int]:
    return seqs if block is None or test is None else block.passing(test, seqs)


def _topic_test(query: Query) -> QuickTest | None:
    """Whether the JSON of an event may be of one on the topic: its members decide."""
    if query.topic is None:
        return None
    text = b",%b," % msgspec.json.encode(query.topic)
    return lambda stored: text in stored


def _quick_test(query: Query) -> QuickTest | None:
    """Whether the JSON of an event may be of one that matches: its members and payload decide."""
    source = b"" if query.source is None else b",%b," % msgspec.json.encode(query.source)
    if query.field is None:
        return (lambda stored: source in stored) if source else None
    may_have = query.field.may_be_in
    return lambda stored: source in stored and may_have(stored)


def _is_wanted(query: Query, members: Members) -> bool:
    """Whether an event matches, but for its payload, which takes longest."""
    return (
        query.topic in (None, members.topic)
        and query.source in (None, members.source)
        and _is_within(query.received_since, query.received_until, members.received_at)
        and _is_within(query.since, query.until, members.time)
    )


def _has_field(field: FieldIs, block: Block, seq: int, members: Members) -> bool:
    form = payload_kind_of(members.payload_kind)
    return field.is_in(block.payload(seq, form), form)


def _is_within(since: int | None, until: int | None, time: int | None) -> bool:
    if since is None and until is None:
        return True
    return time is not None and (since is None or since <= time) and (until is None or time < until)


def _scan(db: sqlite3.Connection, query: Query) -> Candidates:
    """The candidates, in the order of the query, by the best index that there is."""
    first, end = arrivals.bounds(db, query.received_since, query.received_until)
    after, before = first - 1, end
    if query.after is not None:
        after = after if query.descending else max(after, query.after)
        before = min(before, query.after) if query.descending else before
    wanted = {"after": after, "before": before}
    if query.field and (value := fields.lookup(db, query.field)):
        return _by_field(db, query, wanted | value)
    if query.topic is None:
        return _among(db, BACKWARD if query.descending else FORWARD, query, wanted)
    statement = BACKWARD_ON_TOPIC if query.descending else FORWARD_ON_TOPIC
    (topic_id,) = db.execute(TOPIC_ID, (query.topic,)).fetchone() or (0,)
    return _among(db, statement, query, wanted | {"topic_id": topic_id})


def _by_field(db: sqlite3.Connection, query: Query, wanted: dict[str, Any]) -> Candidates:
    statement = BACKWARD_BY_FIELD if query.descending else FORWARD_BY_FIELD
    with closing(db.execute(statement, wanted)) as found:
        for block, seq in blocks.for_seqs(db, (seq for (seq,) in found)):
            yield block, (seq,)


def _among(
    db: sqlite3.Connection, statement: str, query: Query, wanted: dict[str, Any]
) -> Candidates:
    """All events of these blocks, from where the query begins."""
    after, before = wanted["after"], wanted["before"]
    with closing(blocks.read_each(db, statement, wanted)) as found:
        for block in found:
            seqs = range(max(block.seqs[0], after + 1), min(block.seqs[-1] + 1, before))
            if seqs:
                yield block, seqs[::-1] if query.descending else seqs


def find(
    db: sqlite3.Connection,
    index: KeyIndex | KeysInFile,
    name: bytes,
    limit: int,
    source: str | None,
) -> list[StoredEvent]:
    """The first events with that key or name, from one source or from any."""
    events: list[StoredEvent] = []
    if len(name) != KEY:
        return []
    owner = index.find(db, name)
    seqs = merge([owner] if owner else [], _named(db, index, name))
    for block, seq in blocks.for_seqs(db, seqs):
        if block is None:
            continue
        members = block.members(seq)
        if source in (None, members.source) and not (events and events[-1].seq == seq):
            events.append(block.event(seq, members))
        if len(events) == limit:
            break
    return events


def _named(db: sqlite3.Connection, index: KeyIndex | KeysInFile, name: bytes) -> Iterator[int]:
    after = 0
    while seqs := index.named(db, name, after):
        yield from seqs
        after = seqs[-1]


def contents(
    db: sqlite3.Connection, seqs: Sequence[int], unreadable: set[int] | None = None
) -> list[Content]:
    """The contents of the first of these events."""
    found: list[Content] = []
    size = 0
    for block, seq in blocks.for_seqs(db, seqs, unreadable):
        content = _content(block, seq)
        found.append(content)
        size += len(content.payload or b"")
        if size >= CONTENTS_BYTES:
            break
    return found


def _content(block: blocks.Block | None, seq: int) -> Content:
    """What an event that is unreadable or gone has is not known."""
    if block is None:
        return Content("", None)
    members = block.members(seq)
    form = payload_kind_of(members.payload_kind)
    return Content(members.source, block.payload(seq, form), form, block.is_damaged(seq))


def span(db: sqlite3.Connection) -> Span:
    """The seqs from the oldest event to the last one that was stored."""
    oldest, newest = db.execute(SPAN).fetchone()
    if oldest is None:
        oldest = newest + 1 if newest else 0
    return Span(oldest, newest)


def counters(db: sqlite3.Connection) -> Counters:
    """The counters of the last commit. Raises StoreError if they are damaged."""
    return msgspec.convert(sums.counters(db), Counters)


def topics(db: sqlite3.Connection, after: str, limit: int) -> list[Topic]:
    """Topics by name. Damaged numbers are logged, and given as they are."""
    found = sums.rows(db, TOPICS, (after, limit))
    for row in found:
        if sums.TOPIC.difference(row, sums.over(row["name"])) != 0:
            log.error("the numbers of the topic %r are damaged; %s", row["name"], WHAT_TO_DO)
    return [_part(Topic, row) for row in found]


def history(db: sqlite3.Connection, seq: int, limit: int) -> History:
    """What came again under the event's key; the earliest entries of both lists.

    Damaged entries are logged, and given as they are.
    """
    wanted = {"seq": seq, "scanned": _SCANNED_SOURCES, "most": limit}
    redeliveries = sums.rows(db, REDELIVERIES, wanted)
    conflicts = sums.rows(db, CONFLICTS_OF, (seq, limit))
    if not all(map(is_redelivery_whole, redeliveries)) or not all(
        map(is_conflict_whole, conflicts)
    ):
        log.error("what came again for event %d is damaged; %s", seq, WHAT_TO_DO)
    return History(
        [_part(RedeliveryStats, row) for row in redeliveries],
        [
            _part(ConflictStats, row | {"differences": _pointers(row["differences"])})
            for row in conflicts
        ],
    )


def is_redelivery_whole(row: dict[str, Any]) -> bool:
    """Whether a row of `redeliveries` is as it was written."""
    return sums.REDELIVERY.difference(row, sums.over(row["source"])) == 0


def is_conflict_whole(row: dict[str, Any]) -> bool:
    """Whether a row of `conflicting_contents` is as it was written."""
    hashed = sums.over(row["digest"], row["differences"], row["source"])
    return sums.CONFLICT.difference(row, hashed) == 0


def _part(kind: type[S], row: dict[str, Any]) -> S:
    """The struct, of those columns that it has."""
    return kind(**{name: row[name] for name in kind.__struct_fields__})


def _pointers(differences: str) -> tuple[str, ...]:
    """The JSON pointers; none where a flipped bit has made them unreadable."""
    try:
        return msgspec.json.decode(differences, type=tuple[str, ...])
    except msgspec.MsgspecError:
        return ()
