"""A run from beginning to end: wait, publish, read back, judge."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Protocol, Self

import aiohttp

from aggregator.client import Client, ClientError, Stats, Unavailable
from loadgen.answers import Answers
from loadgen.publisher import LoadgenError, Publisher, Retries
from loadgen.verdict import Growth, Readback, Verdict, judge, wrong_answers
from loadgen.workload import Plan


class NeverReady(LoadgenError):
    """The service was not ready in time; nothing was sent."""


class Progress(Protocol):
    """Shows how far a run is."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def say(self, line: str) -> None:
        """Print a line."""

    def begin(self, title: str, total: int) -> None:
        """A new phase begins, of so many events."""

    def advance(self, events: int) -> None:
        """So many more events of the phase are done."""


@dataclass(frozen=True)
class Options:
    """Where to publish, and how patiently; times in seconds."""

    url: str
    connections: int
    wait: float
    timeout: float
    give_up: float


SETTLING = 5.0  # seconds for the last events to be counted
UNFINISHED = Verdict(("the run did not finish",))


@dataclass
class Run:
    """What is known of a run so far; the statistics are missing if it ended early."""

    plan: Plan
    answers: Answers = field(default_factory=Answers)
    before: Stats | None = None
    after: Stats | None = None
    verdict: Verdict = UNFINISHED


async def perform(plan: Plan, options: Options, progress: Progress) -> Run:
    """Perform a run. Raises NeverReady; any other trouble is in the verdict."""
    run = Run(plan)
    connector = aiohttp.TCPConnector(limit=options.connections)
    async with aiohttp.ClientSession(connector=connector) as http:
        retries = Retries(options.give_up)
        client = Client(http, options.url, timeout=options.timeout, retry=retries)
        try:
            await _perform(run, client, retries, options, progress)
        except NeverReady:
            raise
        except (LoadgenError, ClientError) as error:
            run.verdict = Verdict((str(error), *wrong_answers(run.answers)))
    return run


async def _perform(
    run: Run, client: Client, retries: Retries, options: Options, progress: Progress
) -> None:
    plan, answers = run.plan, run.answers
    if await _why_not_ready(client):
        progress.say(f"Waiting for {options.url}")
        await _wait_ready(client, options.wait)
    run.before = await client.settled_stats(SETTLING)
    progress.begin("Publishing", plan.events)
    publisher = Publisher(client, retries, answers, options.connections, progress.advance)
    await publisher.publish(plan)
    run.after = await client.settled_stats(SETTLING)
    readback = Readback(plan.unique)
    progress.begin("Reading back", len(plan.unique))
    for topic in plan.topics:
        async for page in client.event_pages(topic):
            progress.advance(readback.add(page.events))
    run.verdict = judge(plan, answers, Growth.between(run.before, run.after), readback)


async def _wait_ready(client: Client, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while reason := await _why_not_ready(client):
        if time.monotonic() >= deadline:
            raise NeverReady(
                f"{client.url} was not ready within {seconds:g} s ({reason}): "
                "start the service, or say where it is with --url"
            )
        await asyncio.sleep(0.2)


async def _why_not_ready(client: Client) -> str | None:
    try:
        return await client.why_not_ready()
    except Unavailable as error:
        return str(error)
