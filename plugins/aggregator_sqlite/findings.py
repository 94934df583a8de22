"""The kinds of damage that `aggregator check` tells of: what each means, and what to do."""

from dataclasses import dataclass, field

from aggregator.store import Finding

_SHOWN = 5  # examples in a finding
_RESTORE = "restore a backup: docs/backup.md"
_REPAIRS = "docs/reliability.md, When it happens to you"


@dataclass(frozen=True)
class Kind:
    """What is not as it was written, and by what its examples are named."""

    what: str
    means: str
    do: str = _RESTORE


STRUCTURE = Kind(
    "how SQLite keeps its tables",
    "rows may be hidden, or be found in another's place",
)
UNREADABLE = Kind("SQLite cannot read on", "what follows in that table was not looked at")
EVENTS = Kind(
    "stored events, by seq",
    "readers are shown them as `damaged`, and their payload is not shown; none is stored again",
    f"{_RESTORE}; without one, have their publishers tell what they were",
)
BLOCKS = Kind(
    "rows of up to 128 events that cannot be read, by first seq",
    "their events are passed over; one that comes again is answered `conflict`",
    f"{_RESTORE}; without one, do without them: {_REPAIRS}",
)
KEYS = Kind(
    "the keys of events, by the first seq of their row",
    "the start is refused, because an event that comes again might be stored again",
    f"{_RESTORE}; without one, take them as they stand: {_REPAIRS}",
)
GONE = Kind(
    "seqs under which no event is found",
    "their events were removed by hand, or rows are hidden",
    f"nothing if somebody removed them; otherwise {_RESTORE}",
)
VIEW = Kind(
    "what stands between events, by the first seq of their row",
    "the service reads them; the view `events`, for people, cannot",
)
ARRIVALS = Kind(
    "the numbers by which arrivals are found, by the first seq of a row",
    "a search by time of arrival takes longer, and misses nothing",
    f"nothing, if that is all; something flips bits, though: keep a backup, or {_RESTORE}",
)
BY_TOPIC = Kind(
    "the index by topic",
    "events are not found by their topic, or rows are looked at in vain",
    f"make it anew: {_REPAIRS}",
)
NAMES = Kind(
    "the names of events whose key is not topic and event_id, by seq",
    "they are not found by `GET /events/{topic}/{event_id}`",
)
FIELDS = Kind(
    "the index of fields of payloads, by pointer",
    "a search by that field misses events, or looks at some in vain",
    "make it anew: `aggregator drop-index POINTER --yes` without POINTER in the setting `indexed`, "
    "then start with it",
)
RUNS = Kind(
    "the index of keys",
    "batches are answered 503, or the start is refused: no key is called new or known by it",
    f"make it anew, which loses nothing: {_REPAIRS}",
)
COUNTERS = Kind(
    "the counters",
    "the start is refused, or `/stats` tells what is not so",
    f"{_RESTORE}; without one, mend them: {_REPAIRS}",
)
TOPICS = Kind(
    "the numbers of topics",
    "`GET /topics` tells what is not so",
    f"{_RESTORE}; without one, mend them: {_REPAIRS}",
)
HISTORY = Kind(
    "what came again, by the seq of the event that holds the key",
    "`explain` tells what is not so of these",
)
QUARANTINE = Kind(
    "entries in quarantine, by id",
    "they are not what was sent",
    "do not release them; drop them, and have their publishers send them again",
)


@dataclass
class Findings:
    """What was found so far, by kind."""

    examples: dict[Kind, list[str]] = field(default_factory=dict)
    counts: dict[Kind, int] = field(default_factory=dict)

    def add(self, kind: Kind, example: object) -> None:
        """Note one more. Of many of a kind only the first are named."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        named = self.examples.setdefault(kind, [])
        if len(named) < _SHOWN:
            named.append(str(example))

    def told(self) -> list[Finding]:
        """A finding for each kind."""
        return [
            Finding(self._what(kind, named), kind.means, kind.do)
            for kind, named in self.examples.items()
        ]

    def _what(self, kind: Kind, named: list[str]) -> str:
        more = self.counts[kind] - len(named)
        return f"{kind.what}: {', '.join(named)}{f' and {more:,} more' if more else ''}"
