"""Changes stored events by hand, as an operator, a flipped bit or a broken store might."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import groupby
from pathlib import Path

from msgspec import structs

from aggregator.event import Event
from aggregator_sqlite import arrivals, blocks

PART = "UPDATE blocks SET events = CAST(? AS BLOB) WHERE first_seq = ?"
Change = Callable[[int, Event], Event | None]


def rewrite(db: sqlite3.Connection, change: Change) -> None:
    """Put what `change` makes of each event in its place; None removes it."""
    with closing(blocks.since(db, 0)) as found:
        stored = [(seq, change(seq, as_sent(block, seq))) for block in found for seq in block.seqs]
    ids = dict(db.execute("SELECT name, id FROM topics"))
    db.execute("DELETE FROM blocks")
    db.execute("DELETE FROM blocks_by_topic")
    kept = [(seq, event) for seq, event in stored if event]
    for _, following in groupby(enumerate(kept), lambda one: one[1][0] - one[0]):
        some = [one for _, one in following]
        for row, events in blocks.pack(some[0][0], [event for _, event in some]):
            arrivals.add_blocks(db, [(row, arrivals.times_of(events))])
            for topic in {event.topic for event in events}:
                blocks.ADD_TO_TOPICS(db, [(ids[topic], row[0])])


def as_sent(block: blocks.Block, seq: int) -> Event:
    """The event as it was before it was stored."""
    stored = block.event(seq)
    members = structs.asdict(stored) | {
        "timestamp": stored.timestamp or "",
        "payload": stored.payload or b"",
        "known_timestamp_us": block.members(seq).time,
        "name": block.name(seq),
    }
    del members["seq"], members["is_damaged"]
    return Event(0, "", **members)


def remove(path: Path, *seqs: int) -> None:
    """Remove these events by hand; all of them if none is named."""
    with closing(sqlite3.connect(path)) as db, db:
        rewrite(db, lambda seq, event: event if seqs and seq not in seqs else None)


def empty(path: Path, *seqs: int) -> None:
    """Keep the payloads of these no more."""
    with closing(sqlite3.connect(path)) as db, db:
        rewrite(
            db, lambda seq, event: structs.replace(event, payload=b"") if seq in seqs else event
        )


def spoil(path: Path, seq: int, before: bytes, after: bytes) -> None:
    """Put other bytes, as many, in place of the first such ones in the event's JSON."""
    assert len(before) == len(after)
    with closing(sqlite3.connect(path)) as db, db:
        block = blocks.read(db, seq)
        assert block
        text, _ = block._text(seq)
        assert before in text
        spoiled = block._events.replace(text, text.replace(before, after, 1))
        db.execute(PART, (spoiled, block.first_seq))
