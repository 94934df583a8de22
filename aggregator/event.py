"""The event on its way through the pipeline, and the submission it came with."""

from enum import Enum

import msgspec
from msgspec.structs import force_setattr

from aggregator.outcome import Conflict, Duplicate, Filtered, Invalid, Outcome, Stored, check


class Pending(Enum):
    """Where an event stands that has no outcome yet."""

    GOING = "going"  # on its way
    WAITING = "waiting"  # put back by a stage until the events around it are settled


Verdict = Stored | Duplicate | Conflict | Invalid | Filtered | Pending


class Event(msgspec.Struct, frozen=True):
    """One event as a publisher sent it. Stages settle it; nobody changes it.

    An event that lacks the shape of one (`malformed` says why) never passes the bar; its other
    members are empty and `raw` holds it as it came, for a stage that can say more about it.
    """

    index: int  # its place in the submission, from 0
    submission: str  # the id of the submission
    received_at: int  # when it arrived, in microseconds since 1970 (UTC)
    topic: str = ""
    event_id: str = ""
    timestamp: str = ""  # ISO 8601 with offset, spelled as it came
    source: str = ""
    payload: bytes = b""  # a JSON object, byte for byte as it came
    key: bytes = b""
    digest: bytes = b""
    malformed: str = ""
    raw: bytes = b""
    verdict: Verdict = Pending.GOING
    awaited: "Event | None" = None  # the one that it has waited for last

    @property
    def outcome(self) -> Outcome | None:
        """What became of the event, or None while that is open."""
        return None if isinstance(self.verdict, Pending) else self.verdict

    def settle(self, outcome: Outcome) -> None:
        """Keep the event back, with what became of it.

        Raises ValueError if it has an outcome already, TypeError if that is none.
        """
        self._check_open()
        check(outcome)
        force_setattr(self, "verdict", outcome)

    def wait(self, other: "Event") -> None:
        """Keep the event back until the other one, of the same batch, is settled.

        It then comes to the same stage again. So a stage whose answer depends on what becomes
        of another event need not guess. Raises ValueError if it has an outcome already.
        """
        self._check_open()
        force_setattr(self, "verdict", Pending.WAITING)
        force_setattr(self, "awaited", other)

    def resume(self) -> None:
        """Go on after having waited. For the pipeline."""
        force_setattr(self, "verdict", Pending.GOING)

    def reopen(self) -> None:
        """Forget the verdict, which was rolled back. For the pipeline."""
        force_setattr(self, "verdict", Pending.GOING)
        force_setattr(self, "awaited", None)

    def _check_open(self) -> None:
        if self.outcome is not None:
            raise ValueError(f"event {self.index} is {self.outcome.status} already")


class Submission(msgspec.Struct, frozen=True):
    """The events of one request, settled or not: plain data, which a queue may send elsewhere."""

    id: str
    events: list[Event]
