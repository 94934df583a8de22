"""Events in blocks: a row of the file holds many that follow each other.

A row an event costs a multiple of what its bytes cost, in SQLite and in Python's side of it. Each
event of a block stands as JSON, so that `sqlite3` can show it (the view `events`), and is read by
itself: a flipped bit hides nothing around it.
"""

import base64
import binascii
import sqlite3
import struct
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import accumulate
from typing import Any

import msgspec
from msgspec import Raw

from aggregator.content import Form
from aggregator.event import Event
from aggregator.store import StoredEvent
from aggregator_sqlite.runs import KEY
from aggregator_sqlite.schema import form_of

MOST = 128  # events in a block
_LARGE = 65_536  # bytes of events, after which a block ends
DIGEST = 17
_PLACE = 4  # bytes of an entry in `ends` and in `sizes`
_NULL = len(b"null")

ADD = """
INSERT INTO blocks (first, keys, digests, ends, sizes, events) VALUES (?, ?, ?, ?, ?, ?)
"""
ADD_TO_TOPIC = "INSERT INTO blocks_by_topic (topic_id, first) VALUES (?, ?)"
AT = "SELECT * FROM blocks WHERE first <= ? ORDER BY first DESC LIMIT 1"
SINCE = """
SELECT * FROM blocks
WHERE first >= coalesce((SELECT max(first) FROM blocks WHERE first <= :seq), 0) ORDER BY first
"""
KEYS_SINCE = """
SELECT first, keys FROM blocks
WHERE first >= coalesce((SELECT max(first) FROM blocks WHERE first <= :seq), 0) ORDER BY first
"""

Row = tuple[int, bytes, bytes, bytes, bytes, bytes]
"""The first event's seq; of all of them the keys, digests, ends and sizes; all of them as JSON."""


class Members(msgspec.Struct, array_like=True, frozen=True):
    """What stands of an event in its JSON, before its payload."""

    received_at: int = 0
    topic: str = ""
    event_id: str = ""
    timestamp: str | None = None
    source: str = ""
    time: int | None = None  # microseconds since 1970, from the timestamp
    form: int = Form.JSON.value
    attributes: Raw = Raw(b"null")


class Block:
    """Some events that follow each other."""

    def __init__(self, row: Row) -> None:
        self.first, self._keys, self._digests, ends, sizes, self._events = row
        self._ends = _numbers(ends)
        self._sizes = _numbers(sizes)

    @property
    def seqs(self) -> range:
        """Those of its events."""
        return range(self.first, self.first + len(self._ends))

    def size(self, seq: int) -> int:
        """Bytes of the event's payload, as it is stored; no more than there are."""
        text, size = self._text(seq)
        return min(size, len(text))

    def members(self, seq: int) -> Members:
        """All but its payload; of what a flipped bit has made unreadable, nothing."""
        text, size = self._text(seq)
        read = text[: len(text) - 2 - (size or _NULL)] + b"]"
        try:
            return _read_members(read)
        except (msgspec.MsgspecError, RecursionError):
            return Members()

    def payload(self, seq: int, form: Form) -> bytes | None:
        """None where it is kept no more."""
        text, size = self._text(seq)
        stored = text[len(text) - 1 - size : -1] if size else b""
        if form is Form.NOTHING:
            return b""
        return (_plain(stored) if form is Form.BYTES else stored) if size else None

    def digest(self, seq: int) -> bytes:
        """What its source and payload were."""
        place = DIGEST * (seq - self.first)
        return self._digests[place : place + DIGEST]

    def event(self, seq: int, members: Members | None = None) -> StoredEvent:
        """The whole event."""
        read = members or self.members(seq)
        form = form_of(read.form)
        attributes = bytes(read.attributes)
        place = KEY * (seq - self.first)
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
        place = seq - self.first
        begin = self._ends[place - 1] + 1 if place else 1
        return self._events[begin : self._ends[place]], self._sizes[place]


Places = Generator[tuple[Block, int], None, None]
"""Events: of each its block, and its seq."""


def pack(first: int, events: Sequence[Event]) -> Iterator[tuple[Row, Sequence[Event]]]:
    """Rows for events that follow each other from that seq on, and the events of each."""
    texts = [_spelled(event) for event in events]
    done = 0
    while done < len(events):
        ends = list(accumulate([len(text) + 1 for text in texts[done : done + MOST]]))
        upto = done + max(1, bisect_right(ends, _LARGE))
        some = events[done:upto]
        count = len(some)
        row = (
            first + done,
            b"".join([event.key for event in some]),
            b"".join([event.digest for event in some]),
            struct.pack(f"<{count}I", *ends[:count]),
            struct.pack(f"<{count}I", *map(_size, some)),
            b"[%b]" % b",".join(texts[done:upto]),
        )
        yield row, some
        done = upto


def at(db: sqlite3.Connection, seq: int) -> Block | None:
    """The block that has the event, if there is one."""
    row = db.execute(AT, (seq,)).fetchone()
    block = Block(row) if row else None
    return block if block and seq in block.seqs else None


def of(db: sqlite3.Connection, seqs: Iterable[int]) -> Places:
    """Each of these events that is there: its block, and its seq. Quick where they are in order."""
    block = None
    for seq in seqs:
        if block is None or seq not in block.seqs:
            block = at(db, seq)
        if block:
            yield block, seq


def since(db: sqlite3.Connection, seq: int) -> Places:
    """Each event from that seq on: its block, and its seq. To be closed."""
    with closing(db.execute(SINCE, {"seq": seq})) as rows:
        for row in rows:
            block = Block(row)
            yield from ((block, found) for found in block.seqs if found >= seq)


def keys_since(db: sqlite3.Connection, seq: int) -> Generator[tuple[bytes, int], None, None]:
    """The key of each event from that seq on, and its seq. To be closed."""
    with closing(db.execute(KEYS_SINCE, {"seq": seq})) as rows:
        for first, keys in rows:
            for place in range(max(0, seq - first), len(keys) // KEY):
                yield keys[KEY * place : KEY * (place + 1)], first + place


def _spelled(event: Event) -> bytes:
    """As `Members`, and its payload: base64 if it is bytes, null if there is none any more."""
    form: Any = _JSON_CODE
    payload: Any = None
    if event.form is not _JSON:
        form = event.form
        payload = event.payload if form is Form.BYTES else None
    elif event.payload:
        payload = Raw(event.payload)
    return _write(
        (
            event.received_at,
            event.topic,
            event.event_id,
            event.timestamp or None,
            event.source,
            event.moment,
            form,
            Raw(event.attributes) if event.attributes else None,
            payload,
        )
    )


def _size(event: Event) -> int:
    """Of its payload, as that stands there."""
    size = len(event.payload)
    if event.form is _JSON:
        return size
    return 2 + 4 * -(-size // 3) if event.form is Form.BYTES else 0


def _plain(stored: bytes) -> bytes:
    """The bytes that base64 stands for; what it is now where a flipped bit has spoiled it."""
    try:
        return base64.b64decode(stored[1:-1])
    except binascii.Error:
        return stored


def _numbers(entries: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(entries) // _PLACE}I", entries)


_JSON, _JSON_CODE = Form.JSON, Form.JSON.value  # looked up once: enumerations take their time

_write = msgspec.json.Encoder().encode
_reader = msgspec.json.Decoder(Members)


def _read_members(text: bytes) -> Members:
    try:
        return _reader.decode(text)
    except UnicodeDecodeError:
        return _reader.decode(text.decode(errors="replace"))
