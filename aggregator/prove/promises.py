"""What the service promises, as far as a kill can put it to the proof."""

from collections import Counter
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple


class Promise(Enum):
    """Each can be broken by itself."""

    STORED = "an answer means stored"
    ONCE = "each event is stored once"
    SAME = "what was answered stays true"
    COUNTED = "the numbers add up"
    TRACELESS = "what is not stored leaves no trace"
    ANSWERED = "every event is answered"
    READY = "a kill needs no repair"


class Broken(NamedTuple):
    """One way in which a promise was broken, how often, and the first case of it."""

    promise: Promise
    how: str
    times: int
    example: str

    def __str__(self) -> str:
        often = f" ({self.times:,} times)" if self.times > 1 else ""
        return f"«{self.promise.value}» is broken: {self.how}{often}, such as {self.example}"


class Breaches:
    """Everything that was found wrong."""

    def __init__(self) -> None:
        self._times: Counter[tuple[Promise, str]] = Counter()
        self._examples: dict[tuple[Promise, str], str] = {}

    def __bool__(self) -> bool:
        return bool(self._times)

    def __iter__(self) -> Iterator[Broken]:
        order = list(Promise)
        for promise, how in sorted(self._times, key=lambda broken: order.index(broken[0])):
            yield Broken(promise, how, self._times[promise, how], self._examples[promise, how])

    def note(self, promise: Promise, how: str, example: object) -> None:
        """It was broken, in a way that is told in the same words each time."""
        self._times[promise, how] += 1
        self._examples.setdefault((promise, how), str(example))
