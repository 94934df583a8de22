"""What the made-up events are about: each kind of topic with its sources and its payloads."""

from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any, NamedTuple

Payload = dict[str, Any]

CITIES = ("Jakarta", "Bandung", "København", "São Paulo", "東京", "Zürich")


class Kind(NamedTuple):
    topic: str
    sources: tuple[str, ...]
    payload: Callable[[Random], Payload]


def login(random: Random) -> Payload:
    return {
        "user": f"user-{random.randrange(2_000)}",
        "method": random.choice(("password", "passkey", "sso")),
        "successful": random.random() < 0.93,
        "ip": f"10.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(256)}",
        "city": random.choice(CITIES),
        "device": {"os": random.choice(("Android", "iOS", "Linux", "Windows")), "trusted": True},
    }


def payment(random: Random) -> Payload:
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
    return f"SKU-{random.randrange(900):04}"


def money(random: Random) -> Decimal:
    return Decimal(random.randrange(99, 250_000)).scaleb(-2)


KINDS = (
    Kind("auth.login", ("web-1", "web-2", "mobile"), login),
    Kind("billing.payment", ("checkout", "subscriptions"), payment),
    Kind("inventory.stock", ("warehouse-east", "warehouse-west", "shop"), stock_change),
)


def topic_and_kind(number: int) -> tuple[str, Kind]:
    """The first three topics are the kinds themselves; after them each comes again, numbered."""
    turn, index = divmod(number, len(KINDS))
    kind = KINDS[index]
    return (f"{kind.topic}.{turn + 1}" if turn else kind.topic), kind
