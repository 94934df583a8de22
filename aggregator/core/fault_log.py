"""How a fault is logged that may come thousands of times a second, and quote what was sent."""

import time
import traceback
from dataclasses import dataclass, field

_LONGEST = 10_000  # bytes
_MOST_SUBJECTS = 100
_OTHERS = "others"


@dataclass
class Seldom:
    """When each subject was told last, and how often it was left out since.

    While _MOST_SUBJECTS are within their pause further ones are told together, so that memory is
    bounded.
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
        if subject not in self._due and len(self._due) >= _MOST_SUBJECTS:
            self._forget(now)
            subject = subject if len(self._due) < _MOST_SUBJECTS else _OTHERS
        if now < self._due.get(subject, now):
            self._left_out[subject] = self._left_out.get(subject, 0) + 1
            return None
        self._due[subject] = now + self.pause
        left_out = self._left_out.pop(subject, 0)
        return f" (and {left_out:,} times since it was told last)" if left_out else ""

    def _forget(self, now: float) -> None:
        """Make room where the pause is over; what was left out is told with that of others."""
        over = [subject for subject, due in self._due.items() if due <= now and subject != _OTHERS]
        for subject in over:
            del self._due[subject]
            if left_out := self._left_out.pop(subject, 0):
                self._left_out[_OTHERS] = self._left_out.get(_OTHERS, 0) + left_out


CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
CONTROLS |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
"""How control characters are shown, for `str.translate`."""


def in_a_line(text: str, longest: int) -> str:
    """The text as it may stand in a line of a log or an answer, cut at so many bytes.

    What somebody sent may be quoted in it. Controls are escaped, so that it can neither begin a
    line that looks like ours nor speak to a terminal, and so is what UTF-8 cannot hold.
    """
    shown = text[:longest].translate(CONTROLS)
    return shown.encode(errors="backslashreplace")[:longest].decode(errors="ignore")


def text_of(error: BaseException) -> str:
    """What the error says; its `__str__` may be anybody's, and fail."""
    try:
        return str.__str__(str(error))
    except Exception:  # noqa: BLE001, nothing is known of it
        return "(its text cannot be read)"


def traceback_of(error: BaseException | None) -> str:
    """Its traceback, on indented lines of their own, of bounded length; nothing without an error.

    It begins with the frames: whatever the error quotes cannot push them out.
    """
    if error is None:
        return ""
    lines = "".join(traceback.format_exception(error))[:_LONGEST].rstrip().split("\n")
    told = "".join(f"\n    {line.translate(CONTROLS)}" for line in lines)
    return told.encode(errors="backslashreplace")[:_LONGEST].decode(errors="ignore")


def place_of(error: BaseException | None) -> str:
    """Where it was raised, and its class: what tells one fault from another."""
    frames = list(traceback.walk_tb(error.__traceback__)) if error else []
    if not frames:
        return type(error).__name__
    frame, line = frames[-1]
    return f"{type(error).__name__} {frame.f_code.co_filename}:{line}"
