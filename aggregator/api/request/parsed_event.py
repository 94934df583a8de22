"""What the bytes of one event say, or why they say nothing that can be taken."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from aggregator.api.request import strict_json
from aggregator.core.identity import MissingKeyPart, PayloadKind
from aggregator.outcome import Fault

_LONGEST_SHOWN = 255


class ParsedEvent(msgspec.Struct, frozen=True):
    """The members of an event that has the shape of one."""

    topic: str
    event_id: str
    timestamp: str
    source: str
    payload: bytes
    payload_kind: PayloadKind = PayloadKind.JSON
    attributes: bytes = b""


class EventParser(NamedTuple):
    """A kind of event: how its bytes are read, and what tells it from others."""

    read: Callable[[bytes], ParsedEvent]
    """Raises RejectedEvent."""
    attributes: bytes
    """Those of an event of which no more is known than its kind."""


class RejectedEvent(Exception):
    """The bytes are no event: they hold faults, or have not its shape and are `malformed`.

    Where they cannot even be read as JSON they are `unreadable`.
    """

    def __init__(
        self,
        faults: Sequence[Fault] = (),
        malformed: str = "",
        topic: str = "",
        event_id: str = "",
        is_unreadable: bool = False,
    ) -> None:
        super().__init__(malformed, faults)
        self.faults = tuple(faults)
        self.malformed = malformed
        self.topic = topic
        self.event_id = event_id
        self.is_unreadable = is_unreadable

    @classmethod
    def looked_at(cls, raw: bytes, why: str, topic: str, event_id: str) -> "RejectedEvent":
        """Look again, slowly, at what was declined, with the names of two members to show of it."""
        if faults := strict_json.faults(raw):
            return cls.of_json(faults)
        try:
            members = msgspec.json.decode(raw)
        except strict_json.UNREADABLE:
            return cls.of_json([Fault("", f"not JSON that is taken: {why}")])
        return cls((), why, _shown(members, topic), _shown(members, event_id))

    @classmethod
    def without_key(cls, parsed: ParsedEvent, missing: MissingKeyPart) -> "RejectedEvent":
        """An event that lacks a part of its key.

        If that is a member, it is left to a stage to say what else is wrong with the event.
        """
        names = _cut(parsed.topic), _cut(parsed.event_id)
        if missing.is_member:
            return cls((), str(missing), *names)
        payload = "/data" if parsed.attributes else "/payload"
        place = f"{payload}{missing.part}" if missing.part.startswith("/") else ""
        return cls([Fault(place, str(missing))], "", *names)

    @classmethod
    def of_json(cls, faults: Sequence[Fault]) -> "RejectedEvent":
        """JSON that is not taken; unreadable where the fault is that of the whole."""
        return cls(faults, is_unreadable=not faults[0].pointer)


def _shown(members: Any, name: str) -> str:
    member = members.get(name) if isinstance(members, dict) else None
    return _cut(member) if isinstance(member, str) else ""


def _cut(name: str) -> str:
    return name[:_LONGEST_SHOWN]
