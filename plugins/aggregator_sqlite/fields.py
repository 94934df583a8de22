"""The index of fields: which events have which value at a place in their payload.

Only the JSON pointers that an operator names are indexed; without any, no payload is parsed. A long
value is indexed by its hash, so a reader looks into the payload of what it finds here.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from hashlib import blake2b
from itertools import chain

from aggregator.core.identity import PayloadKind
from aggregator.event import Event
from aggregator.store import PAGE_BYTES, FieldIs, StoredEvent, value_at
from aggregator_sqlite import blocks
from aggregator_sqlite.blocks import payload_kind_of
from aggregator_sqlite.connection import immediate_transaction

BUILT_AT_ONCE = 20_000  # events in a transaction, about
REMOVED_AT_ONCE = 20_000  # entries in a transaction
_LONGEST = 32  # bytes of a value that is indexed as it is
_HASH = 16  # bytes

Pointers = tuple[tuple[int, str], ...]
"""The pointers that are indexed, with their ids."""
Entry = tuple[int, bytes, int]
"""The id of a pointer, the value there, and the event's seq."""

POINTERS = "SELECT id, pointer, built_to FROM pointers ORDER BY id"
POINTER_ID = "SELECT id FROM pointers WHERE pointer = ? AND built_to IS NULL"
ADD_POINTER = "INSERT INTO pointers (pointer, built_to) VALUES (?, 0) ON CONFLICT DO NOTHING"
BEGIN_REMOVAL = "UPDATE pointers SET built_to = 0 WHERE id = ?"
REMOVE_POINTER = "DELETE FROM pointers WHERE id = ?"
BUILT = "UPDATE pointers SET built_to = max(built_to, ?) WHERE id = ?"
COMPLETE = "UPDATE pointers SET built_to = NULL WHERE id = ?"
ADD_FIELD = "INSERT OR IGNORE INTO fields (pointer_id, value, seq) VALUES (?, ?, ?)"
SOME_FIELDS = "SELECT pointer_id, value, seq FROM fields WHERE pointer_id = ? LIMIT ?"
REMOVE_FIELD = "DELETE FROM fields WHERE pointer_id = ? AND value = ? AND seq = ?"


def set_pointers(db: sqlite3.Connection, wanted: Sequence[str]) -> None:
    """Enter the pointers to be indexed too."""
    with immediate_transaction(db):
        db.executemany(ADD_POINTER, ((where,) for where in wanted))


def build_some(db: sqlite3.Connection, wanted: Sequence[str]) -> int | None:
    """Index some events stored before their pointer was wanted; up to which, or None at the end."""
    rows = db.execute(POINTERS).fetchall()
    unbuilt = [row for row in rows if row[2] is not None and row[1] in wanted]
    if not unbuilt:
        return None
    pointers = tuple((number, where) for number, where, _ in unbuilt)
    last, values = _read(db, pointers, min(built_to for *_, built_to in unbuilt))
    with immediate_transaction(db):
        db.executemany(ADD_FIELD, values)
        if last is None:
            db.executemany(COMPLETE, ((number,) for number, _ in pointers))
        else:
            db.executemany(BUILT, ((last, number) for number, _ in pointers))
    return last


def remove_some(db: sqlite3.Connection, unwanted: Sequence[str]) -> bool:
    """Remove some entries of these pointers, then themselves; whether there may be more.

    The first step marks the index of a pointer as incomplete, so that nobody trusts what is left.
    """
    numbers = [number for number, where in indexed(db) if where in unwanted]
    if not numbers:
        return False
    some = db.execute(SOME_FIELDS, (numbers[0], REMOVED_AT_ONCE)).fetchall()
    with immediate_transaction(db):
        db.executemany(BEGIN_REMOVAL, ((number,) for number in numbers))
        db.executemany(REMOVE_FIELD, some)
        if not some:
            db.execute(REMOVE_POINTER, (numbers[0],))
    return True


def indexed(db: sqlite3.Connection) -> Pointers:
    """All pointers in the file, whether their index is complete or not."""
    return tuple((number, where) for number, where, _ in db.execute(POINTERS))


def add(db: sqlite3.Connection, pointers: Pointers, appended: Iterable[tuple[int, Event]]) -> None:
    """Index events that are appended."""
    values = (_values(pointers, seq, event.payload, event.payload_kind) for seq, event in appended)
    db.executemany(ADD_FIELD, chain.from_iterable(values))


def complete(db: sqlite3.Connection) -> Pointers:
    """The pointers whose index is complete."""
    every = db.execute(POINTERS)
    return tuple((number, where) for number, where, built_to in every if built_to is None)


def entries(pointers: Pointers, event: StoredEvent) -> Iterator[Entry]:
    """What the index of these has of a stored event."""
    return _values(pointers, event.seq, event.payload, event.payload_kind)


def lookup(db: sqlite3.Connection, field: FieldIs) -> dict[str, object] | None:
    """Parameters that select the value in the index; None if the field is not indexed."""
    row = db.execute(POINTER_ID, (field.pointer,)).fetchone()
    return {"pointer_id": row[0], "value": _key(field.value)} if row else None


def _read(db: sqlite3.Connection, pointers: Pointers, after: int) -> tuple[int | None, list[Entry]]:
    """The entries for one transaction, of events after that seq, and the seq that they reach."""
    last = None
    found: list[Entry] = []
    count = size = 0
    with closing(blocks.since(db, after + 1)) as following:
        for block in following:
            for seq in block.seqs:
                if seq > after:
                    form = payload_kind_of(block.members(seq).payload_kind)
                    found += _values(pointers, seq, block.payload(seq, form), form)
            last = block.seqs[-1]
            count += len(block.seqs)
            size += block.size
            if count >= BUILT_AT_ONCE or size >= PAGE_BYTES:
                break
    return last, found


def _values(
    pointers: Pointers, seq: int, payload: bytes | None, form: PayloadKind
) -> Iterator[Entry]:
    for number, where in pointers:
        value = value_at(where, payload, form)
        if value is not None:
            yield number, _key(value), seq


def _key(value: bytes) -> bytes:
    return value if len(value) <= _LONGEST else blake2b(value, digest_size=_HASH).digest()
