"""Events put into the store past the HTTP face, as publishers of other kinds leave them."""

from typing import Any

import msgspec

from aggregator.app import STORE
from aggregator.core.identity import PayloadKind, digest_of, key_of
from aggregator.event import Event
from aggregator.store import Counters
from aggregator.testing import make_event
from conftest import Client


def cloud_event(event_id: str, source: str = "/sensors/1", **members: Any) -> Event:
    """A CloudEvent, whose key is made of its source too."""
    members = {"payload_kind": PayloadKind.JSON, "payload": b'{"t":1}', "timestamp": "", **members}
    attributes = {"specversion": "1.0", "subject": "kitchen"}
    return msgspec.structs.replace(
        make_event(event_id, "readings", source=source),
        key=key_of(f"readings from {source}", event_id),
        name=key_of("readings", event_id),
        digest=digest_of(source, members["payload"], members["payload_kind"]),
        attributes=msgspec.json.encode(attributes),
        **members,
    )


async def store(client: Client, *events: Event) -> list[int]:
    """Store them; return their seqs."""
    assert client.app
    async with client.app[STORE].transaction() as tx:
        seqs = await tx.append(events)
        for event in events:
            await tx.count(Counters(stored=1), {event.topic: Counters(stored=1)})
    return seqs
