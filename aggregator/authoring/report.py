"""What `aggregator try` prints: a line an event, the totals, and every fault with its place."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType

import msgspec

from aggregator.api.publish import settled_response
from aggregator.api.responses import problem_response
from aggregator.authoring.blame import OwnFiles, definition
from aggregator.authoring.trial import Tried
from aggregator.errors import StageFault
from aggregator.event import Event
from aggregator.outcome import Conflict, Duplicate, Filtered, Invalid, Stored
from aggregator.pipeline.runner import NamedStage

_FAULT = "fault"
_TOTALS = {
    "stored": "stored",
    "duplicate": "duplicate",
    "conflict": "conflict",
    "invalid": "invalid",
    "filtered": "filtered",
    _FAULT: "not settled",
}
_HEAD = ("event", "topic", "event_id", "status", "")
_GAP = "  "
_LEAST_DETAIL = 34  # characters that the last column keeps on a narrow terminal
_MOST_NAMED = 5  # events of one fault

Row = tuple[str, str, str, str, str]


class _Envelope(msgspec.Struct):
    results: list[msgspec.Raw]


def as_json(tried: Tried) -> list[str]:
    """What the API would answer: a result for each event, or a problem."""
    if tried.error:
        status = 500 if isinstance(tried.error, StageFault) else 503
        return [_text(problem_response(status, str(tried.error)).body)]
    answer = msgspec.json.decode(_text(settled_response(tried.submission).body), type=_Envelope)
    return [bytes(result).decode() for result in answer.results]


def table(all_tried: Sequence[Tried], width: int | None) -> str:
    """A line an event, aligned; cut to the width of the terminal, if there is one."""
    rows = [row for tried in all_tried for row in _rows(tried)]
    shown = _fitted([_HEAD, *rows], width)
    sizes = [max(len(row[column]) for row in shown) for column in range(len(_HEAD))]
    return "\n".join(
        _GAP.join(f"{text:<{size}}" for text, size in zip(row, sizes, strict=True)).rstrip()
        for row in shown
    )


def totals(all_tried: Sequence[Tried]) -> str:
    """How many events ended in which way."""
    counts = Counter(row[3] for tried in all_tried for row in _rows(tried))
    told = ", ".join(f"{counts[status]} {_TOTALS[status]}" for status in _TOTALS if counts[status])
    events = counts.total()
    return f"{events} event{'s' * (events != 1)}" + (f": {told}" if told else "")


@dataclass
class Faults:
    """Every fault of a stage once, with the events that it came with."""

    stages: Sequence[NamedStage]
    _events: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, tried: Tried) -> None:
        """Note what went wrong with a submission, if anything did."""
        events = _names(tried)
        if error := tried.error:
            lines = self._own.lines_of(error) or self._definition(str(error))
            self._note(str(error), lines, events)
        for failed in tried.failed_effects:
            self._note_raised("after the commit, an effect failed", failed, events)

    def add_hang(self, tried: Tried | None, told: str, frame: FrameType | None) -> None:
        """Note what goes on for ever, and where if that is known."""
        lines = self._own.lines_at(frame) if frame else self._definition(told)
        self._note(told, lines, _names(tried) if tried else [])

    def add_close(self, error: BaseException) -> None:
        """Note what a stage has raised when it was closed."""
        self._note_raised("a stage could not be closed", error, [])

    @property
    def _own(self) -> OwnFiles:
        return OwnFiles.of(self.stages)

    def _definition(self, told: str) -> str:
        """Where the stage begins that a message names at its beginning, if it is one stage's."""
        name = told.partition(":")[0]
        return "\n".join(definition(named) for named in self.stages if named.name == name)

    def _note_raised(self, when: str, error: BaseException, events: Sequence[str]) -> None:
        self._note(f"{when}: {type(error).__name__}: {error}", self._own.lines_of(error), events)

    def _note(self, told: str, lines: str, events: Sequence[str]) -> None:
        self._events.setdefault((_printable(told), lines), []).extend(events)

    def __bool__(self) -> bool:
        return bool(self._events)

    def __str__(self) -> str:
        return "\n\n".join(
            "\n".join(filter(None, (f"fault: {told}", lines, _with(events))))
            for (told, lines), events in self._events.items()
        )


def _names(tried: Tried) -> list[str]:
    return [
        " ".join(_printable(text) for text in (place, event.topic, event.event_id) if text)
        for place, event in zip(tried.places, tried.submission.events, strict=True)
    ]


def _with(events: Sequence[str]) -> str:
    if not events:
        return ""
    named = "; ".join(events[:_MOST_NAMED])
    others = len(events) - _MOST_NAMED
    more = f"; and {others} more" if others > 0 else ""
    return f"  with event{'s' * (len(events) != 1)} {named}{more}"


def _rows(tried: Tried) -> list[Row]:
    events = zip(tried.places, tried.submission.events, strict=True)
    return [
        (place, event.topic, event.event_id, *_verdict(event, tried)) for place, event in events
    ]


def _verdict(event: Event, tried: Tried) -> tuple[str, str]:
    """The status, and what else there is to say."""
    if tried.error:
        return _FAULT, str(tried.error)
    match event.outcome:
        case Stored(seq=seq):
            return "stored", f"seq {seq}"
        case Duplicate(seq=seq):
            return "duplicate", f"of seq {seq}"
        case Conflict(seq=seq, differences=differences):
            return "conflict", f"differs from seq {seq} in {', '.join(differences)}"
        case Invalid(faults=faults):
            told = "; ".join(f"{fault.pointer} {fault.detail}".strip() for fault in faults)
            return "invalid", told
        case Filtered(reason=reason):
            return "filtered", reason
    raise AssertionError(event.outcome)


def _fitted(rows: Sequence[Row], width: int | None) -> list[Row]:
    """The rows as they can be printed; of those too wide, first the ids are cut, then the rest."""
    clean = [tuple(map(_printable, row)) for row in rows]
    if width is None:
        return clean  # type: ignore[return-value]
    sizes = [max(len(row[column]) for row in clean) for column in range(len(_HEAD))]
    room = width - sizes[0] - sizes[3] - len(_GAP) * (len(_HEAD) - 1)
    for_names = max(16, room - min(sizes[4], _LEAST_DETAIL))
    topic = min(sizes[1], max(for_names // 2, for_names - sizes[2]))
    event_id = min(sizes[2], for_names - topic)
    detail = max(8, room - topic - event_id)
    return [
        (place, _cut(one, topic), _cut(two, event_id), status, _cut(three, detail))
        for place, one, two, status, three in clean
    ]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _printable(text: str) -> str:
    """The text on one line, whatever it holds."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _text(body: object) -> str:
    assert isinstance(body, bytes)
    return body.decode()
