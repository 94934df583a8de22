"""Events are stored in blocks: a row of the table holds up to 128 consecutive ones.

A row an event would cost several times what its bytes cost, in SQLite and in `sqlite3`. Each event
of a block is JSON, so that people can read it with `sqlite3` (the view `events`), and is decoded by
itself: a flipped bit damages the event that it is in; in `ends`, the two that meet there; in the
header that SQLite puts before a row, the block. That is logged, and the events around it are read.
Each event has a checksum over all that is stored of it (docs/decisions/0024). The keys of a block
have one more, because the index is made of them. docs/decisions/0018 has the reasons.
"""

import base64
import binascii
import logging
import re
import sqlite3
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import accumulate
from operator import add
from typing import Any

import msgspec
from msgspec import Raw

from aggregator.core.identity import PayloadKind
from aggregator.errors import StoreError
from aggregator.event import Event
from aggregator.store import StoredEvent
from aggregator_sqlite.connection import (
    MultiRowStatement,
    UnreadableRow,
    detecting_corruption,
    read_row,
)
from aggregator_sqlite.runs import KEY

log = logging.getLogger(__name__)

EVENTS_PER_BLOCK = 128  # at most
_FEW = 16  # events that are looked at one by one: as quick as all of their block together
_BYTES_PER_BLOCK = 65_536  # at most, unless a single event has more
DIGEST = 17
_TAKE_AS_THEY_STAND = -1
_UNREADABLE = "the block of event %d cannot be read: %s; docs/reliability.md tells what to do"
_NUMBER = 4  # bytes of an entry in `ends`, in `sizes` and in `checksums`
_NULL = len(b"null")
_NO_NAME = bytes(KEY)
_ARRIVAL = re.compile(rb"\[\[([0-9]{1,18}),")

ADD_BLOCKS = MultiRowStatement(
    "INSERT INTO blocks (first_seq, first_seq_copy, checksum, keys, names, digests, ends, sizes, "
    "checksums, events, newest_at, behind, arrivals_checksum) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    most=4,
)
ADD_TO_TOPICS = MultiRowStatement("INSERT INTO blocks_by_topic (topic_id, first_seq) VALUES (?, ?)")
# CAST and coalesce: in SQLite's header of a row a flipped bit turns bytes into text, or NULL.
BLOCK = """
SELECT first_seq, first_seq_copy, checksum, CAST(coalesce(keys, '') AS BLOB),
    CAST(coalesce(names, '') AS BLOB),
    CAST(coalesce(digests, '') AS BLOB), CAST(coalesce(ends, '') AS BLOB),
    CAST(coalesce(sizes, '') AS BLOB), CAST(coalesce(checksums, '') AS BLOB),
    CAST(coalesce(events, '') AS BLOB)
FROM blocks WHERE first_seq <= ? ORDER BY first_seq DESC LIMIT 1
"""
_MARK_OF_LARGE = "["
# A large event is left where it is: a claim of a thousand would read them all.
BLOCK_OR_MARK = BLOCK.replace(
    "coalesce(events, '')",
    f"CASE WHEN typeof(events) = 'blob' AND length(events) > {_BYTES_PER_BLOCK + 2} "
    f"THEN '{_MARK_OF_LARGE}' ELSE coalesce(events, '') END",
)
BLOCKS_SINCE = """
SELECT first_seq FROM blocks
WHERE first_seq >= coalesce((SELECT max(first_seq) FROM blocks WHERE first_seq <= :seq), 0)
ORDER BY first_seq
"""
BLOCK_AT = "SELECT max(first_seq) FROM blocks WHERE first_seq <= ?"
ALL_BLOCKS = "SELECT first_seq FROM blocks ORDER BY first_seq DESC"
KEYS = """
SELECT first_seq_copy, checksum, CAST(coalesce(keys, '') AS BLOB),
    CAST(coalesce(names, '') AS BLOB)
FROM blocks WHERE first_seq = ?
"""

Row = tuple[int, int, int, bytes, bytes, bytes, bytes, bytes, bytes, bytes]
"""A row of the table, as `schema.py` describes it, without what `arrivals.py` adds."""


class Members(msgspec.Struct, array_like=True, frozen=True):
    """The members of an event in its JSON array; its payload, left out here, is the last one."""

    received_at: int = 0
    topic: str = ""
    event_id: str = ""
    timestamp: str | None = None
    source: str = ""
    time: int | None = None  # microseconds since 1970, from the timestamp
    payload_kind: int = PayloadKind.JSON.value
    attributes: Raw = Raw(b"null")


class Block:
    """Consecutive events, decoded one by one. Raises ValueError if its parts do not match."""

    def __init__(self, row: Row) -> None:
        self.first_seq, copy, _, self._keys, self._names, self._digests, *numbers, self._events = (
            row
        )
        ends, sizes, sums = numbers
        count = len(ends) // _NUMBER
        if not count or (len(self._keys), len(self._digests)) != (KEY * count, DIGEST * count):
            raise ValueError("its parts do not fit each other")
        if self.first_seq != copy:
            raise ValueError("its seqs are damaged")
        self._ends, self._sizes, self._checksums = (
            _numbers(count, entries) for entries in (ends, sizes, sums)
        )
        self.seqs = range(self.first_seq, self.first_seq + count)

    @property
    def is_marked(self) -> bool:
        """Whether it has one large event, which was not read."""
        return self._events == _MARK_OF_LARGE.encode()

    @property
    def size(self) -> int:
        """Bytes of all its events."""
        return len(self._events)

    def size_of(self, seq: int) -> int:
        """Bytes of that event."""
        return len(self._text(seq)[0])

    def members(self, seq: int) -> Members:
        """All but its payload; empty ones where a flipped bit has made them unreadable."""
        text, size = self._text(seq)
        stored = text[: len(text) - 2 - (size or _NULL)] + b"]"
        try:
            return _read_members(stored)
        except (msgspec.MsgspecError, RecursionError):
            return Members()

    def members_of(self, seqs: Sequence[int]) -> Iterable[Members]:
        """The members of each of these."""
        if len(seqs) < _FEW:
            return map(self.members, seqs)
        every, first = self._all_members(), self.first_seq
        return [every[seq - first] for seq in seqs]

    def _all_members(self) -> Sequence[Members]:
        """The members of each of its events. Decoded together, which takes half of the time.

        A flipped bit in one event cannot make it run on into the next: what was written is a JSON
        array for each, and with a bracket or a quote too many or too few there is none for all of
        them, or another number. Then each is decoded by itself.
        """
        try:
            found = _read_all_members(self._events)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found = []
        return found if len(found) == len(self.seqs) else [self.members(seq) for seq in self.seqs]

    def passing(self, may_match: Callable[[bytes], bool], seqs: Sequence[int]) -> Sequence[int]:
        """Those of its events whose JSON passes; what passes must do so with more around it."""
        if len(seqs) < _FEW:
            return [seq for seq in seqs if may_match(self._text(seq)[0])]
        if not may_match(self._events):
            return ()
        first, texts = self.first_seq, self._texts()
        return [seq for seq in seqs if may_match(texts[seq - first])]

    def payload(self, seq: int, form: PayloadKind) -> bytes | None:
        """Its payload, None if it is not kept any more."""
        return _payload(*self._text(seq), form)

    def key(self, seq: int) -> bytes:
        """The key that was stored with it."""
        place = KEY * (seq - self.first_seq)
        return self._keys[place : place + KEY]

    def name(self, seq: int) -> bytes:
        """The name that was stored with it; empty where it is found by its key."""
        return _name_at(self._names, seq - self.first_seq)

    def digest(self, seq: int) -> bytes:
        """The digest that was stored with it."""
        place = DIGEST * (seq - self.first_seq)
        return self._digests[place : place + DIGEST]

    def is_damaged(self, seq: int) -> bool:
        """Whether anything that is stored of it is not as it was written."""
        return self._is_damaged(seq, *self._text(seq), self.key(seq), self.digest(seq))

    def is_whole(self) -> bool:
        """Whether nothing stands between its events but what belongs there."""
        return self._events == b"[%b]" % b",".join(self._texts())

    def event(self, seq: int, members: Members | None = None) -> StoredEvent:
        """The whole event."""
        read = members or self.members(seq)
        form = _JSON if read.payload_kind == _JSON_CODE else payload_kind_of(read.payload_kind)
        attributes = bytes(read.attributes)
        text, size = self._text(seq)
        key, digest = self.key(seq), self.digest(seq)
        return StoredEvent(
            seq,
            read.received_at,
            read.topic,
            read.event_id,
            read.timestamp,
            read.source,
            _payload(text, size, form),
            key,
            digest,
            form,
            b"" if attributes == b"null" else attributes,
            self._is_damaged(seq, text, size, key, digest),
        )

    def _texts(self) -> Sequence[bytes]:
        begins = (1, *[end + 1 for end in self._ends[:-1]])
        return [self._events[begin:end] for begin, end in zip(begins, self._ends, strict=True)]

    def _is_damaged(self, seq: int, text: bytes, size: int, key: bytes, digest: bytes) -> bool:
        checksum = zlib.crc32(text, zlib.crc32(digest, zlib.crc32(key, seq + size)))
        return checksum != self._checksums[seq - self.first_seq]

    def _text(self, seq: int) -> tuple[bytes, int]:
        """The JSON of the event, and how many bytes of it are its payload."""
        place = seq - self.first_seq
        begin = self._ends[place - 1] + 1 if place else 1
        return self._events[begin : self._ends[place]], self._sizes[place]


def pack(first: int, events: Sequence[Event]) -> Iterator[tuple[Row, Sequence[Event]]]:
    """Rows for consecutive events from that seq on, each with its events."""
    texts = [_encoded(event) for event in events]
    done = 0
    while done < len(events):
        ends = list(accumulate([len(text) + 1 for text in texts[done : done + EVENTS_PER_BLOCK]]))
        upto = done + max(1, bisect_right(ends, _BYTES_PER_BLOCK))
        some = events[done:upto]
        count = len(some)
        keys = [event.key for event in some]
        digests = [event.digest for event in some]
        if set(map(len, digests)) != {DIGEST}:
            raise ValueError(f"a digest has {DIGEST} bytes")
        sizes = [len(one.payload) if one.payload_kind is _JSON else _size(one) for one in some]
        sums = checksums(first + done, texts[done:upto], keys, digests, sizes)
        joined, names = b"".join(keys), _joined_names(some)
        row = (
            first + done,
            first + done,
            _keys_checksum(joined, names),
            joined,
            names,
            b"".join(digests),
            struct.pack(f"<{count}I", *ends[:count]),
            struct.pack(f"<{count}I", *sizes),
            struct.pack(f"<{count}I", *sums),
            b"[%b]" % b",".join(texts[done:upto]),
        )
        yield row, some
        done = upto


def checksums(
    first: int,
    texts: Sequence[bytes],
    keys: Sequence[bytes],
    digests: Sequence[bytes],
    sizes: Sequence[int],
) -> Iterator[int]:
    """Over all that is stored of each event from that seq on, as `Block.is_damaged` makes it."""
    starts = map(add, sizes, range(first, first + len(texts)))
    return map(zlib.crc32, texts, map(zlib.crc32, digests, map(zlib.crc32, keys, starts)))


def read(
    db: sqlite3.Connection,
    seq: int,
    unreadable: set[int] | None = None,
    statement: str = BLOCK,
) -> Block | None:
    """The block that has the event, if there is one and it can be read.

    One that cannot is logged, and added to those that are `unreadable`, which are not tried again.
    Raises StoreError if SQLite finds damage in a transaction: it would not commit that any more.
    """
    if unreadable and _first_at(db, seq) in unreadable:
        return None
    try:
        row = read_row(db, statement, seq)
        block = Block(row) if row else None
    except ValueError as error:
        _note_unreadable(db, seq, error, unreadable)
        return None
    return block if block and seq in block.seqs else None


def _note_unreadable(
    db: sqlite3.Connection, seq: int, error: ValueError, unreadable: set[int] | None
) -> None:
    log.error(_UNREADABLE, seq, error)
    if unreadable is not None:
        unreadable.add(_first_at(db, seq))
    if isinstance(error, UnreadableRow) and db.in_transaction:
        raise StoreError(_UNREADABLE % (seq, error)) from error


def arrival_of_marked(db: sqlite3.Connection, block: Block, unreadable: set[int]) -> int:
    """When the large event of the block was received; 0 where a flipped bit has hidden it.

    Fails as `read` does.
    """
    first = block.first_seq
    try:
        with (
            detecting_corruption(),
            db.blobopen("blocks", "events", first, readonly=True) as events,
        ):
            found = _ARRIVAL.match(events.read(32))
    except UnreadableRow as error:
        _note_unreadable(db, first, error, unreadable)
        return 0
    return int(found[1]) if found else 0


def read_each(
    db: sqlite3.Connection, firsts: str, wanted: Mapping[str, Any]
) -> Generator[Block, None, None]:
    """The readable ones of the blocks whose first seqs the statement selects. To be closed."""
    with closing(db.execute(firsts, wanted)) as found:
        for (first,) in found:
            block = read(db, first)
            if block and block.first_seq == first:
                yield block


def for_seqs(
    db: sqlite3.Connection,
    seqs: Iterable[int],
    unreadable: set[int] | None = None,
    statement: str = BLOCK,
) -> Iterator[tuple[Block | None, int]]:
    """The block of each event, as `read` gives it. Reads it once for events that are in order."""
    unreadable = set() if unreadable is None else unreadable
    block = None
    for seq in seqs:
        if block is None or seq not in block.seqs:
            block = read(db, seq, unreadable, statement)
        yield block, seq


def since(db: sqlite3.Connection, seq: int) -> Generator[Block, None, None]:
    """The readable blocks that have events from that seq on. To be closed."""
    with closing(read_each(db, BLOCKS_SINCE, {"seq": seq})) as found:
        yield from (block for block in found if block.seqs[-1] >= seq)


def keys_since(
    db: sqlite3.Connection, seq: int, last: int
) -> Generator[tuple[bytes, bytes, int], None, None]:
    """Key, name and seq of each event from that seq on, up to the `last` one. To be closed.

    A name is empty where the event is found by its key.

    Raises StoreError if keys are damaged: events whose keys are not found would be stored twice. A
    bit that flips in SQLite's B-tree can hide a block, or show its neighbour in its place.
    """
    due = None
    with closing(db.execute(BLOCKS_SINCE, {"seq": seq})) as firsts:
        for (first,) in firsts:
            keys, names = _keys_at(db, first)
            if due is None:
                _check_beginning(db, seq, first)
            elif first < due:
                raise _damaged_keys(first)
            for place in range(max(0, seq - first), len(keys) // KEY):
                key = keys[KEY * place : KEY * (place + 1)]
                yield key, _name_at(names, place), first + place
            due = first + len(keys) // KEY
    if due is None:
        _check_beginning(db, seq, last + 1)


def _check_beginning(db: sqlite3.Connection, seq: int, found: int) -> None:
    """Raise StoreError if SQLite has overlooked blocks between that seq and what it found.

    It searches the B-tree for the first block, where a flipped bit leads it astray, and goes from
    row to row after that. So where the first events are missing, all rows are gone through, to tell
    events that were removed by hand from blocks that are hidden.
    """
    if seq < found:
        with closing(db.execute(ALL_BLOCKS)) as firsts:
            if any(seq <= first < found for (first,) in firsts):
                raise _damaged_keys(seq)


def _first_at(db: sqlite3.Connection, seq: int) -> int:
    """The first seq of the event's block, 0 if there is none. Works for unreadable ones too."""
    first: int | None = db.execute(BLOCK_AT, (seq,)).fetchone()[0]
    return first or 0


def _keys_at(db: sqlite3.Connection, first: int) -> tuple[bytes, bytes]:
    try:
        copy, checksum, keys, names = read_row(db, KEYS, first) or (None, 0, b"", b"")
    except UnreadableRow:
        copy, checksum, keys, names = None, 0, b"", b""
    if copy != first or checksum not in (_TAKE_AS_THEY_STAND, _keys_checksum(keys, names)):
        raise _damaged_keys(first)
    return keys, names


def _joined_names(events: Sequence[Event]) -> bytes:
    """The names of the events of a block; nothing at all where each is found by its key."""
    if not any(event.name for event in events):
        return b""
    return b"".join([event.name or _NO_NAME for event in events])


def _name_at(names: bytes, place: int) -> bytes:
    name = names[KEY * place : KEY * (place + 1)]
    return b"" if name == _NO_NAME or len(name) < KEY else name


def _keys_checksum(keys: bytes, names: bytes) -> int:
    return zlib.crc32(names, zlib.crc32(keys))


def has_whole_keys(row: Row) -> bool:
    """Whether its keys are as they were written, or are taken as they stand."""
    return row[2] in (_TAKE_AS_THEY_STAND, _keys_checksum(row[3], row[4]))


def _damaged_keys(first: int) -> StoreError:
    return StoreError(
        f"the keys of the events from {first} on are damaged; docs/reliability.md tells what to do"
    )


def _encoded(event: Event) -> bytes:
    """The event as JSON: its members and payload, which is base64 if it is bytes."""
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
    """Of its payload as it is encoded, if it is not JSON."""
    return 2 + 4 * -(-len(event.payload) // 3) if event.payload_kind is PayloadKind.BYTES else 0


def _payload(text: bytes, size: int, form: PayloadKind) -> bytes | None:
    """The payload at the end of an event's JSON, None if it is not kept any more."""
    if form is _JSON:
        return text[len(text) - 1 - size : -1] if size else None
    if form is PayloadKind.NOTHING:
        return b""
    return _decoded(text[len(text) - 1 - size : -1]) if size else None


def _decoded(stored: bytes) -> bytes:
    """The bytes encoded as base64; the text itself where a flipped bit has damaged it."""
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
    """What a payload is. An unknown code is taken for JSON: the digest shows the flipped bit."""
    return _FORMS.get(code, PayloadKind.JSON)


_FORMS: dict[object, PayloadKind] = {form.value: form for form in PayloadKind}
_JSON, _JSON_CODE = (
    PayloadKind.JSON,
    PayloadKind.JSON.value,
)  # looked up once: an enumeration's members are slow to get

_write = msgspec.json.Encoder().encode
_reader = msgspec.json.Decoder(Members)
_read_all_members = msgspec.json.Decoder(list[Members]).decode


def _read_members(text: bytes) -> Members:
    try:
        return _reader.decode(text)
    except UnicodeDecodeError:
        return _reader.decode(text.decode(errors="replace"))
