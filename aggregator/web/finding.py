"""Finds a stored event by its topic and id, and says where several have them."""

from dataclasses import dataclass

from aggregator.errors import NotFound
from aggregator.key import key_of
from aggregator.rules import Rules
from aggregator.store import Query, Store, StoredEvent
from aggregator.web.query import Pick

_MOST = 20


@dataclass(frozen=True)
class Finder:
    """Finds events by name; the rules say how those from one source are found at once."""

    rules: Rules

    async def find(self, store: Store, topic: str, event_id: str, pick: Pick) -> list[StoredEvent]:
        """The events of that topic and id, the first ones if there are many. Raises NotFound."""
        if pick.seq is not None:
            found = await _by_seq(store, key_of(topic, event_id), pick.seq)
        elif pick.source is not None:
            found = await self._of_source(store, topic, event_id, pick.source)
        else:
            found = await store.find(key_of(topic, event_id), _MOST)
        if pick.source is not None:
            found = [event for event in found if event.source == pick.source]
        if not found:
            raise NotFound(f"No such event {event_id!r} is stored on the topic {topic!r}.")
        return found

    async def _of_source(
        self, store: Store, topic: str, event_id: str, source: str
    ) -> list[StoredEvent]:
        """By the key where the source belongs to it: further events of the name do not matter."""
        recipe = self.rules.of(topic).cloud_recipe
        members = {"topic": topic, "event_id": event_id, "source": source}
        if members.keys() >= set(recipe.parts):
            found = await store.find(recipe.key(members, None, {}), 1)
            if found:
                return found
        return await store.find(key_of(topic, event_id), _MOST)


async def _by_seq(store: Store, name: bytes, seq: int) -> list[StoredEvent]:
    page = await store.events(Query(after=seq - 1, limit=1))
    return [
        event
        for event in page.events
        if event.seq == seq and name in (event.key, key_of(event.topic, event.event_id))
    ]
