"""Builds of the service that are broken in one place: a store that breaks it as it is made.

`change` puts something else in place of what is there, by whatever sets an attribute: in a process
that ends with the mutant, or in one where a test undoes it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from aggregator.api import export, stream
from aggregator.core import identity
from aggregator.event import Submission
from aggregator.outcome import Refused, Stored
from aggregator.pipeline import bookkeeping, pending, processor, worker
from aggregator.pipeline.batch import BatchItem, BatchResult
from aggregator.store import NewestSeq
from aggregator.transaction import UnitOfWork
from aggregator_memory.queue import MemoryQueue
from aggregator_sqlite import blocks, key_index, quarantine, runs
from aggregator_sqlite.store import SqliteStore
from mutants.stores import Mutant

Put = Callable[[Any, str, Any], None]


async def nothing_async(*_: object) -> None:
    pass


def nothing(*_: object) -> None:
    pass


class Build(Mutant):
    """`NAME:///…` is SQLite's store, in a service that is broken elsewhere."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.change(setattr)

    @staticmethod
    def change(put: Put) -> None:
        """Break it."""
        raise NotImplementedError


class HoldsRoom(Build):
    """`holds-room:///…` does not give back the queue's room of a batch that has failed."""

    @staticmethod
    def change(put: Put) -> None:
        put(MemoryQueue, "failed", nothing_async)


class KeepsBytes(Build):
    """`keeps-bytes:///…` does not give back the bytes of a submission that has failed."""

    @staticmethod
    def change(put: Put) -> None:
        def fail(self: pending.PendingSubmissions, failed: Any, error: Any) -> None:
            for submission in failed:
                self._queued.pop(submission.id, None)
                self._refuse(submission.id, error)

        put(pending.PendingSubmissions, "fail", fail)


class RunsUndoneEffects(Build):
    """`runs-undone-effects:///…` keeps the effects of a submission that was undone in a replay."""

    @staticmethod
    def change(put: Put) -> None:
        undo = UnitOfWork.undo

        def undo_the_rest(self: UnitOfWork, effects: int, appended: int) -> None:
            undo(self, len(self.effects), appended)

        put(UnitOfWork, "undo", undo_the_rest)


class SettlesWhatFailed(Build):
    """`settles-what-failed:///…` records a submission that has failed as if it were settled."""

    @staticmethod
    def change(put: Put) -> None:
        record = bookkeeping.BatchRecorder.record

        async def record_more(self: Any, settled: Any, tx: Any, failed: Any = ()) -> None:
            await record(self, [*settled, *(one for one, _ in failed)] if failed else settled, tx)

        put(bookkeeping.BatchRecorder, "record", record_more)


class DropsEarly(Build):
    """`drops-early:///…` forgets what was answered 202 where the store fails."""

    @staticmethod
    def change(put: Put) -> None:
        async def fail(self: worker.Worker, items: list[BatchItem], error: Any) -> None:
            await self._give_up(items, error)
            await self._recover(error)

        put(worker.Worker, "_fail", fail)


class ForgetsLate(Build):
    """`forgets-late:///…` does not try again what was answered 202 and had no time."""

    @staticmethod
    def change(put: Put) -> None:
        replay = processor.BatchProcessor._replay

        async def replay_once(self: Any, batch: Any, is_last: Any) -> BatchResult:
            result = await replay(self, batch, is_last)
            gone = [item.submission for item in result.again]
            return BatchResult(
                [*result.stored, *gone], result.counters, result.effects, result.failed
            )

        put(processor.BatchProcessor, "_replay", replay_once)


class DropsReleased(Build):
    """`drops-released:///…` removes from quarantine whatever was released, stored or not."""

    @staticmethod
    def change(put: Put) -> None:
        put(bookkeeping, "_no_longer_needed", lambda submission: iter(submission.released))


class KeepsReleased(Build):
    """`keeps-released:///…` leaves in quarantine what was released and is a duplicate."""

    @staticmethod
    def change(put: Put) -> None:
        put(bookkeeping, "_SETTLED", (Stored,))


class MixesStrict(Build):
    """`mixes-strict:///…` has strict submissions share a batch with others."""

    @staticmethod
    def change(put: Put) -> None:
        put(BatchItem, "is_alone", property(lambda item: item.faults > 0))


class NamesTheUndone(Build):
    """`names-the-undone:///…` calls an event a duplicate of one that was undone beside it."""

    @staticmethod
    def change(put: Put) -> None:
        def refuse(submission: Submission, _: set[int]) -> None:
            for event in submission.events:
                if isinstance(event.outcome, Stored):
                    event.overrule(Refused())

        put(processor, "_refuse", refuse)


class GoesOnUnproved(Build):
    """`goes-on-unproved:///…` does not open the store again after a failure."""

    @staticmethod
    def change(put: Put) -> None:
        async def recover(self: worker.Worker, error: Exception) -> None:
            self.pending.fail_waiting(error)  # type: ignore[arg-type]

        put(worker.Worker, "_recover", recover)


class CountsOnOneTopic(Build):
    """`counts-on-one-topic:///…` counts what came again in a batch on the topic of the first."""

    @staticmethod
    def change(put: Put) -> None:
        totals = bookkeeping._Entries.totals

        def on_one(self: bookkeeping._Entries) -> Any:
            counted, by_topic = totals(self)
            first = next(iter(self.duplicates_on), "")
            moved = {
                topic: counts if topic == first else msgspec.structs.replace(counts, duplicate=0)
                for topic, counts in by_topic.items()
            }
            return counted, moved

        put(bookkeeping._Entries, "totals", on_one)


class SkipsAtThePage(Build):
    """`skips-at-the-page:///…` has a reader who follows pass over an event between two pages."""

    @staticmethod
    def change(put: Put) -> None:
        read = stream.SharedPoll._read

        async def read_past(self: Any, *asked: Any) -> stream.PollResult:
            found = await read(self, *asked)
            past = found.position + (not found.is_end)
            return stream.PollResult(found.messages, found.last, past, is_end=found.is_end)

        put(stream.SharedPoll, "_read", read_past)


class ExportsTooMuch(Build):
    """`exports-too-much:///…` exports what was stored while the export was under way, in part."""

    @staticmethod
    def change(put: Put) -> None:
        begin = export.Cursor.__init__

        def begun(self: Any, wanted: Any, newest: int, *rest: Any) -> None:
            begin(self, wanted, newest + 1, *rest)

        put(export.Cursor, "__init__", begun)


class MergesAllButTheLast(Build):
    """`merges-all-but-the-last:///…` loses the last key of runs that are merged."""

    @staticmethod
    def change(put: Put) -> None:
        between = runs.Run.between

        def all_but_the_last(self: runs.Run, db: Any, low: int, high: int) -> list[bytes]:
            found = between(self, db, low, high)
            if high == runs.END and found:
                self.keys -= 1
                return found[:-1]
            return found

        put(runs.Run, "between", all_but_the_last)


class IndexesTheFirstBlock(Build):
    """`indexes-the-first-block:///…` indexes the keys of a batch's first block alone."""

    @staticmethod
    def change(put: Put) -> None:
        add = key_index.State.add

        def add_some(
            self: key_index.State,
            seqs: dict[bytes, int],
            names: Iterable[runs.Named],
            entries: list[bytes],
        ) -> None:
            some = dict(list(seqs.items())[: blocks.EVENTS_PER_BLOCK])
            add(self, some, names, runs.sorted_entries(some, names))

        put(key_index.State, "add", add_some)


class RunsPartsTogether(Build):
    """`runs-parts-together:///…` does not tell where a part of a key ends."""

    @staticmethod
    def change(put: Put) -> None:
        def hashed(begun: Any, parts: Iterable[bytes]) -> bytes:
            made = begun.copy()
            made.update(b"".join(parts))
            return bytes(made.digest())

        put(identity, "_hashed", hashed)


class KeysBySpelling(Build):
    """`keys-by-spelling:///…` makes keys of what stands in a payload as it is spelled there."""

    @staticmethod
    def change(put: Put) -> None:
        def scalar(payload: bytes, pointer: Sequence[str]) -> bytes | None:
            found: Any = msgspec.json.decode(payload, type=msgspec.Raw)
            for name in pointer:
                try:
                    found = msgspec.json.decode(found, type=dict[str, msgspec.Raw])[name]
                except (msgspec.MsgspecError, KeyError):
                    return None
            return bytes(found)

        put(identity.json_values, "scalar", scalar)


class ForgetsAtReopen(Build):
    """`forgets-at-reopen:///…` knows after a failure only the keys that were in runs."""

    @staticmethod
    def change(put: Put) -> None:
        reopen = SqliteStore.reopen

        async def forget(self: SqliteStore) -> None:
            await reopen(self)
            assert self._index
            self._index.state.recent.clear()

        put(SqliteStore, "reopen", forget)


class UndoesTooMuch(Build):
    """`undoes-too-much:///…` forgets with a savepoint the keys that came before it."""

    @staticmethod
    def change(put: Put) -> None:
        undo = key_index.KeyClaims.undo_to
        put(key_index.KeyClaims, "undo_to", lambda self, appended: undo(self, 0))


class ForgetsNames(Build):
    """`forgets-names:///…` finds an event by topic and event_id only if its key is made of them."""

    @staticmethod
    def change(put: Put) -> None:
        put(key_index.State, "named", lambda *args: [])


class EvictsTheNewest(Build):
    """`evicts-the-newest:///…` makes room in quarantine by what came last."""

    @staticmethod
    def change(put: Put) -> None:
        put(quarantine, "OLDEST", "SELECT id, size FROM quarantine ORDER BY id DESC LIMIT ?")


class ShowsOldCounters(Build):
    """`shows-old-counters:///…` does not ask a store that is back what it has counted."""

    @staticmethod
    def change(put: Put) -> None:
        recover = worker.Worker._recover

        async def forget(self: worker.Worker, error: Any) -> None:
            before = self.pending.counters
            await recover(self, error)
            self.pending.counters = before

        put(worker.Worker, "_recover", forget)


class FreesEarly(Build):
    """`frees-early:///…` gives back the bytes of what is answered 202 with the answer."""

    @staticmethod
    def change(put: Put) -> None:
        add = pending.PendingSubmissions.add

        def add_and_forget(self: Any, submission: Submission, reservation: Any) -> Any:
            answer = add(self, submission, reservation)
            reservation.is_kept = not submission.respond_async
            return answer

        put(pending.PendingSubmissions, "add", add_and_forget)


class StopsShort(Build):
    """`stops-short:///…` ends with the batch under way when it is stopped."""

    @staticmethod
    def change(put: Put) -> None:
        take = worker.Worker._next

        async def take_none(self: worker.Worker) -> list[BatchItem]:
            return [] if self._stopping.is_set() else await take(self)

        put(worker.Worker, "_next", take_none)


class WakesNobody(Build):
    """`wakes-nobody:///…` tells those who follow of nothing that was stored after a failure."""

    @staticmethod
    def change(put: Put) -> None:
        reopen = SqliteStore.reopen

        async def lose(self: SqliteStore) -> None:
            await reopen(self)
            self._newest = NewestSeq()

        put(SqliteStore, "reopen", lose)
