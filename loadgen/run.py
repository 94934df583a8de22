"""A run from beginning to end: wait, publish, read back, judge."""

from dataclasses import dataclass, field

import aiohttp

from loadgen.contract import Stats
from loadgen.errors import LoadgenError, NeverReadyError
from loadgen.plan import Plan
from loadgen.progress import Progress
from loadgen.publisher import Publisher
from loadgen.readback import Readback
from loadgen.service import Service
from loadgen.tally import Tally
from loadgen.verdict import Growth, Verdict, judge, wrong_answers


@dataclass(frozen=True)
class Options:
    """Where to publish, and how patiently; times in seconds."""

    url: str
    connections: int
    wait: float
    timeout: float
    give_up: float


UNFINISHED = Verdict(("the run did not finish",))


@dataclass
class Run:
    """What is known of a run so far; the statistics are missing when it broke off early."""

    plan: Plan
    tally: Tally = field(default_factory=Tally)
    before: Stats | None = None
    after: Stats | None = None
    verdict: Verdict = UNFINISHED


async def perform(plan: Plan, options: Options, progress: Progress) -> Run:
    """Raises NeverReadyError; any other trouble is in the verdict."""
    run = Run(plan)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=options.connections),
        timeout=aiohttp.ClientTimeout(total=options.timeout),
    ) as http:
        service = Service(http, options.url, options.give_up)
        try:
            await _perform(run, service, options, progress)
        except NeverReadyError:
            raise
        except LoadgenError as error:
            run.verdict = Verdict((str(error), *wrong_answers(run.tally)))
    return run


async def _perform(run: Run, service: Service, options: Options, progress: Progress) -> None:
    plan, tally = run.plan, run.tally
    if await service.why_not_ready():
        progress.say(f"Waiting for {options.url}")
        await service.wait_ready(options.wait)
    run.before = await service.settled_stats()
    progress.begin("Publishing", plan.events)
    await Publisher(service, tally, options.connections, progress.advance).publish(plan)
    run.after = await service.settled_stats()
    readback = Readback(plan.unique)
    progress.begin("Reading back", len(plan.unique))
    for topic in plan.topics:
        async for page in service.pages(topic):
            progress.advance(readback.add(page.events))
    run.verdict = judge(plan, tally, Growth.between(run.before, run.after), readback)
