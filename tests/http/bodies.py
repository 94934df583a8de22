"""Bodies, byte for byte, and the answers to them."""

import json
from collections.abc import Iterable
from typing import Any

from conftest import Client

JSON = "application/json"
NDJSON = "application/x-ndjson"
PROBLEM = "application/problem+json"

_MEMBERS = {
    "topic": b'"logins"',
    "event_id": b'"1"',
    "timestamp": b'"2026-01-31T12:00:00Z"',
    "source": b'"tests"',
    "payload": b"{}",
}


def spelled(**members: bytes | str | None) -> bytes:
    """An event; each of `members` is JSON as it shall be spelled, or None to leave it out."""
    spellings = {
        name: member.encode() if isinstance(member, str) else member
        for name, member in {**_MEMBERS, **members}.items()
    }
    parts = (b'"%s":%s' % (name.encode(), text) for name, text in spellings.items() if text)
    return b"{" + b",".join(parts) + b"}"


def good(event_id: str) -> bytes:
    """An event that is taken."""
    return spelled(event_id=json.dumps(event_id))


def array(events: Iterable[bytes]) -> bytes:
    """The events as a JSON array."""
    return b"[" + b",".join(events) + b"]"


async def publish(
    client: Client, body: Any, content_type: str = JSON, **headers: str
) -> tuple[int, dict[str, Any]]:
    """Status and answer, which must be a problem if nothing was taken."""
    sent = {"Content-Type": content_type, **headers}
    async with client.post("/publish", data=body, headers=sent) as response:
        answer: dict[str, Any] = await response.json(content_type=None)
        if response.status >= 400:
            assert response.content_type == PROBLEM
            assert answer["status"] == response.status
            assert answer["title"]
            assert answer["detail"]
        else:
            assert response.content_type == JSON
        return response.status, answer


async def get(client: Client, path: str) -> dict[str, Any]:
    """The answer to a GET that succeeds."""
    async with client.get(path) as response:
        answer: dict[str, Any] = await response.json()
        assert response.status == 200, answer
        return answer


async def stored_ids(client: Client) -> list[str]:
    """The ids of all events stored, in order."""
    page = await get(client, "/events?limit=1000")
    assert page["next"] is None
    return [event["event_id"] for event in page["events"]]


async def newest(client: Client) -> int:
    """The seq of the newest event stored; 0 if there is none."""
    page = await get(client, "/events?order=desc&limit=1")
    return page["events"][0]["seq"] if page["events"] else 0


async def ids_after(client: Client, seq: int) -> list[str]:
    """The ids of the events stored after that one, in order."""
    page = await get(client, f"/events?after={seq}")
    return [event["event_id"] for event in page["events"]]
