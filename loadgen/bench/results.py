"""All that a run found, as JSON keeps it; the docs are made from nothing else."""

from statistics import median, median_low

import msgspec

_LAST = 5  # steps
NOISE = 1.2
"""The fastest round of a bare program against its slowest: above it the machine was not quiet."""
GROWTH_GOAL = 0.85
"""Of the rate of the first step, what the last ones should at least keep."""


class Effort(msgspec.Struct, frozen=True):
    """How much of everything: a turn ends with its events or its seconds, whichever is first."""

    events: int
    singles: int
    """Events of a turn in which each is a request of its own."""
    seconds: float
    rounds: int

    def of(self, size: int) -> int:
        return self.singles if size == 1 else self.events


class Round(msgspec.Struct):
    """One turn of one contestant."""

    events: int
    seconds: float
    requests: int
    processor: float | None = None
    """Seconds of processor time that the server used."""
    memory: int | None = None
    """Bytes resident at the end of the round."""
    publisher: float | None = None
    """Seconds of processor time that the publisher used."""

    @property
    def rate(self) -> float:
        return self.events / self.seconds


class Paced(msgspec.Struct):
    """Answers at half the highest rate; milliseconds from the moment when each was due."""

    rate: float
    """Requests a second."""
    requests: int
    latency: dict[str, float]
    late: dict[str, float]
    """How late the publisher itself was, which is in the latency too."""


class Contest(msgspec.Struct):
    """What became of one contestant."""

    name: str
    group: str
    title: str
    size: int
    """Events in a request, or in a transaction where there are no requests."""
    connections: int
    promise: str
    note: str = ""
    is_same: bool = False
    """Whether it promises all that this service does."""
    rounds: list[Round | None] = []
    """None for a round that failed, so that the others stand beside those of their turn."""
    paced: Paced | None = None
    trouble: str = ""
    """Why it was skipped, or what went wrong in a round."""

    @property
    def good(self) -> list[Round]:
        return [found for found in self.rounds if found]

    @property
    def rate(self) -> float | None:
        """Events a second, the median of the rounds."""
        return median(found.rate for found in self.good) if self.good else None

    @property
    def spread(self) -> tuple[float, float] | None:
        rates = [found.rate for found in self.good]
        return (min(rates), max(rates)) if rates else None

    @property
    def processor(self) -> float | None:
        """Microseconds of the server's processor time an event."""
        used = [found.processor / found.events for found in self.good if found.processor]
        return median(used) * 1e6 if used else None

    @property
    def memory(self) -> float | None:
        """Bytes resident after a round."""
        used = [found.memory for found in self.good if found.memory]
        return median(used) if used else None


class Step(msgspec.Struct):
    """What one contestant did while its store grew to a size."""

    size: int
    """Events in the store at the end of the step."""
    events: int
    seconds: float
    memory: int | None = None
    paced: Paced | None = None
    written: int | None = None
    """Bytes that the service sent to the disk meanwhile."""

    @property
    def rate(self) -> float:
        return self.events / self.seconds


class Growth(msgspec.Struct):
    """A store that grew, perhaps in turns with one of SQLite alone."""

    ours: list[Step] = []
    bare: list[Step] = []
    trouble: str = ""
    is_memory_filled: bool = False

    @property
    def share(self) -> float | None:
        """What is left of this service's rate in the first step when it comes to the last ones.

        Of those the median, since a single one may have been disturbed.
        """
        if len(self.ours) < 2:
            return None
        last = median_low(step.rate for step in self.ours[1:][-_LAST:])
        return last / self.ours[0].rate


class Disk(msgspec.Struct):
    """What events take, in requests and when they are stored."""

    title: str
    events: int
    sent: int
    """Bytes of the bodies."""
    stored: int
    """Bytes of the files, of a service that was stopped."""


class Read(msgspec.Struct):
    """One way to read, tried again and again."""

    title: str
    form: str
    events: int = 0
    """How many came, all answers together."""
    requests: int = 0
    seconds: list[float] = []
    trouble: str = ""

    @property
    def ms(self) -> float | None:
        return median(self.seconds) * 1000 if self.seconds else None


class Filled(msgspec.Struct):
    """A store that held events already when it was published to and read."""

    size: int
    disks: list[Disk] = []
    mixes: list[Contest] = []
    """Bare SQLite is the first of them."""
    reads: list[Read] = []
    trouble: str = ""


class Results(msgspec.Struct):
    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    effort: Effort
    contests: list[Contest] = []
    filled: Filled | None = None
    growth: Growth | None = None
    cloudevents: Growth | None = None
    """Growth too, of a store that gets nothing but CloudEvents."""
    took: dict[str, float] = {}
    """Seconds of each part of the run."""

    def contest(self, name: str) -> Contest | None:
        return next((one for one in self.contests if one.name == name), None)

    @property
    def noisy(self) -> list[Contest]:
        """The bare programs whose rounds differ by more than the machine should make them."""
        bare = [one for one in self.contests if one.group == "limits" and one.spread]
        return [one for one in bare if one.spread and one.spread[1] > NOISE * one.spread[0]]

    @property
    def best_peer(self) -> Contest | None:
        """The fastest of those who promise the same."""
        same = [one for one in self.contests if one.is_same and one.rate]
        return max(same, key=lambda one: one.rate or 0, default=None)

    def ratio(self, name: str, other: str) -> float | None:
        one, beside = self.contest(name), self.contest(other)
        return times(one, beside) if one and beside else None


def times(one: Contest, beside: Contest) -> float | None:
    """How often faster, as the median of the rounds in which both took their turn."""
    turns = zip(one.rounds, beside.rounds, strict=False)
    found = [mine.rate / theirs.rate for mine, theirs in turns if mine and theirs]
    return median(found) if found else None


def to_json(results: Results) -> bytes:
    return msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n"


def from_json(text: bytes) -> Results:
    return msgspec.json.decode(text, type=Results)
