"""What every stage promises."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from aggregator.event import Event
from aggregator.pipeline.runner import NamedStage, StageRunner
from aggregator.stage import BatchStage, Stage
from aggregator.store import Store, StoreTransaction
from aggregator.testing.making import Rollback, make_event
from aggregator.transaction import UnitOfWork

_TIMEOUT = 5.0


class StageContract:
    """What every stage promises. The events are good ones unless `events` is overridden too."""

    @pytest.fixture
    def stage(self) -> Stage:
        """Override: a stage."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self) -> Any:
        """Override: an open store, for a stage right of the bar."""
        raise NotImplementedError

    @pytest.fixture
    def events(self) -> list[Event]:
        """Events of two topics, as they come out of `dedup`: no key stands twice."""
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
