"""What every queue promises."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from aggregator.errors import QueueFull
from aggregator.event import Event, Submission
from aggregator.outcome import Fault, Invalid
from aggregator.queue import Queue
from aggregator.testing.making import make_submission

_SOON = 0.05  # seconds in which something that must wait is given the chance not to
_TIMEOUT = 5.0


class QueueContract:
    """What every queue promises."""

    @pytest.fixture
    def new_queue(self) -> Callable[[int], Queue]:
        """Override: makes an empty queue that holds so many events."""
        raise NotImplementedError

    @pytest.fixture
    async def queue(self, new_queue: Callable[[int], Queue]) -> Queue:
        """An open queue for 10 events."""
        queue = new_queue(10)
        await queue.open()
        return queue

    async def test_first_in_is_first_out(self, queue: Queue) -> None:
        for name in ("a", "b", "c"):
            await queue.put(make_submission(name, 1))
        batch = await queue.take(100)
        assert [submission.id for submission in batch] == ["a", "b", "c"]
        assert [event.event_id for event in batch[0].events] == ["a-0"]

    async def test_take_waits_for_the_first(self, queue: Queue) -> None:
        taking = asyncio.create_task(queue.take(100))
        done, _ = await asyncio.wait({taking}, timeout=_SOON)
        assert not done
        await queue.put(make_submission("a", 1))
        assert [submission.id for submission in await taking] == ["a"]

    async def test_take_stops_once_it_has_enough_events(self, queue: Queue) -> None:
        for name in ("a", "b", "c"):
            await queue.put(make_submission(name, 2))
        assert [submission.id for submission in await queue.take(3)] == ["a", "b"]
        assert [submission.id for submission in await queue.take(3)] == ["c"]

    async def test_submission_larger_than_a_batch_is_taken_alone(self, queue: Queue) -> None:
        await queue.put(make_submission("large", 5))
        await queue.put(make_submission("small", 1))
        assert [submission.id for submission in await queue.take(3)] == ["large"]

    async def test_full_queue_takes_nothing_until_a_batch_is_done(self, queue: Queue) -> None:
        await queue.put(make_submission("a", 10))
        batch = await queue.take(100)
        with pytest.raises(QueueFull):
            await queue.put(make_submission("b", 1))
        await queue.done(batch)
        await queue.put(make_submission("b", 1))
        assert [submission.id for submission in await queue.take(100)] == ["b"]

    async def test_submissions_without_events_fill_it_too(self, queue: Queue) -> None:
        for number in range(10):
            await queue.put(make_submission(str(number), 0))
        with pytest.raises(QueueFull):
            await queue.put(make_submission("one too many", 0))

    async def test_failed_batch_leaves_room(self, queue: Queue) -> None:
        await queue.put(make_submission("a", 10))
        await queue.failed(await queue.take(100))
        await queue.put(make_submission("b", 10))

    @pytest.mark.parametrize(
        "members",
        [
            {},
            {"is_strict": True},
            {"respond_async": True},
            {"headers": {"x-id": "é", "x-other": ""}},
            {"released": [3, 4, 5, 6]},
            {"dropped": [2**62]},
        ],
    )
    async def test_submission_comes_out_as_it_was_put_in(
        self, queue: Queue, members: dict[str, Any]
    ) -> None:
        submission = make_submission("a", 3)
        submission.events[0].settle(Invalid((Fault("/topic", "bad"),)))
        submission.events.append(Event(3, "a", 7, malformed="no object", raw=b"5"))
        submission = replace(submission, **members)
        written = msgspec.msgpack.encode(submission)
        await queue.put(submission)
        (found,) = await queue.take(100)
        assert found == msgspec.msgpack.decode(written, type=Submission)

    async def test_closed_queue_gives_what_is_left_and_then_nothing(self, queue: Queue) -> None:
        await queue.put(make_submission("a", 1))
        await queue.close()
        await queue.close()
        with pytest.raises(QueueFull):
            await queue.put(make_submission("b", 1))
        assert [submission.id for submission in await queue.take(100)] == ["a"]
        assert await queue.take(100) == []
        assert await queue.take(100) == []

    async def test_closing_ends_a_take_that_waits(self, queue: Queue) -> None:
        taking = asyncio.create_task(queue.take(100))
        await asyncio.sleep(0)
        await queue.close()
        assert await asyncio.wait_for(taking, _TIMEOUT) == []
