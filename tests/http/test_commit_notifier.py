"""Commits wake those who wait for news, and many of them wake them once."""

import asyncio

import pytest

from aggregator.api.stream import CommitNotifier


async def test_first_commit_wakes_at_once_and_those_soon_after_it_together() -> None:
    commits = CommitNotifier(pace=0.05)
    for _ in range(100):
        commits.announce()
    assert commits.number == 1
    await commits.wait(1, 5)
    assert commits.number == 2
    await commits.wait(2, 0.2)
    assert commits.number == 2


async def test_everybody_who_waits_is_woken() -> None:
    commits = CommitNotifier()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(commits.wait(0, 60))
        await asyncio.sleep(0)
        commits.announce()


async def test_news_that_came_before_are_not_waited_for() -> None:
    commits = CommitNotifier()
    commits.announce()
    async with asyncio.timeout(5):
        await commits.wait(0, 60)


@pytest.mark.parametrize("seconds", [0, 0.01])
async def test_waiting_ends_without_news(seconds: float) -> None:
    commits = CommitNotifier()
    await commits.wait(0, seconds)
    assert commits.number == 0


async def test_waking_can_be_put_off_and_sooner_again() -> None:
    commits = CommitNotifier(pace=0)
    commits.put_off(60)
    commits.announce()
    await commits.wait(0, 0.01)
    assert commits.number == 0
    commits.put_off(0.01)
    async with asyncio.timeout(5):
        await commits.wait(0, 60)
    assert commits.number == 1
