"""The composition root: the one file that knows every part."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from aiohttp import web

from aggregator.api.request.decoder import Decoder
from aggregator.api.request.receiver import Receiver
from aggregator.config import Configuration, Settings, listed
from aggregator.core.budget import ByteBudget
from aggregator.description.docs_page import DocsPage, installed_ui
from aggregator.description.serving import Serving
from aggregator.errors import AggregatorError, StoreError
from aggregator.event import Submission
from aggregator.pipeline.bookkeeping import BatchRecorder
from aggregator.pipeline.intake import Intake, new_submission_id
from aggregator.pipeline.pending import PendingSubmissions
from aggregator.pipeline.runner import PipelineSpec, StageRunner
from aggregator.pipeline.worker import BatchProcessor, Worker
from aggregator.plugins import Plugins
from aggregator.queue import Queue
from aggregator.store import Store
from aggregator.watchdog import end_stuck
from aggregator.web.cors import Cors
from aggregator.web.explaining import Explaining
from aggregator.web.export import Export
from aggregator.web.following import Following
from aggregator.web.looks import Looks
from aggregator.web.options import with_options
from aggregator.web.origins import Origins
from aggregator.web.problems import as_problems
from aggregator.web.publishing import Publishing
from aggregator.web.quarantine import Quarantine
from aggregator.web.reading import Reading
from aggregator.web.sending import Sender
from aggregator.web.state import State
from aggregator.web.topics import Topics
from aggregator.web.turn import Turn

log = logging.getLogger(__name__)

INTAKE = web.AppKey("INTAKE", Intake)
STORE = web.AppKey("STORE", Store)
SENDERS = web.AppKey("SENDERS", list[Sender])
WORKER = web.AppKey("WORKER", asyncio.Task[None])


def create_app(
    configuration: Configuration,
    plugins: Plugins,
    stuck: Callable[[str], None] = end_stuck,
) -> web.Application:
    """The application, wired and not started. Raises SettingError."""
    settings = configuration.settings
    left, right = plugins.line(PipelineSpec.parse(settings.pipeline), configuration.stages)
    store, queue = plugins.store(settings), plugins.queue(settings)
    intake_line = StageRunner(left, settings.stage_timeout, stuck)
    batch_line = StageRunner(right, settings.stage_timeout, stuck)
    ledger = PendingSubmissions()
    books = BatchRecorder(
        settings.on_invalid == "quarantine", settings.quarantine_bytes, settings.quarantine_days
    )
    settler = BatchProcessor(store, batch_line, books)
    worker = Worker(store, queue, settler, ledger, settings.batch_events)
    decoder = Decoder(settings.max_events, settings.max_event, configuration.policies)
    intake = Intake(intake_line, queue, ledger, worker)
    verdicts, pages = _sender(settings), _sender(settings)
    requests = ByteBudget(settings.queue_bytes, "requests under way (queue_bytes)")
    turn = Turn(store, pages, _PAGES_AT_ONCE)
    export = Export(Turn(store, pages, _EXPORTS_AT_ONCE), pages)
    following = _following(store, ledger, settings)
    receiver = Receiver(decoder, settings)
    faces = (
        Publishing(receiver, intake, requests, verdicts),
        Quarantine(receiver, intake, turn, requests, pages),
        following,
        Reading(turn, pages, export),
        Explaining(turn, pages),
        Topics(turn, pages),
        State(intake, store, pages, time.monotonic()),
        Serving([named.stage for named in left], settings, pages),
        DocsPage(installed_ui(), pages),
    )

    listed_origins = listed(settings.cors_origins)
    origins = Origins(listed_origins)
    app = web.Application(
        middlewares=[as_problems, origins.guard, with_options],
        client_max_size=settings.max_body,
    )
    app[INTAKE] = intake
    app[STORE] = store
    app[SENDERS] = [verdicts, pages]
    if listed_origins:
        app.on_response_prepare.append(Cors(origins).add)
    app.on_shutdown.append(following.stop)
    app.cleanup_ctx.append(_opened(store, queue, ledger, configuration))
    app.cleanup_ctx.append(_closing(intake_line, batch_line))
    app.cleanup_ctx.append(_working(worker))
    app.cleanup_ctx.append(_sweeping(intake, requests))
    for face in faces:
        app.add_routes(face.routes())
    return app


def _sender(settings: Settings) -> Sender:
    """One each for publishers and readers: neither waits for what the others do not read."""
    budget = ByteBudget(settings.answer_bytes, "answers wait to be read (answer_bytes)")
    return Sender(budget, settings.answer_timeout)


def _following(store: Store, ledger: PendingSubmissions, settings: Settings) -> Following:
    """With a sender of its own: those who follow wait for nobody else, nor the others for them."""
    sender = _sender(settings)
    looks = Looks(Turn(store, sender, _PAGES_AT_ONCE), ledger.commits)
    return Following(looks, sender, ledger.commits, settings.streams, settings.heartbeat)


_PAGES_AT_ONCE = 4
_EXPORTS_AT_ONCE = 1  # of their own, so that nobody who reads one event waits for all of them
_FIRST_SWEEP = 60.0  # seconds
_SWEEP = 3600.0
Context = Callable[[web.Application], AsyncIterator[None]]


def _opened(
    store: Store, queue: Queue, ledger: PendingSubmissions, configuration: Configuration
) -> Context:
    async def opened(_: web.Application) -> AsyncIterator[None]:
        await store.open(configuration.policies.key_spec, configuration.indexed)
        try:
            ledger.counters = await store.counters()
            await queue.open()
            yield
        finally:
            await store.close()

    return opened


def _closing(*lines: StageRunner) -> Context:
    async def closing(_: web.Application) -> AsyncIterator[None]:
        yield
        for line in reversed(lines):
            await line.close()

    return closing


def _working(worker: Worker) -> Context:
    """Runs the worker, and lets it finish what was accepted. Nothing is taken once it has died."""

    async def working(app: web.Application) -> AsyncIterator[None]:
        app[WORKER] = task = asyncio.create_task(worker.run(), name="worker")
        task.add_done_callback(lambda _: _died(worker, task))
        yield
        await worker.stop()
        await asyncio.wait({task})

    return working


def _sweeping(intake: Intake, requests: ByteBudget) -> Context:
    """Has quarantine looked through now and then: a submission without events does that."""

    async def sweep() -> None:
        pause = _FIRST_SWEEP
        while True:
            await asyncio.sleep(pause)
            pause = _SWEEP
            with suppress(AggregatorError), requests.reserve() as reservation:
                await intake.take(Submission(new_submission_id(), []), reservation)

    async def sweeping(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(sweep(), name="sweep")
        yield
        task.cancel()
        await asyncio.wait({task})

    return sweeping


def _died(worker: Worker, task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error or task.cancelled():
        worker.trouble = f"the worker died: {error!r}"
        worker.ledger.fail_waiting(StoreError(worker.trouble))
        log.critical("%s", worker.trouble, exc_info=error)
