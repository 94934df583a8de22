"""The quarantine as an immutable value: every change returns a new one.

So a transaction changes its own, and a savepoint is undone by going back to the one before.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from msgspec import structs

from aggregator.store import MOST_EVICTED, PAGE_BYTES, Quarantined, QuarantinePage, QuarantineQuery

_SCANNED = 20_000  # entries that one page examines at most


@dataclass(frozen=True)
class Quarantine:
    """Entries by id, ascending. The dictionary is never changed, only replaced."""

    entries: dict[int, Quarantined] = field(default_factory=dict)
    last_id: int = 0
    size: int = 0  # of all entries
    since: int = 0  # the earliest `kept_at`
    evicted: int = 0

    def taking(self, entries: Sequence[Quarantined]) -> "Quarantine":
        """With these as well, under new ids."""
        numbered = enumerate(entries, self.last_id + 1)
        new = {number: structs.replace(entry, id=number) for number, entry in numbered}
        changed = self._with_entries({**self.entries, **new})
        return replace(changed, last_id=self.last_id + len(new))

    def dropping(self, ids: Iterable[int]) -> "Quarantine":
        """Without these."""
        gone = set(ids)
        left = {number: entry for number, entry in self.entries.items() if number not in gone}
        return self._with_entries(left)

    def evicting(self, before: int, most: int) -> "Quarantine":
        """Without what was kept before that time, nor the oldest beyond `most` bytes."""
        if self.size <= most and (not self.entries or self.since >= before):
            return self
        old = (number for number, entry in self.entries.items() if entry.kept_at < before)
        gone = list(islice(old, MOST_EVICTED))
        young = self.dropping(gone)
        left = young.dropping(islice(young._oldest_beyond(most), MOST_EVICTED - len(gone)))
        evicted = len(self.entries) - len(left.entries)
        return replace(left, evicted=self.evicted + evicted)

    def page(self, query: QuarantineQuery) -> QuarantinePage:
        """One page of those that match."""
        ids = [number for number in self.entries if number > query.after]
        found: list[Quarantined] = []
        size = 0
        for number in ids[:_SCANNED]:
            entry = self.entries[number]
            if query.matches(entry.id, entry.topic, entry.reason, entry.submission, entry.kept_at):
                if len(found) == query.limit or size >= PAGE_BYTES:
                    return QuarantinePage(found, found[-1].id)
                found.append(entry)
                size += entry.size
        return QuarantinePage(found, ids[_SCANNED - 1] if len(ids) > _SCANNED else None)

    def _with_entries(self, entries: dict[int, Quarantined]) -> "Quarantine":
        size = sum(entry.size for entry in entries.values())
        since = min((entry.kept_at for entry in entries.values()), default=0)
        return replace(self, entries=entries, size=size, since=since)

    def _oldest_beyond(self, most: int) -> Iterator[int]:
        size = self.size
        for number, entry in self.entries.items():
            if size <= most:
                return
            yield number
            size -= entry.size
