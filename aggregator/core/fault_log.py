"""How a fault is logged that may come thousands of times a second, and quote what was sent."""

import time
import traceback
from dataclasses import dataclass, field

_LONGEST = 10_000  # bytes


@dataclass
class Seldom:
    """When each subject was told last, and how often it was left out since.

    The subjects are few: what keys this, such as the names of stages, is bounded by the caller.
    """

    pause: float = 60.0
    """Seconds."""
    _due: dict[str, float] = field(default_factory=dict)
    _left_out: dict[str, int] = field(default_factory=dict)

    def told(self, subject: str) -> str | None:
        """What to add to the message, perhaps nothing; None where it is too early to say it again.

        >>> seldom = Seldom()
        >>> seldom.told("a fault"), seldom.told("a fault")
        ('', None)
        """
        now = time.monotonic()
        if now < self._due.get(subject, now):
            self._left_out[subject] = self._left_out.get(subject, 0) + 1
            return None
        self._due[subject] = now + self.pause
        left_out = self._left_out.pop(subject, 0)
        return f" (and {left_out:,} more since the last one told)" if left_out else ""


def cut_bytes(text: str, longest: int) -> str:
    """The text, cut at so many bytes; what UTF-8 cannot hold is escaped."""
    return text.encode(errors="backslashreplace")[:longest].decode(errors="ignore")


def traceback_of(error: BaseException | None) -> str:
    """Its traceback, on lines of its own and of bounded length; nothing where there is no error.

    It begins with the frames: whatever the error quotes cannot push them out.
    """
    if error is None:
        return ""
    return "\n" + cut_bytes("".join(traceback.format_exception(error)).rstrip(), _LONGEST)
