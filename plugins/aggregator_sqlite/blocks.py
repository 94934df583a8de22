"""Events in blocks: a row of the file holds many that follow each other.

A row an event costs a multiple of what its bytes cost, in SQLite and in Python's side of it. Each
event of a block stands as JSON, so that `sqlite3` can show it (the view `events`), and is read by
itself: a flipped bit spoils the one event that it is in, and in `ends` the two that meet there. One
in the header that SQLite has put before the row takes the block: that is told, and what is around
it is read. The keys have a checksum, since the index is made of them.
"""

import base64
import binascii
import logging
import sqlite3
import struct
import zlib
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import accumulate
from typing import Any

import msgspec
from msgspec import Raw

from aggregator.core.identity import PayloadKind
from aggregator.errors import StoreError
from aggregator.event import Event
from aggregator.store import StoredEvent
from aggregator_sqlite.connection import MultiRowStatement, UnreadableRow, read_row
from aggregator_sqlite.runs import KEY

log = logging.getLogger(__name__)

MOST = 128  # events in a block
_LARGE = 65_536  # bytes of events, after which a block ends
DIGEST = 17
_TAKE_AS_THEY_STAND = -1
_UNREADABLE = "the block of event %d cannot be read: %s; docs/reliability.md tells what to do"
_PLACE = 4  # bytes of an entry in `ends` and in `sizes`
_NULL = len(b"null")

ADD = MultiRowStatement(
    "INSERT INTO blocks (first_seq, first_seq_copy, checksum, keys, digests, ends, sizes, events) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    most=4,
)
ADD_TO_TOPICS = MultiRowStatement("INSERT INTO blocks_by_topic (topic_id, first_seq) VALUES (?, ?)")
# A flipped bit can make text of bytes, or NULL: hence CAST and coalesce.
AT = """
SELECT first_seq, first_seq_copy, checksum, CAST(coalesce(keys, '') AS BLOB),
    CAST(coalesce(digests, '') AS BLOB), CAST(coalesce(ends, '') AS BLOB),
    CAST(coalesce(sizes, '') AS BLOB), CAST(coalesce(events, '') AS BLOB)
FROM blocks WHERE first_seq <= ? ORDER BY first_seq DESC LIMIT 1
"""
FIRSTS_SINCE = """
SELECT first_seq FROM blocks
WHERE first_seq >= coalesce((SELECT max(first_seq) FROM blocks WHERE first_seq <= :seq), 0)
ORDER BY first_seq
"""
FIRST_AT = "SELECT max(first_seq) FROM blocks WHERE first_seq <= ?"
FIRSTS = "SELECT first_seq FROM blocks ORDER BY first_seq DESC"
KEYS_AT = """
SELECT first_seq_copy, checksum, CAST(coalesce(keys, '') AS BLOB) FROM blocks WHERE first_seq = ?
"""

Row = tuple[int, int, int, bytes, bytes, bytes, bytes, bytes]
"""The first event's seq, twice; of all events a checksum over the keys, the keys, digests, ends and
sizes; all of them as JSON. The checksum is -1 where an operator takes the keys as they stand."""


class Members(msgspec.Struct, array_like=True, frozen=True):
    """What stands of an event in its JSON, before its payload."""

    received_at: int = 0
    topic: str = ""
    event_id: str = ""
    timestamp: str | None = None
    source: str = ""
    time: int | None = None  # microseconds since 1970, from the timestamp
    payload_kind: int = PayloadKind.JSON.value
    attributes: Raw = Raw(b"null")


class Block:
    """Some events that follow each other. Raises ValueError where its parts do not fit."""

    def __init__(self, row: Row) -> None:
        self.first_seq, copy, _, self._keys, self._digests, ends, sizes, self._events = row
        count = len(ends) // _PLACE
        if not count or (len(self._keys), len(self._digests)) != (KEY * count, DIGEST * count):
            raise ValueError("its parts do not fit each other")
        if self.first_seq != copy:
            raise ValueError("its seqs are damaged")
        self._ends, self._sizes = (_numbers(count, entries) for entries in (ends, sizes))
        self.seqs = range(self.first_seq, self.first_seq + count)
        """Those of its events."""

    @property
    def size(self) -> int:
        """Bytes of its events."""
        return len(self._events)

    def size_of(self, seq: int) -> int:
        """Bytes of the event."""
        return len(self._text(seq)[0])

    def members(self, seq: int) -> Members:
        """All but its payload; of what a flipped bit has made unreadable, nothing."""
        text, size = self._text(seq)
        read = text[: len(text) - 2 - (size or _NULL)] + b"]"
        try:
            return _read_members(read)
        except (msgspec.MsgspecError, RecursionError):
            return Members()

    def payload(self, seq: int, form: PayloadKind) -> bytes | None:
        """None where it is kept no more."""
        text, size = self._text(seq)
        stored = text[len(text) - 1 - size : -1] if size else b""
        if form is PayloadKind.NOTHING:
            return b""
        return (_plain(stored) if form is PayloadKind.BYTES else stored) if size else None

    def digest(self, seq: int) -> bytes:
        """What its source and payload were."""
        place = DIGEST * (seq - self.first_seq)
        return self._digests[place : place + DIGEST]

    def event(self, seq: int, members: Members | None = None) -> StoredEvent:
        """The whole event."""
        read = members or self.members(seq)
        form = payload_kind_of(read.payload_kind)
        attributes = bytes(read.attributes)
        place = KEY * (seq - self.first_seq)
        return StoredEvent(
            seq,
            read.received_at,
            read.topic,
            read.event_id,
            read.timestamp,
            read.source,
            self.payload(seq, form),
            self._keys[place : place + KEY],
            self.digest(seq),
            form,
            b"" if attributes == b"null" else attributes,
        )

    def _text(self, seq: int) -> tuple[bytes, int]:
        """The JSON of the event, and how much of it is its payload."""
        place = seq - self.first_seq
        begin = self._ends[place - 1] + 1 if place else 1
        return self._events[begin : self._ends[place]], self._sizes[place]


def pack(first: int, events: Sequence[Event]) -> Iterator[tuple[Row, Sequence[Event]]]:
    """Rows for events that follow each other from that seq on, and the events of each."""
    texts = [_spelled(event) for event in events]
    done = 0
    while done < len(events):
        ends = list(accumulate([len(text) + 1 for text in texts[done : done + MOST]]))
        upto = done + max(1, bisect_right(ends, _LARGE))
        some = events[done:upto]
        count = len(some)
        keys = b"".join([event.key for event in some])
        digests = [event.digest for event in some]
        if set(map(len, digests)) != {DIGEST}:
            raise ValueError(f"a digest has {DIGEST} bytes")
        sizes = [len(one.payload) if one.payload_kind is _JSON else _size(one) for one in some]
        row = (
            first + done,
            first + done,
            zlib.crc32(keys),
            keys,
            b"".join(digests),
            struct.pack(f"<{count}I", *ends[:count]),
            struct.pack(f"<{count}I", *sizes),
            b"[%b]" % b",".join(texts[done:upto]),
        )
        yield row, some
        done = upto


def at(db: sqlite3.Connection, seq: int, unreadable: set[int] | None = None) -> Block | None:
    """The block that has the event, if there is one and it can be read.

    If not, that is logged, and its first seq added to those that are left alone. Raises StoreError
    where SQLite cannot read it within a transaction, which is lost with it.
    """
    if unreadable and _first_at(db, seq) in unreadable:
        return None
    try:
        row = read_row(db, AT, seq)
        block = Block(row) if row else None
    except ValueError as error:
        log.error(_UNREADABLE, seq, error)
        if unreadable is not None:
            unreadable.add(_first_at(db, seq))
        if isinstance(error, UnreadableRow) and db.in_transaction:
            raise StoreError(_UNREADABLE % (seq, error)) from error
        return None
    return block if block and seq in block.seqs else None


def among(
    db: sqlite3.Connection, firsts: str, wanted: Mapping[str, Any]
) -> Generator[Block, None, None]:
    """The blocks whose first seqs the statement gives, as far as they can be read. To be closed."""
    with closing(db.execute(firsts, wanted)) as found:
        for (first,) in found:
            block = at(db, first)
            if block and block.first_seq == first:
                yield block


def of(
    db: sqlite3.Connection, seqs: Iterable[int], unreadable: set[int] | None = None
) -> Iterator[tuple[Block | None, int]]:
    """Where each of these events is; None as `at` says. Quick where they are in order."""
    unreadable = set() if unreadable is None else unreadable
    block = None
    for seq in seqs:
        if block is None or seq not in block.seqs:
            block = at(db, seq, unreadable)
        yield block, seq


def since(db: sqlite3.Connection, seq: int) -> Generator[Block, None, None]:
    """The blocks with events from that seq on, as far as they can be read. To be closed."""
    with closing(among(db, FIRSTS_SINCE, {"seq": seq})) as found:
        yield from (block for block in found if block.seqs[-1] >= seq)


def keys_since(
    db: sqlite3.Connection, seq: int, last: int
) -> Generator[tuple[bytes, int], None, None]:
    """The key of each event from that seq on, up to the last one, and its seq. To be closed.

    Raises StoreError if keys are damaged: what they hide would be stored twice in silence. A bit
    that flips in what SQLite finds rows by can hide a block, or show its neighbour in its place.
    """
    due = None
    with closing(db.execute(FIRSTS_SINCE, {"seq": seq})) as firsts:
        for (first,) in firsts:
            keys = _keys_at(db, first)
            if due is None:
                _check_beginning(db, seq, first)
            elif first < due:
                raise _damaged_keys(first)
            for place in range(max(0, seq - first), len(keys) // KEY):
                yield keys[KEY * place : KEY * (place + 1)], first + place
            due = first + len(keys) // KEY
    if due is None:
        _check_beginning(db, seq, last + 1)


def _check_beginning(db: sqlite3.Connection, seq: int, found: int) -> None:
    """Raise StoreError if SQLite has passed over blocks between that seq and what it found.

    It looks for the first block, and goes from row to row from there on. So where events seem to
    be missing there, all blocks are gone through: what was removed by hand is not hidden.
    """
    if seq < found:
        with closing(db.execute(FIRSTS)) as firsts:
            if any(seq <= first < found for (first,) in firsts):
                raise _damaged_keys(seq)


def _first_at(db: sqlite3.Connection, seq: int) -> int:
    """Of the block that has the event, if there is one: it can be told though it is unreadable."""
    first: int | None = db.execute(FIRST_AT, (seq,)).fetchone()[0]
    return first or 0


def _keys_at(db: sqlite3.Connection, first: int) -> bytes:
    try:
        copy, checksum, keys = read_row(db, KEYS_AT, first) or (None, 0, b"")
    except UnreadableRow:
        copy, checksum, keys = None, 0, b""
    if copy != first or checksum not in (_TAKE_AS_THEY_STAND, zlib.crc32(keys)):
        raise _damaged_keys(first)
    return bytes(keys)


def _damaged_keys(first: int) -> StoreError:
    return StoreError(
        f"the keys of the events from {first} on are damaged; docs/reliability.md tells what to do"
    )


def _spelled(event: Event) -> bytes:
    """As `Members`, and its payload: base64 if it is bytes, null if there is none any more."""
    form: Any = _JSON_CODE
    payload: Any = None
    if event.payload_kind is not _JSON:
        form = event.payload_kind
        payload = event.payload if form is PayloadKind.BYTES else None
    elif event.payload:
        payload = Raw(event.payload)
    return _write(
        (
            event.received_at,
            event.topic,
            event.event_id,
            event.timestamp or None,
            event.source,
            event.timestamp_us,
            form,
            Raw(event.attributes) if event.attributes else None,
            payload,
        )
    )


def _size(event: Event) -> int:
    """Of its payload, if that is no JSON: as that stands there."""
    return 2 + 4 * -(-len(event.payload) // 3) if event.payload_kind is PayloadKind.BYTES else 0


def _plain(stored: bytes) -> bytes:
    """The bytes that base64 stands for; what it is now where a flipped bit has spoiled it."""
    try:
        return base64.b64decode(stored[1:-1])
    except binascii.Error:
        return stored


def _numbers(count: int, entries: bytes) -> tuple[int, ...]:
    try:
        return struct.unpack(f"<{count}I", entries)
    except struct.error as error:
        raise ValueError(error) from None


def payload_kind_of(code: object) -> PayloadKind:
    """What a payload is; a code that a flipped bit has made unknown shows in the digest."""
    return _FORMS.get(code, PayloadKind.JSON)


_FORMS: dict[object, PayloadKind] = {form.value: form for form in PayloadKind}
_JSON, _JSON_CODE = (
    PayloadKind.JSON,
    PayloadKind.JSON.value,
)  # looked up once: enumerations take their time

_write = msgspec.json.Encoder().encode
_reader = msgspec.json.Decoder(Members)


def _read_members(text: bytes) -> Members:
    try:
        return _reader.decode(text)
    except UnicodeDecodeError:
        return _reader.decode(text.decode(errors="replace"))
