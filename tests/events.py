"""Events for tests."""

from typing import Any


def event(event_id: str = "1", topic: str = "logins", **members: Any) -> dict[str, Any]:
    """An event that is taken; `members` replace what it has, or are added."""
    return {
        "topic": topic,
        "event_id": event_id,
        "timestamp": "2026-01-31T12:00:00Z",
        "source": "tests",
        "payload": {"user": "ada"},
        **members,
    }
