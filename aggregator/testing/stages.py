"""What every stage promises."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import pytest

from aggregator.config import Settings
from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.event import Event
from aggregator.pipeline.runner import NamedStage, StageRunner
from aggregator.plugins import Plugins
from aggregator.stage import BatchStage, Stage
from aggregator.store import Store, StoreTransaction
from aggregator.testing.making import Rollback, make_event
from aggregator.transaction import UnitOfWork

_TIMEOUT = 5.0


class StageContract:
    """What every stage promises. The fixture `stage` is to be overridden; the others may be."""

    @pytest.fixture
    def stage(self) -> Stage:
        """Override: a stage."""
        raise NotImplementedError("override the fixture `stage`: it returns a stage of yours")

    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        """An open store, in memory, for a stage right of the bar."""
        store = Plugins.installed().store(Settings(store="memory:"))
        await store.open(DEFAULT_KEY_SPEC)
        yield store
        await store.close()

    @pytest.fixture
    def events(self) -> list[Event]:
        """Events of two topics, as they come out of `dedup`: no key stands twice.

        Override it where a stage asks more of events than that they are good.
        """
        return [
            make_event("1", index=0),
            make_event("2", "orders", index=1),
            make_event("1", "orders", index=2),
            make_event("3", index=3, payload=b'{"user":"bob"}'),
        ]

    async def test_every_event_goes_on_or_has_one_outcome(
        self, stage: Stage, store: Store, events: list[Event]
    ) -> None:
        async with store.transaction() as lender:
            passed = await _run(stage, events, lender)
        settled = [event for event in events if event.outcome]
        assert len(passed) + len(settled) == len(events)

    async def test_rolled_back_batch_leaves_no_trace(
        self, stage: Stage, store: Store, events: list[Event]
    ) -> None:
        verdicts = []
        for _ in range(2):
            for event in events:
                event.reopen()
            with suppress(Rollback):
                async with store.transaction() as lender:
                    await _run(stage, events, lender)
                    raise Rollback
            verdicts.append([event.verdict for event in events])
        assert verdicts[0] == verdicts[1]

    async def test_stage_can_be_closed(self, stage: Stage) -> None:
        await stage.close()


async def _run(stage: Stage, events: Sequence[Event], tx: StoreTransaction) -> list[Event]:
    """Through the pipeline's own eyes, which raise StageFault at a breach of the contract."""
    runner = StageRunner([NamedStage("stage", stage)], _TIMEOUT, pytest.fail)
    return await runner.run(events, UnitOfWork(tx) if isinstance(stage, BatchStage) else None)
