"""Events and the like, as the service makes them; and what the suites have in common."""

from typing import Any

from aggregator.core.identity import PayloadKind, digest_of, key_of
from aggregator.event import Event, Submission
from aggregator.store import Page, Quarantined, QuarantineReason, Query, Store


def make_event(event_id: str, topic: str = "logins", **members: Any) -> Event:
    """An event as the intake makes it; `members` replace what it has."""
    members = {
        "source": "tests",
        "payload": b'{"user":"ada"}',
        "payload_kind": PayloadKind.JSON,
        **members,
    }
    return Event(
        index=members.pop("index", 0),
        submission="submission",
        received_at=members.pop("received_at", 1_800_000_000_000_000),
        topic=topic,
        event_id=event_id,
        timestamp=members.pop("timestamp", "2026-01-31T12:00:00Z"),
        key=members.pop("key", key_of(topic, event_id)),
        digest=digest_of(members["source"], members["payload"], members["payload_kind"]),
        **members,
    )


def make_entry(event_id: str, topic: str = "logins", **members: Any) -> Quarantined:
    """An event in quarantine; `members` replace what it has."""
    usual: dict[str, Any] = {
        "id": 0,
        "kept_at": 1_800_000_000_000_000,
        "reason": QuarantineReason.INVALID,
        "submission": "submission",
        "detail": b"[]",
        "is_cloud_event": False,
        "headers": {},
        "body": b"{}",
    }
    return Quarantined(topic=topic, event_id=event_id, **(usual | members))


def make_submission(name: str, events: int) -> Submission:
    """A submission of so many events."""
    return Submission(name, [make_event(f"{name}-{index}", index=index) for index in range(events)])


class Rollback(Exception):
    """Raised by tests to have a transaction rolled back."""


async def stored(store: Store, *events: Event) -> list[int]:
    """Store the events in a transaction; their seqs."""
    async with store.transaction() as tx:
        return await tx.append(events)


async def walk(store: Store, **wanted: Any) -> list[str]:
    """The event_ids of all pages."""
    found: list[str] = []
    page = Page([], None)
    while True:
        page = await store.events(Query(**wanted))
        found += [event.event_id for event in page.events]
        if page.next is None:
            return found
        wanted["after"] = page.next
