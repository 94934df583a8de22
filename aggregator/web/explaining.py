"""Explains what became of an event: who sent it, how often, and what differed."""

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from aggregator.core import timestamp
from aggregator.store import ConflictStats, History, KeepsHistory, RedeliveryStats, StoredEvent
from aggregator.web import answer, finding
from aggregator.web.arguments import load
from aggregator.web.query import PickSchema
from aggregator.web.sending import Sender
from aggregator.web.turn import Turn

_MOST = 1000


@dataclass(frozen=True)
class Explaining:
    """The handler, and what it needs."""

    turn: Turn
    sender: Sender

    def routes(self) -> list[web.RouteDef]:
        """Every call that is answered here."""
        return [web.get("/events/{topic:[^/]+}/{event_id:[^/]+}/explain", self.explain)]

    async def explain(self, request: web.Request) -> web.StreamResponse:
        """Everything that is known of the events that came under one key."""
        pick = load(PickSchema(), request.query)
        async with self.turn.taken() as store:
            found = await finding.find(store, **request.match_info, pick=pick)
            if len(found.events) > 1:
                return await self.sender.send(request, answer.choices(found, "explain"))
            (event,) = found.events
            assert isinstance(store, KeepsHistory)
            history = await store.history(event.seq, _MOST + 1)
        return await self.sender.send(request, answer.explanation(_explained(event, history)))


def _explained(event: StoredEvent, history: History) -> dict[str, Any]:
    redeliveries = history.redeliveries[:_MOST]
    duplicates = sum(seen.duplicates for seen in redeliveries)
    conflicts = sum(seen.conflicts for seen in redeliveries)
    last = max([event.received_at, *(seen.last_at for seen in redeliveries)])
    return {
        "seq": event.seq,
        "topic": event.topic,
        "event_id": event.event_id,
        "times": 1 + duplicates + conflicts,
        "duplicates": duplicates,
        "conflicts": conflicts,
        **_between(event.received_at, last),
        "sources": _sources(event, redeliveries),
        "sources_cut": len(history.redeliveries) > _MOST,
        "conflicting": [_conflicting(clash) for clash in history.conflicts],
        "conflicting_cut": sum(clash.times for clash in history.conflicts) < conflicts,
    }


def _sources(event: StoredEvent, redeliveries: list[RedeliveryStats]) -> list[dict[str, Any]]:
    """One a source; the one that sent what is stored comes first, and its event counts."""
    first = RedeliveryStats(event.source, 0, 0, event.received_at, event.received_at)
    by_source = {seen.source: seen for seen in (first, *redeliveries)}
    return [_source(seen, event) for seen in by_source.values()]


def _source(seen: RedeliveryStats, event: StoredEvent) -> dict[str, Any]:
    is_first = seen.source == event.source
    begin = min(seen.first_at, event.received_at) if is_first else seen.first_at
    return {
        "source": seen.source,
        "times": is_first + seen.duplicates + seen.conflicts,
        "duplicates": seen.duplicates,
        "conflicts": seen.conflicts,
        **_between(begin, seen.last_at),
    }


def _conflicting(clash: ConflictStats) -> dict[str, Any]:
    return {
        "digest": clash.digest.hex(),
        "differences": clash.differences,
        "source": clash.source,
        "times": clash.times,
        **_between(clash.first_at, clash.last_at),
    }


def _between(first: int, last: int) -> dict[str, str]:
    return {
        "first_seen_at": timestamp.rfc_3339(first),
        "last_seen_at": timestamp.rfc_3339(last),
    }
