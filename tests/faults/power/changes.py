"""Changes that are not synced yet, and which of them survive a power cut."""

from collections.abc import Callable
from typing import Generic, TypeVar

C = TypeVar("C")

Survives = Callable[[int, object], bool]
"""Whether a change survives, by its number and its part: a sector, a file's size, or a name."""


class Changes(Generic[C]):
    """What something was changed to, and not synced yet, oldest first."""

    def __init__(self) -> None:
        self._made: list[tuple[int, object, C]] = []

    def __bool__(self) -> bool:
        return bool(self._made)

    def add(self, number: int, part: object, to: C) -> None:
        """It was changed, as that part of the change of that number."""
        self._made.append((number, part, to))

    def settle(self, began: int) -> list[C]:
        """Those that a sync covers which began then; they are not waiting any more."""
        covered = [to for number, _, to in self._made if number < began]
        del self._made[: len(covered)]
        return covered

    def left(self, survives: Survives) -> list[C]:
        """Those that survive, in the order in which they were made."""
        return [to for number, part, to in self._made if survives(number, part)]
