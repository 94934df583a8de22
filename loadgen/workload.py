"""What a run sends, made before anything is sent: the same seed makes the same bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

Payload = dict[str, Any]

CITIES = ("Jakarta", "Bandung", "København", "São Paulo", "東京", "Zürich")


class Kind(NamedTuple):
    """A kind of event: its topic, its sources, and how a payload of it is made."""

    topic: str
    sources: tuple[str, ...]
    payload: Callable[[Random], Payload]


def login(random: Random) -> Payload:
    """Someone logs in: text, a boolean, a nested object."""
    return {
        "user": f"user-{random.randrange(2_000)}",
        "method": random.choice(("password", "passkey", "sso")),
        "successful": random.random() < 0.93,
        "ip": f"10.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(256)}",
        "city": random.choice(CITIES),
        "device": {"os": random.choice(("Android", "iOS", "Linux", "Windows")), "trusted": True},
    }


def payment(random: Random) -> Payload:
    """Something is paid: exact decimals, a list of objects, null."""
    bought = [(money(random), random.randint(1, 5)) for _ in range(random.randint(1, 4))]
    return {
        "order": f"ord-{random.getrandbits(48):012x}",
        "currency": random.choice(("EUR", "IDR", "JPY", "USD")),
        "total": sum((price * quantity for price, quantity in bought), Decimal()),
        "lines": [
            {"sku": sku(random), "quantity": quantity, "price": price} for price, quantity in bought
        ],
        # More digits than a float can hold: what passes through one comes back changed.
        "exchange_rate": Decimal(random.getrandbits(70)).scaleb(-18),
        "voucher": random.choice((None, None, "WELCOME10", "5% off \u2713")),
    }


def stock_change(random: Random) -> Payload:
    """Stock changes: negative numbers, a list that may be empty."""
    change = random.randint(-40, 60)
    return {
        "sku": sku(random),
        "change": change,
        "level": max(0, change) + random.randrange(500),
        "reason": "delivery" if change > 0 else random.choice(("sale", "damage", "count")),
        "weight_kg": Decimal(random.randrange(1, 90_000)).scaleb(-3),
        "tags": random.sample(("fragile", "cold", "bulky", "new"), random.randrange(3)),
    }


def sku(random: Random) -> str:
    """An article number."""
    return f"SKU-{random.randrange(900):04}"


def money(random: Random) -> Decimal:
    """An amount with two decimals."""
    return Decimal(random.randrange(99, 250_000)).scaleb(-2)


KINDS = (
    Kind("auth.login", ("web-1", "web-2", "mobile"), login),
    Kind("billing.payment", ("checkout", "subscriptions"), payment),
    Kind("inventory.stock", ("warehouse-east", "warehouse-west", "shop"), stock_change),
)


def topic_and_kind(number: int) -> tuple[str, Kind]:
    """The topic of that number. The first three are the kinds; then each comes again, numbered."""
    turn, index = divmod(number, len(KINDS))
    kind = KINDS[index]
    return (f"{kind.topic}.{turn + 1}" if turn else kind.topic), kind


Key = tuple[str, str]

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
OFFSETS = (UTC, timezone(timedelta(hours=7)), timezone(timedelta(hours=-5)))


class Event(msgspec.Struct, frozen=True):
    """An event as it is sent."""

    topic: str
    event_id: str
    timestamp: str
    source: str
    payload: Payload

    @property
    def key(self) -> Key:
        """What identifies it."""
        return self.topic, self.event_id


Batch = tuple[Event, ...]

_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(batch: Batch) -> bytes:
    """The body of the request that publishes the batch."""
    return _encoder.encode(batch)


@dataclass(frozen=True)
class Plan:
    """The unique events, and the batches in which they and their duplicates are sent."""

    seed: int
    unique: tuple[Event, ...]
    batches: tuple[Batch, ...]

    @property
    def events(self) -> int:
        """How many are sent, duplicates included."""
        return sum(map(len, self.batches))

    @property
    def duplicates(self) -> int:
        """How many of them are resends of earlier ones."""
        return self.events - len(self.unique)

    @property
    def topics(self) -> tuple[str, ...]:
        """In the order in which they are first used."""
        return tuple(dict.fromkeys(event.topic for event in self.unique))


def make_plan(*, seed: int, events: int, topics: int, duplicates: float, batch: int) -> Plan:
    """Plan a run; `duplicates` is the part of `events` that are resends of earlier ones."""
    resends = min(round(events * duplicates), events - 1)
    unique = tuple(make_event(seed, number, topics) for number in range(events - resends))
    sequence = with_resends(unique, resends, Random(f"{seed}:resends"))
    batches = tuple(tuple(sequence[i : i + batch]) for i in range(0, events, batch))
    return Plan(seed, unique, batches)


def make_event(seed: int, number: int, topics: int) -> Event:
    """The event depends on nothing but its arguments, so longer runs begin like shorter ones."""
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
    """The unique events in order, with exact copies of earlier ones in between."""
    is_resend = [True] * resends + [False] * (len(unique) - 1)
    random.shuffle(is_resend)
    fresh = iter(unique)
    sent = [next(fresh)]
    for resend in is_resend:
        sent.append(random.choice(sent) if resend else next(fresh))
    return sent
