"""CloudEvents as they are spelled, in the modes of HTTP, and what is kept of them."""

import json
from collections.abc import Iterable
from typing import Any

from bodies import publish

from aggregator.app import STORE
from aggregator.core.identity import key_of
from aggregator.store import Query, StoredEvent
from conftest import Client

ONE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

_MEMBERS = {
    "specversion": '"1.0"',
    "type": '"logins"',
    "id": '"1"',
    "source": '"/tests"',
    "time": '"2026-01-31T12:00:00Z"',
}
HEADERS = {f"ce-{name}": json.loads(text) for name, text in _MEMBERS.items()}
"""A good event in the binary mode, without data."""


def cloud(**members: bytes | str | None) -> bytes:
    """A CloudEvent; each of `members` is JSON as it shall be spelled, or None to leave it out."""
    spellings = {
        name: member.encode() if isinstance(member, str) else member
        for name, member in {**_MEMBERS, **members}.items()
    }
    parts = (b'"%s":%s' % (name.encode(), text) for name, text in spellings.items() if text)
    return b"{" + b",".join(parts) + b"}"


def batch(events: Iterable[bytes]) -> bytes:
    """The events as a batch."""
    return b"[" + b",".join(events) + b"]"


async def result_of(client: Client, event: bytes) -> dict[str, Any]:
    """What became of one event in the structured mode, or the problem that it made."""
    _, answer = await publish(client, event, ONE)
    result: dict[str, Any] = answer["results"][0] if "results" in answer else answer
    return result


async def binary(
    client: Client, body: bytes | None, content_type: str | None = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    """Status and answer for an event in the binary mode."""
    sent = {**HEADERS, **{f"ce-{name}": text for name, text in headers.items()}}
    if content_type is not None:
        sent["Content-Type"] = content_type
    skipped = () if content_type is not None else ("Content-Type",)
    async with client.post(
        "/publish", data=body, headers=sent, skip_auto_headers=skipped
    ) as response:
        return response.status, await response.json(content_type=None)


async def kept(client: Client, topic: str = "logins", event_id: str = "1") -> StoredEvent:
    """The one event stored under these names."""
    assert client.app
    (found,) = await client.app[STORE].find(key_of(topic, event_id), 2)
    return found


async def kept_ids(client: Client) -> list[str]:
    """The ids of all events stored, in order."""
    assert client.app
    page = await client.app[STORE].events(Query())
    return [event.event_id for event in page.events]
