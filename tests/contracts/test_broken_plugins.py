"""The contract suites, over stores and queues that break their contract: each is found out."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from aggregator.config import load
from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.errors import StoreError
from aggregator.event import Submission
from aggregator.plugins import Plugins
from aggregator.store import Counters, Store, StoreTransaction
from aggregator.testing import QueueContract, StoreContract
from aggregator_memory.quarantine import Quarantine
from aggregator_memory.queue import MemoryQueue
from aggregator_memory.store import Committed, MemoryStore, MemoryTransaction, Uncommitted


class LeakingTransaction(MemoryTransaction):
    """A part of what was done in a savepoint survives when that is undone."""

    leak: str

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        before = self._uncommitted.copy()
        try:
            yield
        except BaseException:
            self._uncommitted = self.leaking_into(before)
            raise

    def leaking_into(self, undone: Uncommitted) -> Uncommitted:
        setattr(undone, self.leak, getattr(self._uncommitted, self.leak))
        return undone


class LeakingStore(MemoryStore):
    """Its transactions leak, and so does a rollback of the whole."""

    def __init__(self, leak: str) -> None:
        super().__init__("memory:")
        self._leak = leak

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        tx = LeakingTransaction(self._committed)
        tx.leak = self._leak
        try:
            yield tx
        except BaseException:
            nothing = Uncommitted(self._committed.counters, self._committed.quarantine)
            self._committed.add(tx.leaking_into(nothing))
            raise
        tx.commit()


class ForgetfulStore(MemoryStore):
    """Lasts, but for one thing, which it forgets whenever it is opened."""

    def __init__(self, forget: Callable[[Committed], None]) -> None:
        super().__init__("memory:")
        self._forget = forget

    async def open(self, key_spec: str, replaces: str | None = None) -> None:
        await super().open(key_spec, replaces)
        self._forget(self._committed)


def forget_evicted(committed: Committed) -> None:
    committed.quarantine = replace(committed.quarantine, evicted=0)


def forget_last_id(committed: Committed) -> None:
    committed.quarantine = replace(
        committed.quarantine, last_id=max(committed.quarantine.entries, default=0)
    )


def forget_quarantine(committed: Committed) -> None:
    committed.quarantine = Quarantine(
        last_id=committed.quarantine.last_id, evicted=committed.quarantine.evicted
    )


def forget_history(committed: Committed) -> None:
    committed.histories = {}


def forget_counters(committed: Committed) -> None:
    committed.counters = Counters()


def forget_topics(committed: Committed) -> None:
    committed.topics = {}


def forget_keys(committed: Committed) -> None:
    committed.seqs = {}


def forget_nothing(_: Committed) -> None:
    """As a store should."""


@pytest.mark.parametrize("leak", ["events", "redeliveries", "quarantine", "counters", "topics"])
@pytest.mark.parametrize(
    "test",
    [
        StoreContract.test_nothing_that_is_rolled_back_leaves_a_trace,
        StoreContract.test_nothing_that_is_undone_to_a_savepoint_leaves_a_trace,
    ],
)
async def test_store_that_does_not_undo_everything_is_found_out(
    leak: str, test: Callable[[StoreContract, Store], Awaitable[None]]
) -> None:
    store = LeakingStore(leak)
    await store.open(DEFAULT_KEY_SPEC)
    with pytest.raises((AssertionError, StoreError)):  # over some leaks the store itself stumbles
        await test(StoreContract(), store)


@pytest.mark.parametrize(
    "forget",
    [
        forget_evicted,
        forget_last_id,
        forget_quarantine,
        forget_history,
        forget_counters,
        forget_topics,
        forget_keys,
    ],
)
async def test_store_that_forgets_is_found_out(forget: Callable[[Committed], None]) -> None:
    with pytest.raises(AssertionError):
        await _reopen(ForgetfulStore(forget))


async def test_store_that_forgets_nothing_passes() -> None:
    await _reopen(ForgetfulStore(forget_nothing))


async def _reopen(store: Store) -> None:
    await store.open(DEFAULT_KEY_SPEC)
    await StoreContract().test_what_is_committed_outlives_the_store_object(store, lambda: store)


@pytest.fixture
def mutants(monkeypatch: pytest.MonkeyPatch) -> Plugins:
    """What is installed, and the plugins that break a promise on purpose."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "mutants"))
    return Plugins.installed()


@pytest.mark.parametrize(
    ("mutant", "test"),
    [
        ("sinks-neighbours:", StoreContract.test_savepoint_is_undone_alone),
        ("two-at-once:", StoreContract.test_second_transaction_waits_and_gets_later_seqs),
    ],
)
async def test_store_whose_transactions_touch_each_other_is_found_out(
    mutant: str, test: Callable[[StoreContract, Store], Awaitable[None]], mutants: Plugins
) -> None:
    store = mutants.store(load({"store": mutant}, {}).settings)
    await store.open(DEFAULT_KEY_SPEC)
    with pytest.raises(AssertionError):
        await test(StoreContract(), store)


async def test_queue_without_a_bound_is_found_out(mutants: Plugins) -> None:
    test = QueueContract().test_full_queue_takes_nothing_until_a_batch_is_done
    bound = {"queue_events": 10, "max_events": 8}
    await test(mutants.queue(load({"queue": "memory:", **bound}, {}).settings))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        await test(mutants.queue(load({"queue": "takes-all:", **bound}, {}).settings))


class ForgetfulQueue(MemoryQueue):
    """Gives submissions without one of their members."""

    forgotten: str

    async def put(self, submission: Submission) -> None:
        usual = {self.forgotten: getattr(Submission("", []), self.forgotten)}
        await super().put(structs.replace(submission, **usual))


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("is_strict", True),
        ("respond_async", True),
        ("headers", {"x-id": "1"}),
        ("released", [1, 2, 3, 4]),
        ("dropped", [1]),
    ],
)
async def test_queue_that_forgets_a_member_is_found_out(member: str, value: object) -> None:
    queue = ForgetfulQueue("memory:", 10)
    queue.forgotten = member
    with pytest.raises(AssertionError):
        await QueueContract().test_submission_comes_out_as_it_was_put_in(queue, {member: value})
