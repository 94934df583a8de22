"""What `aggregator check` does with the events, and with all that derives from them."""

import sqlite3
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aggregator.core.identity import is_damaged, key_of
from aggregator.store import StoredEvent
from aggregator_sqlite import arrivals, blocks, fields, findings, sums
from aggregator_sqlite.blocks import Block
from aggregator_sqlite.connection import read_row
from aggregator_sqlite.fields import Pointers
from aggregator_sqlite.findings import Findings, Kind
from aggregator_sqlite.runs import sorted_entries

BLOCKS_AT_ONCE = 32  # in a transaction

NEXT_BLOCKS = "SELECT first_seq FROM blocks WHERE first_seq > ? ORDER BY first_seq LIMIT ?"
TOPIC_ID = "SELECT id FROM topics WHERE name = ?"
IS_BY_TOPIC = "SELECT 1 FROM blocks_by_topic WHERE topic_id = ? AND first_seq = ?"
IS_FIELD = "SELECT 1 FROM fields WHERE pointer_id = ? AND value = ? AND seq = ?"
ALL_TOPICS = "SELECT * FROM topics"
COUNT_BY_TOPIC = "SELECT count(*) FROM blocks_by_topic"
COUNT_FIELDS = "SELECT count(*) FROM fields WHERE pointer_id = ?"
IN_QUARANTINE = "SELECT count(*), coalesce(sum(size), 0), coalesce(max(id), 0) FROM quarantine"

SUMS = 2**64
"""Sums of hashes are less: equal ones mean that the same was summed up, in whatever order."""


@dataclass
class Events:
    """Reads all events, looks up their entries in the indexes, and sums up what they come to."""

    found: Findings
    count: int = 0
    last: int = 0  # seq
    is_sure: bool = True  # whether every event was read, so that sums can be compared
    has_all_payloads: bool = True
    topics: dict[str, dict[str, int]] = field(default_factory=dict)
    ids: dict[str, int | None] = field(default_factory=dict)  # of topics
    by_topic: int = 0  # entries that the index by topic should have
    pointers: Pointers | None = None  # whose index is complete all the while
    fields: dict[int, int] = field(default_factory=dict)  # entries by pointer
    ends: "array[int]" = field(default_factory=lambda: array("Q", [0]))  # of blocks
    keys: "array[int]" = field(default_factory=lambda: array("Q", [0]))  # sums of hashes up to it
    _after: int = 0

    def read_some(self, db: sqlite3.Connection) -> bool:
        """Read some blocks; whether there may be more."""
        now = fields.complete(db)
        self.pointers = now if self.pointers is None else tuple(set(self.pointers) & set(now))
        firsts = [first for (first,) in db.execute(NEXT_BLOCKS, (self._after, BLOCKS_AT_ONCE))]
        for first in firsts:
            if first <= self._after:  # SQLite was led astray, and might go round and round
                self._miss(findings.BLOCKS, first)
                return False
            self._after = first
            self._read(db, first)
        return len(firsts) == BLOCKS_AT_ONCE

    def _read(self, db: sqlite3.Connection, first: int) -> None:
        try:
            row = read_row(db, blocks.BLOCK, first)
            block = Block(row)
        except ValueError:
            self._miss(findings.BLOCKS, first)
            return
        if first > self.last + 1:
            self._miss(findings.GONE, _range(self.last + 1, first - 1))
        if block.first_seq != first or first <= self.last:
            self._miss(findings.BLOCKS, first)
            return
        if not blocks.has_whole_keys(row):
            self.found.add(findings.KEYS, first)
        if not block.is_whole():
            self.found.add(findings.VIEW, first)
        if not arrivals.are_whole(db, first):
            self.found.add(findings.ARRIVALS, first)
        self.count += len(block.seqs)
        self.last = block.seqs[-1]
        self._add_keys(block)
        self._add_events(db, block)

    def _add_keys(self, block: Block) -> None:
        names = [(name, seq) for seq in block.seqs if (name := block.name(seq))]
        entries = sorted_entries({block.key(seq): seq for seq in block.seqs}, names)
        self.ends.append(self.last)
        self.keys.append((self.keys[-1] + sum(map(hash, entries))) % SUMS)

    def _add_events(self, db: sqlite3.Connection, block: Block) -> None:
        topics = set()
        for seq in block.seqs:
            event = block.event(seq)
            if event.is_damaged or is_damaged(
                event.source, event.payload, event.digest, event.payload_kind
            ):
                self._miss(findings.EVENTS, seq)
                continue
            topics.add(event.topic)
            self._count(event)
            self._look_up(db, event)
            if block.name(seq) != _name_of(event):
                self.found.add(findings.NAMES, seq)
        for topic in topics:
            self._look_up_topic(db, topic, block.first_seq)

    def _count(self, event: StoredEvent) -> None:
        first = {"stored": 0, "first_seq": event.seq, "first_at": event.received_at}
        counted = self.topics.setdefault(event.topic, first)
        counted["stored"] += 1
        counted["last_seq"], counted["last_at"] = event.seq, event.received_at

    def _look_up(self, db: sqlite3.Connection, event: StoredEvent) -> None:
        self.has_all_payloads &= event.payload is not None
        for entry in fields.entries(self.pointers or (), event):
            self.fields[entry[0]] = self.fields.get(entry[0], 0) + 1
            if not db.execute(IS_FIELD, entry).fetchone():
                self.found.add(findings.FIELDS, f"seq {event.seq} is missing")

    def _look_up_topic(self, db: sqlite3.Connection, topic: str, first: int) -> None:
        self.by_topic += 1
        if not self.ids.get(topic):
            (self.ids[topic],) = db.execute(TOPIC_ID, (topic,)).fetchone() or (None,)
        if not db.execute(IS_BY_TOPIC, (self.ids[topic], first)).fetchone():
            self.found.add(findings.BY_TOPIC, f"{topic} lacks row {first}")

    def _miss(self, kind: Kind, example: object) -> None:
        """Note damage that leaves open what the events come to."""
        self.found.add(kind, example)
        self.is_sure = False

    def compare(self, db: sqlite3.Connection) -> bool:
        """Read the rest, and hold what derives from the events at this moment against them."""
        while self.read_some(db):
            pass
        rows = sums.rows(db, sums.ALL_COUNTERS)
        why = sums.why_damaged(rows)
        if why:
            self.found.add(findings.COUNTERS, why)
        counted = rows[0] if rows and not why else None
        if counted and counted["last_seq"] > self.last:
            self._miss(findings.GONE, _range(self.last + 1, counted["last_seq"]))
        topics = sums.rows(db, ALL_TOPICS)
        self._compare_topics(topics)
        if counted:
            self._compare_counters(db, counted, topics)
        if self.is_sure:
            self._compare_entries(db)
        return False

    def _compare_topics(self, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            name = row["name"]
            difference = sums.TOPIC.difference(row, sums.over(name))
            culprit = sums.TOPIC.culprit(row, difference) if difference else None
            if culprit:
                self.found.add(findings.TOPICS, "{}: {} is {} and was {}".format(name, *culprit))
            elif difference != 0:
                self.found.add(findings.TOPICS, f"{name} does not match its checksum")
            elif self.is_sure and row["stored"]:
                expected = self.topics.get(name, {"stored": 0})
                for column, value in expected.items():
                    if row[column] != value:
                        self.found.add(
                            findings.TOPICS, f"{name}: {column} is {row[column]} and not {value}"
                        )
        if missing := self.topics.keys() - {row["name"] for row in rows}:
            self.found.add(findings.TOPICS, f"{', '.join(sorted(missing)[:3])} missing")

    def _compare_counters(
        self, db: sqlite3.Connection, counted: dict[str, int], topics: Sequence[dict[str, Any]]
    ) -> None:
        in_quarantine, size, last_entry = db.execute(IN_QUARANTINE).fetchone()
        expected = {
            "topics": sum(row["stored"] != 0 for row in topics),
            "quarantined": in_quarantine,
            "quarantine_bytes": size,
        }
        if self.is_sure:
            expected |= {"stored": self.count, "last_seq": self.last}
        for name, value in expected.items():
            if counted[name] != value:
                self.found.add(findings.COUNTERS, f"{name} is {counted[name]} and not {value}")
        for name, least in (("last_seq", self.last), ("last_entry", last_entry)):
            if counted[name] < least and name not in expected:
                self.found.add(
                    findings.COUNTERS, f"{name} is {counted[name]}, and {least} is there"
                )

    def _compare_entries(self, db: sqlite3.Connection) -> None:
        (by_topic,) = db.execute(COUNT_BY_TOPIC).fetchone()
        if by_topic != self.by_topic:
            self.found.add(
                findings.BY_TOPIC, f"{by_topic:,} entries where {self.by_topic:,} belong"
            )
        for number, where in (self.pointers or ()) if self.has_all_payloads else ():
            (entries,) = db.execute(COUNT_FIELDS, (number,)).fetchone()
            belong = self.fields.get(number, 0)
            if entries != belong:
                self.found.add(
                    findings.FIELDS, f"{where}: {entries:,} entries where {belong:,} belong"
                )


def _name_of(event: StoredEvent) -> bytes:
    name = key_of(event.topic, event.event_id)
    return b"" if name == event.key else name


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
