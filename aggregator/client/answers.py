"""The answers of the service, as far as its clients read them; other members are passed over."""

from typing import Any

import msgspec


class EventResult(msgspec.Struct, kw_only=True):
    """What became of one event of a publish."""

    index: int
    status: str
    topic: Any = None
    event_id: Any = None
    seq: int | None = None
    received_at: str | None = None
    errors: Any = None
    quarantine_id: int | None = None


class PublishAnswer(msgspec.Struct):
    """The answer to `POST /publish`."""

    received: int
    stored: int
    duplicates: int
    results: list[EventResult]
    http_status: int = 200
    """Not a member of the body: the client sets it."""


class Accepted(msgspec.Struct):
    """The 202 to `POST /publish` with `Prefer: respond-async`."""

    received: int
    submission: str


class Stats(msgspec.Struct, kw_only=True):
    """`GET /stats`."""

    received_total: int
    unique_processed: int
    duplicate_dropped: int
    conflicts: int
    invalid: int
    filtered: int
    refused: int
    quarantined: int = 0
    queue_size_current: int
    processed_topics: list[str]
    uptime_seconds: float


class TopicStats(msgspec.Struct):
    """The numbers of one topic."""

    topic: str
    stored: int = 0
    duplicates: int = 0
    conflicts: int = 0


class StoredEvent(msgspec.Struct):
    """An event as it is read back; the payload is kept as it came, so that nothing is rounded."""

    seq: int
    topic: str
    event_id: str
    timestamp: str | None = None
    source: str | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")
    received_at: str = ""


class Page(msgspec.Struct, kw_only=True):
    """A page of something, and the cursor of the next page if there is one."""

    next: str | None


class EventPage(Page):
    """A page of `GET /events`."""

    events: list[StoredEvent]


class TopicPage(Page):
    """A page of `GET /topics`."""

    topics: list[TopicStats]


class QuarantineEntry(msgspec.Struct):
    """An event in quarantine, as it was sent."""

    id: int
    reason: str
    submission: str
    body: msgspec.Raw = msgspec.Raw(b"null")


class QuarantinePage(Page):
    """A page of `GET /quarantine`."""

    quarantined: list[QuarantineEntry]


class Dropped(msgspec.Struct):
    """The answer to `DELETE /quarantine`."""

    dropped: int


class Difference(msgspec.Struct):
    """Another content that came under the key of an event, and how often."""

    times: int


class Explanation(msgspec.Struct):
    """`GET /events/{topic}/{event_id}/explain`: what came again under the key of an event."""

    duplicates: int
    conflicts: int
    conflicting: list[Difference]


class Problem(msgspec.Struct):
    """The part of an RFC 9457 problem that is worth repeating in a message."""

    title: str = ""
    detail: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.title, self.detail)))
