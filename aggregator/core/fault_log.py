"""How a fault is logged that may come thousands of times a second, and quote what was sent."""

import time
import traceback
from dataclasses import dataclass, field

_LONGEST = 10_000  # bytes
_MOST_SUBJECTS = 100


@dataclass
class Seldom:
    """When each subject was told last, and how often it was left out since.

    After _MOST_SUBJECTS further ones are told together, so that memory is bounded.
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
        if subject not in self._due and len(self._due) >= _MOST_SUBJECTS:
            subject = "others"
        now = time.monotonic()
        if now < self._due.get(subject, now):
            self._left_out[subject] = self._left_out.get(subject, 0) + 1
            return None
        self._due[subject] = now + self.pause
        left_out = self._left_out.pop(subject, 0)
        return f" (and {left_out:,} times since it was told last)" if left_out else ""


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


def place_of(error: BaseException | None) -> str:
    """Where it was raised, and its class: what tells one fault from another."""
    frames = list(traceback.walk_tb(error.__traceback__)) if error else []
    if not frames:
        return type(error).__name__
    frame, line = frames[-1]
    return f"{type(error).__name__} {frame.f_code.co_filename}:{line}"
