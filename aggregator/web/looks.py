"""Looks for what was stored after a seq, once for all who want to know the same."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aggregator.errors import Gone
from aggregator.pipeline.pending import CommitNotifier
from aggregator.store import Query, Span, StoredEvent
from aggregator.web import shown
from aggregator.web.turn import Turn

_PIECE = 32_768  # bytes
_RESTS = 9  # times as long as the looks took
_LONGEST_REST = 0.5  # seconds


@dataclass(frozen=True)
class Look:
    """What a follower finds after the last event it has seen."""

    messages: tuple[bytes, ...]
    """Some of them together in each."""
    last: int
    """The seq of the last event in it; 0 if there is none."""
    position: int
    """The seq from which to look on: all events up to it were looked at."""
    is_end: bool


class Looks:
    """Looks at what is new. Those who look for the same at the same time share one look.

    When all have looked, nobody is woken for a while, the longer the more there was to look for:
    a hundred who follow different things would otherwise take the publishers' time.
    """

    def __init__(self, turn: Turn, commits: CommitNotifier) -> None:
        self._turn = turn
        self._commits = commits
        self._under_way: dict[tuple[Query, int], asyncio.Task[Look]] = {}
        self._begun = 0.0

    async def span(self) -> Span:
        """Which seqs can be read now."""
        async with self._turn.taken() as store:
            return await store.span()

    async def at(self, wanted: Query) -> Look:
        """What comes after `wanted.after`. Raises Gone where that is kept no more."""
        # Not with one that began before the last waking: it may have missed what woke us.
        asked = wanted, self._commits.number
        if not self._under_way:
            self._begun = asyncio.get_running_loop().time()
            self._commits.put_off(_LONGEST_REST)
        if asked not in self._under_way:
            self._under_way[asked] = task = asyncio.create_task(self._look(wanted))
            task.add_done_callback(lambda _: self._forget(asked))
        return await asyncio.shield(self._under_way[asked])

    def _forget(self, asked: tuple[Query, int]) -> None:
        task = self._under_way.pop(asked)
        if not self._under_way:
            took = asyncio.get_running_loop().time() - self._begun
            self._commits.put_off(min(_RESTS * took, _LONGEST_REST))
        if not task.cancelled():
            task.exception()  # whoever asked may have left before it was raised

    async def _look(self, wanted: Query) -> Look:
        after = wanted.after or 0
        async with self._turn.taken() as store:
            span = await store.span()
            check_kept(after, span)
            if after >= span.newest:
                return Look((), 0, after, is_end=True)
            page = await store.events(wanted)
        last = page.events[-1].seq if page.events else 0
        messages = tuple(_gathered(map(_as_message, page.events)))
        if page.next is None:
            return Look(messages, last, max(last, span.newest), is_end=True)
        return Look(messages, last, page.next, is_end=False)


def check_kept(after: int, span: Span) -> None:
    """Raise Gone if an event that comes after this one may have been removed."""
    if after + 1 < span.oldest:
        raise Gone(
            f"Events after {after} are kept no more; the oldest one kept is {span.oldest}. "
            f"Go on with after={span.oldest - 1}, which leaves out those in between."
        )


def _gathered(messages: Iterable[bytes]) -> Iterator[bytes]:
    """The messages in pieces that are worth sending, none of them cut."""
    piece = bytearray()
    for message in messages:
        piece += message
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def _as_message(event: StoredEvent) -> bytes:
    return b"id: %d\ndata: %s\n\n" % (event.seq, shown.as_line(event))
