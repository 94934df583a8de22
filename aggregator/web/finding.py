"""Finds a stored event by its topic and id, and says where several have them."""

from typing import NamedTuple

from aggregator.core.identity import key_of
from aggregator.errors import NotFound
from aggregator.store import Query, Store, StoredEvent
from aggregator.web.query import Pick

_MOST = 20


class Found(NamedTuple):
    """The events of one topic and id, at least one; the first ones if there are more."""

    events: list[StoredEvent]
    is_cut: bool


async def find(store: Store, topic: str, event_id: str, pick: Pick) -> Found:
    """What is stored under that topic and id and meant by the request. Raises NotFound."""
    name = key_of(topic, event_id)
    if pick.seq is None:
        found = await store.find(name, _MOST + 1, pick.source)
    else:
        found = await _by_seq(store, name, pick)
    if not found:
        raise NotFound(f"No such event {event_id!r} is stored on the topic {topic!r}.")
    return Found(found[:_MOST], len(found) > _MOST)


async def _by_seq(store: Store, name: bytes, pick: Pick) -> list[StoredEvent]:
    assert pick.seq is not None
    page = await store.events(Query(after=pick.seq - 1, limit=1))
    return [
        event
        for event in page.events
        if event.seq == pick.seq
        and name in (event.key, key_of(event.topic, event.event_id))
        and pick.source in (None, event.source)
    ]
