"""How often events were answered, with what, and how often they were not."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Tally:
    """What became of all events, or of those of one topic."""

    answered: Counter[str] = field(default_factory=Counter)
    """By status."""
    unsure: Counter[str] = field(default_factory=Counter)
    """By kind, those whose request got no answer: they may be counted."""

    def copy(self) -> "Tally":
        """As it is now."""
        return Tally(self.answered.copy(), self.unsure.copy())

    def since(self, before: "Tally") -> "Tally":
        """What has come to it."""
        return Tally(self.answered - before.answered, self.unsure - before.unsure)
