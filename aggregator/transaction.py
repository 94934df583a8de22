"""What a stage is lent while the pipeline runs it: the store's words, and nothing that commits."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from itertools import accumulate
from typing import Any, TypeVar

from msgspec.structs import replace

from aggregator.comparison import TOLD, Pair, Rivals, Verdicts, compare, contents_of, rivals, told
from aggregator.core.identity import DIGEST_SIZE, KEY_SIZE, PayloadKind
from aggregator.errors import StageFault, StoreError, StoreFault
from aggregator.event import Event
from aggregator.outcome import Conflict
from aggregator.store import Content, KeyOwner, StoreTransaction

__all__ = ["Transaction"]

R = TypeVar("R")

EFFECTS_LIMIT = 0.1
"""Seconds that the effects of one stage after one batch may take in all, before the log warns."""

COMPARED_AT_ONCE = 1_048_576
"""Bytes, stored and sent, that are compared in a transaction, while everybody waits for it."""

_TOO_LARGE = 2**63  # a seq, or a time in microseconds since 1970, that no store can hold


@dataclass(frozen=True)
class Effect:
    """What a stage has asked to be called after the commit."""

    stage: str
    call: Callable[[], object]


class Postponed(Exception):
    """More is to be compared than a batch may take. For the pipeline; a stage lets it pass.

    The batch is rolled back and run again without the submissions of these events. They come in a
    later one, once the contents have been compared beside the worker.
    """

    def __init__(self, pairs: Iterable[Pair], uncommitted: Iterable[int]) -> None:
        super().__init__("more is to be compared than a batch may take")
        self.by_submission: dict[str, list[Pair]] = {}
        for event, owner in pairs:
            self.by_submission.setdefault(event.submission, []).append((event, owner))
        self.uncommitted = frozenset(uncommitted)
        """The seqs that were given in the transaction: they may be those of other events next."""


@dataclass
class UnitOfWork:
    """A store's transaction, and what the stages have done in it so far. For the pipeline."""

    tx: StoreTransaction
    effects: list[Effect] = field(default_factory=list)
    appended: dict[int, bytes] = field(default_factory=dict)
    """The key under each seq that was given."""
    held: dict[int, bytes] = field(default_factory=dict)
    """The key that each event holds which a claim has named."""
    failure: BaseException | None = None
    """What the first call of the store that failed has raised."""
    verdicts: Verdicts = field(default_factory=dict)
    """What was found of contents, here or before."""
    room: int = field(default_factory=lambda: COMPARED_AT_ONCE)
    """How many bytes may still be compared here."""

    def undo(self, effects: int, appended: int) -> None:
        """Forget all but the first so many: what came after was rolled back to a savepoint."""
        del self.effects[effects:]
        while len(self.appended) > appended:
            self.appended.popitem()  # the last one
        self.held.clear()
        self.failure = None


class Transaction:
    """Lent to one stage for one call of `process`; it can neither commit nor roll back.

    Once a call has failed, the batch is rolled back, even if the stage swallows the error. While
    the store is waited for, the stage's time does not run, and what the store does is never
    cancelled. One call is made at a time: another one waits until it has ended.
    """

    def __init__(self, work: UnitOfWork, limit: asyncio.Timeout, stage: str) -> None:
        self._work = work
        self._limit = limit
        self._stage = stage
        self._is_over = False
        self._turn = asyncio.Lock()

    async def claim(self, keys: Sequence[bytes]) -> list[KeyOwner | None]:
        """For each key the event that holds it, or None if it is new: `StoreTransaction.claim`."""
        owners = await self._call(self._work.tx.claim, keys, mistake=_in_keys)
        self._check_count(keys, owners)
        held = zip(keys, owners, strict=True) if any(owners) else ()
        self._work.held.update((owner.seq, key) for key, owner in held if owner)
        return owners

    async def contents(self, seqs: Sequence[int]) -> list[Content]:
        """The contents of the first of these events: `StoreTransaction.contents`."""
        return await self._call(self._work.tx.contents, seqs, mistake=_in_seqs)

    async def compare(self, pairs: Sequence[Pair]) -> list[Conflict | None]:
        """Of each event and the owner of its key: a Conflict, or None if their contents are equal.

        Unequal digests do not tell, for the same JSON values may be spelled otherwise. At most
        COMPARED_AT_ONCE bytes are compared in a batch. Beyond them this raises Postponed, which the
        pipeline waits for: the submissions of those events come again once that has been compared.
        """
        work = self._work
        differing = [pair for pair in pairs if pair[0].digest != pair[1].digest]
        if not differing:
            return [None] * len(pairs)
        left = list(rivals(pair for pair in differing if contents_of(*pair) not in work.verdicts))
        while left and (done := await self._compare_some(left)):
            left = left[done:]
        if left:
            work.failure = Postponed((pair for some in left for pair in some.pairs), work.appended)
            raise work.failure
        return [_verdict(event, owner, work.verdicts) for event, owner in pairs]

    async def _compare_some(self, asked: Sequence[Rivals]) -> int:
        """Compare the first of these, as far as there is room; how many of them it was."""
        work = self._work
        if asked[0].sent > work.room:
            return 0
        contents = await self.contents([some.owner.seq for some in asked])
        together = list(zip(asked, contents, strict=False))
        sizes = accumulate(some.size(stored) for some, stored in together)
        fitting = [size for size in sizes if size <= work.room]
        if fitting:
            differences = TOLD - told(work.verdicts)
            some = together[: len(fitting)]
            work.verdicts.update(await self.aside(compare, some, differences))
            work.room -= fitting[-1]
        if len(fitting) < len(together):
            work.room = 0  # something was read in vain, while everybody waits: once is enough
        return len(fitting)

    async def append(self, events: Sequence[Event]) -> list[int]:
        """Store the events with their keys; return the seq of each, ascending.

        Raises KeyHeld, and stores none of them, if one's key is held or stands twice among them.
        Each is to be settled as `Stored` with its seq.
        """
        seqs = await self._call(self._work.tx.append, events, mistake=_in_events)
        self._check_count(events, seqs)
        self._work.appended.update(zip(seqs, [event.key for event in events], strict=True))
        return seqs

    async def aside(self, function: Callable[..., R], *args: Any) -> R:
        """Call a slow function in a thread, beside the event loop; the stage's time does not run.

        For work that is bounded by the size of the batch: nobody can cancel it. It must not wait
        for another call of the transaction, which waits for this one.
        """
        return await self._call(asyncio.to_thread, function, *args)

    def after_commit(self, effect: Callable[[], None]) -> None:
        """Call `effect` once the transaction has committed, and never if it does not.

        It is a plain function and runs on the event loop, before the publishers are answered:
        everybody waits for it. So it only does what takes no time, such as changing memory or
        handing on to a task; where the effects of a stage take longer than EFFECTS_LIMIT after one
        batch, the log warns. What it raises is logged; the events are stored. A process that dies
        after the commit never calls it. Raises TypeError for an `async def`, which nobody awaits,
        and for what is no function.
        """
        if not callable(effect):
            raise TypeError(
                f"after_commit takes a function, to be called later, not {effect!r:.100}"
            )
        if iscoroutinefunction(effect):
            name = getattr(effect, "__qualname__", type(effect).__name__)
            raise TypeError(f"after_commit takes a plain function, and {name} is an `async def`")
        self._work.effects.append(Effect(self._stage, effect))

    async def end(self) -> None:
        """The stage has answered: what it still does with the transaction is refused.

        Waits for a call that is still under way, which is a failure of its own.
        """
        self._is_over = True
        if self._turn.locked():
            async with self._turn:
                fault = StageFault("answered while a call of its transaction was under way")
                self._work.failure = self._work.failure or fault

    def _check_count(self, asked: Sequence[Any], answered: Sequence[Any]) -> None:
        if len(answered) != len(asked):
            told = f"the store answered with {len(answered)} where {len(asked)} were asked for"
            self._work.failure = StoreFault(told)
            raise self._work.failure

    async def _call(
        self,
        function: Callable[..., Awaitable[R]],
        *args: Any,
        mistake: Callable[..., str] = lambda *_: "",
    ) -> R:
        """Call it; where the store fails, `mistake` says what no store could have taken.

        Then the stage is at fault. It is asked only after a failure, since it takes its time.
        """
        async with self._turn:
            if self._is_over or self._work.failure:
                raise self._work.failure or StageFault("used its transaction after it had answered")
            try:
                call = function(*args)
                if isinstance(call, asyncio.Future) and call.done():
                    result: R = call.result()
                    return result
                with _paused(self._limit):
                    return await _uncancelled(call)
            except StoreError as error:
                self._work.failure = error
                if what := mistake(*args):
                    self._work.failure = StageFault(what)
                    raise self._work.failure from error
                raise
            except BaseException as error:
                self._work.failure = error
                raise


def _verdict(event: Event, owner: KeyOwner, verdicts: Verdicts) -> Conflict | None:
    if event.digest == owner.digest:
        return None
    conflict = verdicts[contents_of(event, owner)]
    if conflict is None:
        return None
    # It may have been stored anew since that was found: by another submission, under the same seq.
    return replace(conflict, seq=owner.seq, received_at=owner.received_at)


_SURROGATE = re.compile("[\ud800-\udfff]")
_TEXTS = ("topic", "event_id", "timestamp", "source")
_BYTES = ("payload", "attributes", "name")


def _in_keys(keys: object) -> str:
    if not isinstance(keys, Sequence):
        return _no_sequence(keys, "keys")
    bad = [key for key in keys if not _is_bytes(key, KEY_SIZE)]
    return f"{bad[0]!r} is no key: a key has {KEY_SIZE} bytes" if bad else ""


def _in_seqs(seqs: object) -> str:
    if not isinstance(seqs, Sequence):
        return _no_sequence(seqs, "seqs")
    bad = [seq for seq in seqs if not (type(seq) is int and 0 < seq < _TOO_LARGE)]
    return f"{bad[0]!r} is no seq: no store has given it" if bad else ""


def _in_events(events: object) -> str:
    if not isinstance(events, Sequence):
        return _no_sequence(events, "events")
    bad = [event for event in events if not (isinstance(event, Event) and _is_sound(event))]
    if not bad:
        return ""
    if isinstance(bad[0], Event):
        return f"event {bad[0].index} has members that no store can take"
    return f"a {type(bad[0]).__name__} is no event"


def _no_sequence(given: object, what: str) -> str:
    return f"a {type(given).__name__} is no sequence of {what}"


def _is_sound(event: Event) -> bool:
    return (
        all(_is_text(getattr(event, name)) for name in _TEXTS)
        and all(_is_bytes(getattr(event, name)) for name in _BYTES)
        and _is_bytes(event.key, KEY_SIZE)
        and _is_bytes(event.digest, DIGEST_SIZE)
        and isinstance(event.received_at, int)
        and 0 <= event.received_at < _TOO_LARGE
        and isinstance(event.payload_kind, PayloadKind)
    )


def _is_text(value: object) -> bool:
    """Half of a surrogate pair is none: no UTF-8 can hold it."""
    return isinstance(value, str) and not _SURROGATE.search(value)


def _is_bytes(value: object, length: int | None = None) -> bool:
    return isinstance(value, bytes) and length in (None, len(value))


async def _uncancelled(call: Awaitable[R]) -> R:
    """Await the call to its end, also when the wait for it is cancelled."""
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if error := task.exception():
            raise error from None
        raise


@contextmanager
def _paused(limit: asyncio.Timeout) -> Iterator[None]:
    clock = asyncio.get_running_loop()
    due = limit.when()
    assert due is not None
    remaining = due - clock.time()
    limit.reschedule(None)
    try:
        yield
    finally:
        with suppress(RuntimeError):  # it has ended, as the pipeline was cancelled meanwhile
            limit.reschedule(clock.time() + remaining)
