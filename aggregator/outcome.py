"""What became of one event. Every event ends with exactly one of these.

A new outcome has to be told of in all these places:

- `event.Verdict`, and `check` below, if a stage may settle with it;
- `store.Counters`, which has a field for each `status`, and their sum `received`; in the SQLite
  store also the table (`schema.py`) and the statements that read it (`read.py`) and add to it
  (`write.py`); the memory store adds up whatever fields there are;
- `pipeline/intake.py`: `_NOT_YET`, if it may not be settled with left of the bar;
- `pipeline/processor.py`: `_refuse` and `_check_others`, for strict submissions and for what a
  stage may not say;
- `pipeline/bookkeeping.py`: `_SETTLED`, if it lets a released event leave quarantine; `_Entries`
  and `_reason`, if it is counted by topic or can go into quarantine;
- `api/publish.py`: a result class, `AnyResult` and `_result`; `Counts` and `_counts`; and
  `_MAY_BE_REFUSED`, if it can be refused;
- `api/status.py`: `Stats` and `_stats`; `client/answers.py` and `prove/reconcile.py` read these;
- `docs/http-api.md`: the tables of statuses and of `/stats`; `docs/architecture.md` and
  `docs/glossary.md`: the names.
"""

from typing import ClassVar

import msgspec

_TOO_LARGE = 2**63


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong with an event: where (a JSON pointer, RFC 6901, into the event) and what."""

    pointer: str
    detail: str


class Outcome(msgspec.Struct, frozen=True, tag=True):
    """The base of the outcomes. `refuses` is true where the publisher should mend the event."""

    status: ClassVar[str]
    refuses: ClassVar[bool] = False


class Stored(Outcome, frozen=True):
    """The event was new and is stored under `seq`."""

    status = "stored"
    seq: int


class Duplicate(Outcome, frozen=True):
    """The same event is stored already: as `seq`, received at `received_at` (µs since 1970)."""

    status = "duplicate"
    seq: int
    received_at: int


class Conflict(Outcome, frozen=True):
    """Another content is stored under the same key; that first one is kept.

    `differences` are JSON pointers into the event to the first places that differ. There are none
    where the stored payload is kept no more (`is_emptied`): then only the digests differ.
    """

    status = "conflict"
    seq: int | None  # None where the other one was refused with its strict submission
    received_at: int
    digest: bytes = b""
    stored_digest: bytes = b""
    differences: tuple[str, ...] = ()
    is_emptied: bool = False


class Invalid(Outcome, frozen=True):
    """The event does not keep the contract of an event, for at least one fault."""

    status = "invalid"
    refuses = True
    faults: tuple[Fault, ...]


class Filtered(Outcome, frozen=True):
    """A stage kept the event out on purpose; its key stays new."""

    status = "filtered"
    reason: str


class Refused(Outcome, frozen=True):
    """Good, but not taken: another event of its strict submission was not. For the pipeline.

    Or, for the `reason` that stands there, its publisher may not send it.
    """

    status = "refused"
    refuses = True
    reason: str = ""


def check(outcome: object) -> None:
    """Raise TypeError or ValueError unless it is one of these and can be told to a publisher."""
    if type(outcome) is Duplicate and _is_number(outcome.seq) and _is_number(outcome.received_at):
        return  # as nearly every one is that is checked; what follows takes several times as long
    if type(outcome) not in (Stored, Duplicate, Conflict, Invalid, Filtered):
        raise TypeError(f"{outcome!r} is no outcome")
    if type(outcome) is Invalid and not outcome.faults:
        raise ValueError("an invalid event has at least one fault")
    if type(outcome) is Invalid:
        _check_pointers(outcome.faults)
    msgspec.convert(msgspec.structs.asdict(outcome), type(outcome), strict=True)  # type: ignore[arg-type]
    msgspec.json.encode(outcome)


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value < _TOO_LARGE


def _check_pointers(faults: object) -> None:
    if not isinstance(faults, tuple):
        raise TypeError("the faults of an invalid event are a tuple: Invalid((Fault(...),))")
    for fault in faults:
        pointer = getattr(fault, "pointer", None)
        if not isinstance(pointer, str):
            raise TypeError(f"{fault!r:.100} is no Fault with a JSON pointer")
        if pointer and not pointer.startswith("/"):
            raise ValueError(f"{pointer!r:.100} is no JSON pointer: it is empty or begins with /")
