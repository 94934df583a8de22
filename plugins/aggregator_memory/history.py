"""What came again under the key of one event."""

from dataclasses import dataclass, field

from aggregator.store import (
    MOST_CONFLICTS,
    ConflictingContent,
    ConflictStats,
    History,
    Redelivery,
    RedeliveryStats,
)


@dataclass
class Seen:
    """Sightings by source, and clashing contents by digest."""

    redeliveries: dict[str, RedeliveryStats] = field(default_factory=dict)
    conflicts: dict[bytes, ConflictStats] = field(default_factory=dict)

    def add(self, seen: Redelivery) -> None:
        """Keep one more."""
        self._count(seen)
        if seen.conflicting:
            self._remember(seen.conflicting, seen)

    def history(self, limit: int) -> History:
        """The earliest of both."""
        redeliveries = sorted(
            self.redeliveries.values(), key=lambda one: (one.first_at, one.source)
        )
        clashes = sorted(self.conflicts.values(), key=lambda one: (one.first_at, one.digest))
        return History(redeliveries[:limit], clashes[:limit])

    def _count(self, seen: Redelivery) -> None:
        before = self.redeliveries.get(seen.source)
        self.redeliveries[seen.source] = RedeliveryStats(
            source=seen.source,
            duplicates=(before.duplicates if before else 0) + (seen.conflicting is None),
            conflicts=(before.conflicts if before else 0) + (seen.conflicting is not None),
            first_at=min(before.first_at, seen.seen_at) if before else seen.seen_at,
            last_at=max(before.last_at, seen.seen_at) if before else seen.seen_at,
        )

    def _remember(self, clash: ConflictingContent, seen: Redelivery) -> None:
        before = self.conflicts.get(clash.digest)
        if before is None and len(self.conflicts) == MOST_CONFLICTS:
            return
        self.conflicts[clash.digest] = ConflictStats(
            digest=clash.digest,
            differences=before.differences if before else clash.differences,
            source=before.source if before else seen.source,
            times=(before.times if before else 0) + 1,
            first_at=min(before.first_at, seen.seen_at) if before else seen.seen_at,
            last_at=max(before.last_at, seen.seen_at) if before else seen.seen_at,
        )
