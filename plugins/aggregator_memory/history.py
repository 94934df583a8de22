"""What came again under the key of one event."""

from dataclasses import dataclass, field

from aggregator.store import CLASHES, Clash, Clashes, History, Sighting, Sightings


@dataclass
class Seen:
    """Sightings by source, and clashing contents by digest."""

    sightings: dict[str, Sightings] = field(default_factory=dict)
    clashes: dict[bytes, Clashes] = field(default_factory=dict)

    def add(self, seen: Sighting) -> None:
        """Keep one more."""
        self._count(seen)
        if seen.clash:
            self._remember(seen.clash, seen)

    def history(self, limit: int) -> History:
        """The earliest of both."""
        sightings = sorted(self.sightings.values(), key=lambda one: (one.first_at, one.source))
        clashes = sorted(self.clashes.values(), key=lambda one: (one.first_at, one.digest))
        return History(sightings[:limit], clashes[:limit])

    def _count(self, seen: Sighting) -> None:
        before = self.sightings.get(seen.source)
        self.sightings[seen.source] = Sightings(
            source=seen.source,
            duplicates=(before.duplicates if before else 0) + (seen.clash is None),
            conflicts=(before.conflicts if before else 0) + (seen.clash is not None),
            first_at=min(before.first_at, seen.seen_at) if before else seen.seen_at,
            last_at=max(before.last_at, seen.seen_at) if before else seen.seen_at,
        )

    def _remember(self, clash: Clash, seen: Sighting) -> None:
        before = self.clashes.get(clash.digest)
        if before is None and len(self.clashes) == CLASHES:
            return
        self.clashes[clash.digest] = Clashes(
            digest=clash.digest,
            differences=before.differences if before else clash.differences,
            source=before.source if before else seen.source,
            times=(before.times if before else 0) + 1,
            first_at=min(before.first_at, seen.seen_at) if before else seen.seen_at,
            last_at=max(before.last_at, seen.seen_at) if before else seen.seen_at,
        )
