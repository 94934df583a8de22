"""Who takes part."""

from collections.abc import Sequence

from loadgen.bench.contestant import Contestant
from loadgen.bench.limits import BareAiohttp, BareSqlite, BareSqliteOrdered
from loadgen.bench.ours import BEFORE, ours
from loadgen.bench.peers.absent import Rqlite
from loadgen.bench.peers.benthos import Benthos
from loadgen.bench.peers.datasette import Datasette
from loadgen.bench.peers.naive import Naive
from loadgen.bench.peers.nats import Nats
from loadgen.bench.peers.postgresql import Postgresql, PostgresqlOne

QUICK = ("sqlite", "aiohttp", "ours-1", "ours-100", "ours-1000", "naive")


def everybody(python: str, before: str | None = None) -> list[Contestant]:
    limits = [BareSqlite(), BareSqliteOrdered(), BareAiohttp()]
    peers = [Naive(), Datasette(), Nats(), Postgresql(), PostgresqlOne(), Benthos(), Rqlite()]
    return [*limits, *ours(python, before), *peers]


def chosen(field: Sequence[Contestant], names: Sequence[str]) -> list[Contestant]:
    """Those named; a group's name stands for all of it."""
    known = [one for one in field if any(is_meant(one, name) for name in names)]
    missing = [name for name in names if not any(is_meant(one, name) for one in field)]
    if missing:
        has = ", ".join(one.name for one in field)
        raise ValueError(f"nobody is called {', '.join(missing)}; there are {has}")
    return known


def is_meant(one: Contestant, name: str) -> bool:
    return name in (one.name, one.name.removesuffix(BEFORE), one.group)
