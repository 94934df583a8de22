"""One member of many events, held to the validators of its field in few steps."""

from collections.abc import Sequence
from operator import attrgetter

from marshmallow import ValidationError, validate

from aggregator.event import Event
from aggregator_stages.schemas import OneLine, Timestamp

_RECURRING = ("topic", "source")
_MOST_KNOWN = 1000


class Column:
    """The member of that name. Of those that recur, what was accepted is known from then on."""

    def __init__(self, name: str, checks: Sequence[validate.Validator]) -> None:
        self._member = attrgetter(name)
        self._checks = checks
        self._recurs = name in _RECURRING
        self._known: set[str] = set()

    def accepts(self, events: Sequence[Event]) -> bool:
        """Whether every validator accepts the member of every event."""
        if not self._recurs:
            values = list(map(self._member, events))
            return not values or all(_accepts(check, values, events) for check in self._checks)
        new = set(map(self._member, events)) - self._known
        if new and not all(_accepts(check, list(new), events) for check in self._checks):
            return False
        self._known |= new if len(self._known) + len(new) <= _MOST_KNOWN else set()
        return True


def _accepts(check: validate.Validator, values: Sequence[str], events: Sequence[Event]) -> bool:
    """Whether the validator accepts all of them."""
    if type(check) is validate.Length and check.equal is None:
        return _are_sized(check, list(map(len, values)))
    if type(check) is Timestamp:
        return None not in [event.moment for event in events]
    if type(check) is OneLine and "".join(values).isprintable():
        return True
    return all(_accepts_one(check, value) for value in values)


def _are_sized(check: validate.Length, sizes: Sequence[int]) -> bool:
    return (check.min is None or check.min <= min(sizes)) and (
        check.max is None or max(sizes) <= check.max
    )


def _accepts_one(check: validate.Validator, value: str) -> bool:
    try:
        check(value)
    except ValidationError:
        return False
    return True
