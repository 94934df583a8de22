"""What stages ask to be done after the commit, and what they may not ask for."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from added import with_stages
from aggregator.core import fault_log
from aggregator.core.fault_log import Seldom
from aggregator.pipeline import effects
from conftest import Start
from events import event
from misbehaving import Effects


async def sends() -> None:
    raise AssertionError


def forgets_to_await() -> Any:
    return sends()


def raises() -> None:
    raise RuntimeError("too late")


async def publish_with(
    start: Start, monkeypatch: pytest.MonkeyPatch, effect: Callable[[], Any], events: int = 1
) -> None:
    """Publish events through a stage with that effect; they are stored, whatever it does."""
    monkeypatch.setattr(Effects, "effect", staticmethod(effect), raising=False)
    client = await start(
        with_stages(odd="misbehaving:Effects"), pipeline="validate | dedup odd persist"
    )
    batch = [event(str(number)) for number in range(events)]
    async with client.post("/publish", json=batch) as response:
        assert (response.status, (await response.json())["stored"]) == (200, events)


def raises_cancelled() -> None:
    raise asyncio.CancelledError


def starts_a_task() -> "asyncio.Task[None]":
    return asyncio.create_task(asyncio.sleep(0))


async def test_effect_that_raises_as_a_cancelled_task_does_ends_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await publish_with(start, monkeypatch, raises_cancelled)
    assert "an effect of the stage odd failed" in caplog.text
    assert "the worker died" not in caplog.text


async def test_effect_that_hands_on_to_a_task_is_no_fault(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await publish_with(start, monkeypatch, starts_a_task)
    assert "an effect of the stage odd failed" not in caplog.text


async def test_effect_that_raises_is_logged_with_its_stage_and_traceback(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await publish_with(start, monkeypatch, raises, events=20)
    (record,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert "an effect of the stage odd failed; the events are stored" in record.getMessage()
    assert 'raise RuntimeError("too late")' in record.getMessage()


async def test_effect_that_returns_what_nobody_awaits_is_told(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await publish_with(start, monkeypatch, forgets_to_await)
    assert "an effect of the stage odd failed" in caplog.text
    assert "it returned a coroutine, which nobody awaits" in caplog.text


@pytest.mark.parametrize(("each", "is_told"), [(0.021, True), (0.019, False)])
async def test_effects_are_told_that_keep_everybody_waiting_for_longer_than_they_may(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    each: float,
    is_told: bool,
) -> None:
    clock = [100.0]
    monkeypatch.setattr(effects, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def takes_time() -> None:
        clock[0] += each

    await publish_with(start, monkeypatch, takes_time, events=5)
    told = "for effects of the stage odd, which may take 0.1 s in all"
    assert [record.levelname for record in caplog.records if told in record.getMessage()] == (
        ["WARNING"] if is_told else []
    )


def test_what_was_not_told_is_counted_and_told_a_minute_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr(fault_log.time, "monotonic", lambda: clock[0])
    seldom = Seldom()
    assert [seldom.told("one") for _ in range(1001)] == ["", *[None] * 1000]
    assert seldom.told("another") == ""
    clock[0] += 60
    assert seldom.told("one") == " (and 1,000 times since it was told last)"
    clock[0] += 60
    assert seldom.told("one") == ""
