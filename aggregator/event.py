"""The event on its way through the pipeline, and the submission it came with."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import force_setattr

from aggregator import outcome as outcomes
from aggregator.core import timestamp
from aggregator.core.identity import PayloadKind
from aggregator.core.policy import OnConflict
from aggregator.outcome import Conflict, Duplicate, Filtered, Invalid, Outcome, Refused, Stored

__all__ = ["Event", "OnConflict", "PayloadKind", "Pending", "Submission", "Verdict"]


class Pending(Enum):
    """Where an event stands that has no outcome yet."""

    GOING = "going"  # on its way
    WAITING = "waiting"  # put back by a stage until the events around it are settled


Verdict = Stored | Duplicate | Conflict | Invalid | Filtered | Refused | Pending


class Event(msgspec.Struct, frozen=True):
    """One event as a publisher sent it, and what became of it.

    A stage reads the payload with `json.loads(event.payload)`, where `payload_kind` is JSON, and
    keeps an event back with `settle` or `wait`. What was sent is frozen, so that a stage that
    assigns to a member fails. Two members are not, `verdict` and `awaited`: the methods below
    change them, and nothing else does.

    An event that lacks the shape of one (`malformed` says why) never passes the bar; its other
    members are empty and `raw` holds it as it came, for a stage that can say more about it.
    """

    index: int  # its place in the submission, from 0
    submission: str  # the id of the submission
    received_at: int  # when it arrived, in microseconds since 1970 (UTC)
    topic: str = ""
    event_id: str = ""
    timestamp: str = ""  # ISO 8601 with offset, spelled as it came; a CloudEvent may have none
    source: str = ""
    payload: bytes = b""  # byte for byte as it came; a JSON object unless `payload_kind` differs
    key: bytes = b""  # two events are the same if theirs is; `Transaction.claim` takes it
    digest: bytes = b""  # a hash of source and payload
    malformed: str = ""  # why it lacks the shape of an event; empty behind `validate`
    raw: bytes = b""  # what was sent instead of one
    payload_kind: PayloadKind = PayloadKind.JSON
    attributes: bytes = b""  # a CloudEvent's other attributes, a JSON object; empty if it is none
    name: bytes = b""  # the hash of topic and event_id where the key is made of something else
    on_conflict: OnConflict = OnConflict.KEEP_FIRST
    known_timestamp_us: int | UnsetType | None = UNSET  # once it was parsed
    verdict: Verdict = Pending.GOING
    awaited: "Event | None" = None  # the one that it has waited for last

    @property
    def outcome(self) -> Outcome | None:
        """What became of the event, or None while that is open."""
        return None if isinstance(self.verdict, Pending) else self.verdict

    @property
    def timestamp_us(self) -> int | None:
        """The timestamp in microseconds since 1970; None where there is none that can be read."""
        known = self.known_timestamp_us
        return timestamp.try_parse(self.timestamp) if known is UNSET else known

    @property
    def is_refused(self) -> bool:
        """Whether the publisher should mend the event before it is sent again."""
        if isinstance(self.verdict, Conflict):
            return self.on_conflict is OnConflict.REJECT
        return isinstance(self.verdict, Outcome) and self.verdict.refuses

    def as_sent(self) -> bytes:
        """The event as JSON, as a publisher would send it again; what is wrong with it included."""
        if self.raw or not self.digest:  # it has not the shape of an event
            return self.raw
        if not self.attributes:
            return msgspec.json.encode({**self._members(_NAMES), "payload": _json(self.payload)})
        members = self._members(_CLOUD_NAMES) | _spelled.decode(self.attributes)
        if not self.timestamp:
            del members["time"]
        if self.payload_kind is PayloadKind.BYTES:
            members["data_base64"] = self.payload
        elif self.payload_kind is PayloadKind.JSON:
            members["data"] = _json(self.payload)
        return msgspec.json.encode(members)

    def settle(self, outcome: Outcome) -> None:
        """Keep the event back, with what became of it.

        Raises ValueError if it has an outcome already, TypeError if that is none.
        """
        if type(self.verdict) is not Pending:
            self._check_open()
        if type(outcome) is not Stored or type(outcome.seq) is not int:  # nearly none is
            outcomes.check(outcome)
        self._become(outcome)

    def wait(self, other: "Event") -> None:
        """Keep the event back until the other one, of the same batch, is settled.

        It then comes to the same stage again. So a stage whose answer depends on what becomes
        of another event need not guess. Raises ValueError if it has an outcome already.
        """
        self._check_open()
        self._become(Pending.WAITING)
        force_setattr(self, "awaited", other)

    def resume(self) -> None:
        """Go on after having waited. For the pipeline."""
        self._become(Pending.GOING)

    def reopen(self) -> None:
        """Forget the verdict, which was rolled back. For the pipeline."""
        self._become(Pending.GOING)
        force_setattr(self, "awaited", None)

    def overrule(self, outcome: Outcome) -> None:
        """Put another outcome in place of the one that a stage gave. For the pipeline."""
        self._become(outcome)

    def _become(self, verdict: Outcome | Pending) -> None:
        force_setattr(self, "verdict", verdict)

    def _members(self, names: Mapping[str, str]) -> dict[str, Any]:
        return {shown: getattr(self, name) for name, shown in names.items()}

    def _check_open(self) -> None:
        if self.outcome is not None:
            raise ValueError(f"event {self.index} is {self.outcome.status} already")


_NAMES = {name: name for name in ("topic", "event_id", "timestamp", "source")}
_CLOUD_NAMES = {"topic": "type", "event_id": "id", "timestamp": "time", "source": "source"}

_spelled = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _json(payload: bytes) -> msgspec.Raw | None:
    return msgspec.Raw(payload) if payload else None


class Submission(msgspec.Struct, frozen=True):
    """The events of one request, settled or not: plain data, which a queue may send elsewhere."""

    id: str
    events: list[Event]
    is_strict: bool = False  # all of it or nothing
    respond_async: bool = False  # answered before its events are settled: nobody waits
    headers: dict[str, str] = {}  # those of the request that keys are made of
    released: list[int] = []  # from quarantine: `events` are these, received anew
    dropped: list[int] = []  # from quarantine, for good

    def refuses(self, event: Event) -> bool:
        """Whether that event of it is refused: by itself, or by what a strict one does not bear."""
        return event.is_refused or (self.is_strict and isinstance(event.outcome, Conflict))
