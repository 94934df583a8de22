"""What fails on purpose in the service under test, so that work after a failure is proved too.

Each life of the service has one kind of trouble, chosen by the seed: a stage that fails, a store
that fails and comes back, a queue that is soon full, or none.
"""

from collections.abc import Iterable, Iterator
from enum import Enum
from random import Random
from typing import NamedTuple

import msgspec

from aggregator.errors import StoreError, StoreFault, TryAgain

HELD = "/proof/held"
"""Where the service under test says how many bytes of its budgets are held, as JSON."""
SAID = "this fails on purpose"
"""In the message of everything that fails here."""
_ROOM = 300  # events under way where something fails: what is not given back is soon missed
_LITTLE_ROOM = 80  # the same where the queue is soon full


class Trouble(Enum):
    """What fails in one life of the service."""

    STAGE = "with a stage that fails"
    STORE = "with a store that fails"
    FULL = "with a queue soon full"
    NONE = "without a failure"


class Life(NamedTuple):
    """What one life of the service is like."""

    trouble: Trouble
    batch_events: int = 10_000
    keeps_invalid: bool = False

    @property
    def room(self) -> int:
        """Events that one request may have, and the queue has room for; 0 for the usual number."""
        if self.trouble is Trouble.NONE:
            return 0
        return _LITTLE_ROOM if self.trouble is Trouble.FULL else _ROOM

    @property
    def settings(self) -> dict[str, str | int]:
        """Those in which it differs from the others."""
        chosen: dict[str, str | int] = {"batch_events": self.batch_events}
        if self.keeps_invalid:
            chosen["on_invalid"] = "quarantine"
        if self.room:
            chosen |= {"queue_events": self.room, "max_events": self.room}
        return chosen


def lives(
    seed: object, of: Iterable[Trouble] = Trouble, *, has_quarantine: bool = True
) -> Iterator[Life]:
    """Endless lives, the same for the same seed; every trouble comes as often as the others."""
    random = Random(f"{seed} lives")
    troubles = list(of)
    while True:
        random.shuffle(troubles)
        for trouble in troubles:
            batch_events = random.choice((1, 40, 10_000, 10_000))
            yield Life(trouble, batch_events, has_quarantine and random.random() < 0.5)


class Chances(msgspec.Struct, frozen=True):
    """How likely each call fails, from 0 to 1."""

    seed: str = ""
    intake: float = 0.0
    stage: float = 0.0
    store: float = 0.0
    """At each failpoint of a transaction."""
    reopen: float = 0.0

    @classmethod
    def of(cls, trouble: Trouble, seed: str) -> "Chances":
        """Those that make this trouble."""
        if trouble is Trouble.STAGE:
            return cls(seed, intake=0.02, stage=0.4)
        if trouble is Trouble.STORE:
            return cls(seed, store=0.08, reopen=0.2)
        return cls(seed)


class Faults:
    """Raises errors by chance, the same for the same seed and calls."""

    def __init__(self, chances: Chances) -> None:
        self._chances = chances
        self._random = Random(f"{chances.seed} faults")

    def in_intake(self) -> None:
        """Raise now and then what a stage left of the bar may raise."""
        self._raise(self._chances.intake, ValueError)

    def in_stage(self) -> None:
        """Raise now and then what a stage right of the bar may raise."""
        self._raise(self._chances.stage, ValueError)

    def in_store(self) -> None:
        """Raise now and then what a store may raise in a transaction, or at its end."""
        self._raise(self._chances.store, StoreError, StoreFault, TryAgain)

    def after_commit(self) -> None:
        """Raise now and then what a store may raise though it has committed."""
        self._raise(self._chances.store, StoreError)

    def in_reopen(self) -> None:
        """Raise now and then: the store does not come back at once."""
        self._raise(self._chances.reopen, StoreError)

    def _raise(self, chance: float, *kinds: type[Exception]) -> None:
        if chance and self._random.random() < chance:
            raise self._random.choice(kinds)(SAID)
