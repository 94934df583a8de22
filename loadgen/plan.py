"""What a run will send, settled before anything is sent: the same seed, the same bytes."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from uuid import UUID

import msgspec

from loadgen.topics import Payload, topic_and_kind

Key = tuple[str, str]

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
OFFSETS = (UTC, timezone(timedelta(hours=7)), timezone(timedelta(hours=-5)))


class Event(msgspec.Struct, frozen=True):
    topic: str
    event_id: str
    timestamp: str
    source: str
    payload: Payload

    @property
    def key(self) -> Key:
        return self.topic, self.event_id


Batch = tuple[Event, ...]

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(batch: Batch) -> bytes:
    return _encoder.encode(batch)


@dataclass(frozen=True)
class Plan:
    """The unique events, and the batches in which they and their duplicates go out."""

    seed: int
    unique: tuple[Event, ...]
    batches: tuple[Batch, ...]

    @property
    def events(self) -> int:
        return sum(map(len, self.batches))

    @property
    def duplicates(self) -> int:
        return self.events - len(self.unique)

    @property
    def topics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(event.topic for event in self.unique))


def make_plan(*, seed: int, events: int, topics: int, duplicates: float, batch: int) -> Plan:
    """``duplicates`` is the part of ``events`` that are resends of earlier ones."""
    resends = min(round(events * duplicates), events - 1)
    unique = tuple(make_event(seed, number, topics) for number in range(events - resends))
    sequence = with_resends(unique, resends, Random(f"{seed}:resends"))
    batches = tuple(tuple(sequence[i : i + batch]) for i in range(0, events, batch))
    return Plan(seed, unique, batches)


def make_event(seed: int, number: int, topics: int) -> Event:
    """An event depends on nothing but its arguments, so a longer run begins like a shorter one."""
    random = Random(f"{seed}:{number}")
    topic, kind = topic_and_kind(number % topics)
    moment = BEGINNING + timedelta(milliseconds=250 * number + random.randrange(250))
    return Event(
        topic=topic,
        event_id=str(UUID(int=random.getrandbits(128), version=4)),
        timestamp=moment.astimezone(random.choice(OFFSETS)).isoformat(timespec="milliseconds"),
        source=random.choice(kind.sources),
        payload=kind.payload(random),
    )


def with_resends(unique: tuple[Event, ...], resends: int, random: Random) -> list[Event]:
    """The unique events in order, with exact copies of earlier ones strewn in."""
    is_resend = [True] * resends + [False] * (len(unique) - 1)
    random.shuffle(is_resend)
    fresh = iter(unique)
    sent = [next(fresh)]
    for resend in is_resend:
        sent.append(random.choice(sent) if resend else next(fresh))
    return sent
