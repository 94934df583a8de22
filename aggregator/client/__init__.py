"""The HTTP client of the service: its calls, its answers as structs, and a small tree of errors."""

from aggregator.client.answers import (
    Accepted,
    Difference,
    EventPage,
    EventResult,
    Explanation,
    PublishAnswer,
    QuarantineEntry,
    Stats,
    StoredEvent,
    TopicStats,
)
from aggregator.client.client import Client, ClientError, Unavailable, UnexpectedAnswer

__all__ = [
    "Accepted",
    "Client",
    "ClientError",
    "Difference",
    "EventPage",
    "EventResult",
    "Explanation",
    "PublishAnswer",
    "QuarantineEntry",
    "Stats",
    "StoredEvent",
    "TopicStats",
    "Unavailable",
    "UnexpectedAnswer",
]
