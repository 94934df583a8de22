"""Who takes part."""

from collections.abc import Sequence

from loadgen.bench.contestant import Contestant
from loadgen.bench.limits import BareAiohttp, BareSqlite, BareSqliteOrdered
from loadgen.bench.ours import ours

QUICK = ("sqlite", "aiohttp", "ours-1", "ours-100", "ours-1000")


def everybody(python: str) -> list[Contestant]:
    return [BareSqlite(), BareSqliteOrdered(), BareAiohttp(), *ours(python)]


def chosen(field: Sequence[Contestant], names: Sequence[str]) -> list[Contestant]:
    """Those named; a group's name, or the beginning of a name, stands for all of its kind."""
    known = [one for one in field if any(is_meant(one, name) for name in names)]
    missing = [name for name in names if not any(is_meant(one, name) for one in field)]
    if missing:
        has = ", ".join(one.name for one in field)
        raise ValueError(f"nobody is called {', '.join(missing)}; there are {has}")
    return known


def is_meant(one: Contestant, name: str) -> bool:
    return name in (one.name, one.group)
