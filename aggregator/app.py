"""The composition root: the one file that knows every part."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from aggregator.api.authentication import Authenticator
from aggregator.api.client_address import Clients
from aggregator.api.description import ROUTES, OpenApiHandler, description_of
from aggregator.api.events import EventHandlers
from aggregator.api.export import Exporter
from aggregator.api.middleware import Cors, Origins, as_problems
from aggregator.api.protocol import DOORKEEPER, METRICS, Doorkeeper
from aggregator.api.publish import PublishHandler
from aggregator.api.quarantine import QuarantineHandlers
from aggregator.api.rates import RateLimits
from aggregator.api.request.decoder import Decoder
from aggregator.api.request.receiver import Receiver
from aggregator.api.routes import add_routes, table
from aggregator.api.sending import ReadLimiter, Sender
from aggregator.api.status import StatusHandlers, gauges
from aggregator.api.stream import CommitNotifier, SharedPoll, StreamHandler
from aggregator.config import Configuration, Settings, listed
from aggregator.core.budget import Budget
from aggregator.core.fault_log import Seldom, traceback_of
from aggregator.core.metrics import LAG_LOOKED_AT, Metrics
from aggregator.errors import StoreError
from aggregator.logs import CountingHandler
from aggregator.pipeline.bookkeeping import BatchRecorder
from aggregator.pipeline.intake import Intake
from aggregator.pipeline.maintenance import Maintenance, QuarantineLimits
from aggregator.pipeline.pending import PendingSubmissions, Statistics
from aggregator.pipeline.processor import BatchProcessor
from aggregator.pipeline.runner import PipelineSpec, StageRunner
from aggregator.pipeline.worker import Worker
from aggregator.plugins import Plugin, Plugins, check_abilities
from aggregator.queue import Queue
from aggregator.route import Route, RouteContext
from aggregator.store import IndexesFields, KeepsQuarantine, OpensReadOnly, Store
from aggregator.tls import Certificate
from aggregator.token_file import TokenFile
from aggregator.watchdog import end_stuck

log = logging.getLogger(__name__)

_seldom = Seldom()

INTAKE = web.AppKey("INTAKE", Intake)
STORE = web.AppKey("STORE", Store)
RECEIVER = web.AppKey("RECEIVER", Receiver)
SENDERS = web.AppKey("SENDERS", list[Sender])
BUDGETS = web.AppKey("BUDGETS", list[Budget])
"""Of all that clients share."""
TOKENS = web.AppKey("TOKENS", TokenFile)
"""Only where tokens are in force."""
CERTIFICATE = web.AppKey("CERTIFICATE", Certificate)
"""Only where TLS is spoken."""
WORKER = web.AppKey("WORKER", asyncio.Task[None])


class _Pipeline(NamedTuple):
    """The way of an event, wired."""

    store: Store
    intake: Intake
    batch_runner: StageRunner


def _wired(
    configuration: Configuration,
    plugins: Plugins,
    stuck: Callable[[str], None],
    metrics: Metrics,
) -> _Pipeline:
    """Raises SettingError."""
    settings = configuration.settings
    left, right = plugins.stages(PipelineSpec.parse(settings.pipeline), configuration.stages)
    store, queue = plugins.store(settings), plugins.queue(settings)
    check_abilities(store, configuration)
    intake_runner = StageRunner(left, settings.stage_timeout, stuck, metrics)
    batch_runner = StageRunner(right, settings.stage_timeout, stuck, metrics)
    pending = PendingSubmissions(_queue_events(settings))
    limits = QuarantineLimits(settings.quarantine_bytes, settings.quarantine_days)
    recorder = BatchRecorder(store, settings.on_invalid == "quarantine", limits)
    sweeps = isinstance(store, KeepsQuarantine) and not settings.read_only
    worker = Worker(
        store,
        queue,
        BatchProcessor(store, batch_runner, recorder, metrics),
        pending,
        maintenance=Maintenance([limits.sweep] if sweeps else []),
        batch_events=settings.batch_events,
        metrics=metrics,
    )
    intake = Intake(intake_runner, queue, pending, worker, is_read_only=settings.read_only)
    return _Pipeline(store, intake, batch_runner)


def create_app(
    configuration: Configuration,
    plugins: Plugins,
    stuck: Callable[[str], None] = end_stuck,
) -> web.Application:
    """The application, wired and not started. Raises SettingError."""
    settings = configuration.settings
    metrics = Metrics()
    pipeline = _wired(configuration, plugins, stuck, metrics)
    store, intake, pending = pipeline.store, pipeline.intake, pipeline.intake.pending
    authenticator = Authenticator(tokens := _tokens(settings))
    clients = Clients(listed(settings.proxies))
    decoder = Decoder(settings.max_events, settings.max_event, configuration.policies)
    verdicts, pages, followed = (_sender(settings, clients) for _ in range(3))
    share = settings.client_share
    requests = Budget(settings.queue_bytes, "bytes of requests are under way (queue_bytes)", share)
    followers = Budget(settings.streams, "readers follow the stream (streams)", share)
    connections = Budget(settings.connections, "connections are open (connections)", share)
    limiter = ReadLimiter(store, pages, _PAGES_AT_ONCE)
    exporter = Exporter(ReadLimiter(store, pages, _EXPORTS_AT_ONCE), pages)
    stream = _stream(store, followed, followers, settings.heartbeat)
    receiver = Receiver(decoder, settings)
    routes = table(
        publish=PublishHandler(
            receiver,
            intake,
            requests,
            verdicts,
            clients,
            RateLimits(settings),
            isinstance(store, KeepsQuarantine),
        ),
        events=EventHandlers(limiter, pages, exporter),
        stream=stream,
        status=StatusHandlers(
            intake, Statistics(store, pending), store, limiter, pages, time.monotonic()
        ),
        quarantine=QuarantineHandlers(receiver, intake, limiter, requests, pages, clients),
        openapi=OpenApiHandler([one.stage for one in intake.runner.stages], settings, pages),
        authenticator=authenticator,
    )

    origins = Origins(listed(settings.cors_origins))
    app = web.Application(
        middlewares=[as_problems, origins.guard],
        client_max_size=settings.max_body,
    )
    app[METRICS] = metrics
    app[INTAKE] = intake
    app[STORE] = store
    app[RECEIVER] = receiver
    app[SENDERS] = [verdicts, pages]
    app[DOORKEEPER] = Doorkeeper(connections, clients)
    answers = [sender.budget for sender in (verdicts, pages, followed)]
    app[BUDGETS] = [requests, pending.events, *answers, followers, connections]
    if listed(settings.cors_origins):
        app.on_response_prepare.append(Cors(origins).add)
    app.on_shutdown.extend([stream.stop, _hurrying(intake.worker)])
    app.cleanup_ctx.extend(
        [
            _opened(store, intake.queue, pending, configuration),
            _closing(intake.runner, pipeline.batch_runner),
            _working(intake.worker),
            _counting(metrics),
        ]
    )
    if settings.tls_cert:
        app[CERTIFICATE] = Certificate(Path(settings.tls_cert), Path(settings.tls_key))
    if tokens:
        app[TOKENS] = tokens
        app.cleanup_ctx.append(_refreshing(tokens))
    app[ROUTES] = []
    add = partial(add_routes, app, store, authenticator)
    add(routes)
    bounded = {
        "queue_events": pending.events,
        "queue_bytes": requests,
        "answer_bytes": pages.budget,
        "streams": followers,
        "connections": connections,
    }
    others = ReadLimiter(store, pages, _OTHERS_AT_ONCE, settings.answer_timeout)
    plugins.add_routes(
        RouteContext(
            settings,
            others.acquire,
            pages.send,
            metrics,
            partial(gauges, intake, store, pending, bounded),
            pages.check_room,
        ),
        partial(_add_others, add, settings),
    )
    return app


def _add_others(
    add: Callable[[Sequence[Route]], None],
    settings: Settings,
    plugin: Plugin,
    routes: Sequence[Route],
) -> None:
    """Add the routes of a package, if they can be described: else `/openapi.json` would fail."""
    routes = list(routes)  # twice gone through, whatever it is
    if not plugin.is_ours:  # ours can: the tests describe them
        description_of(routes, [], settings)
    add(routes)


def _tokens(settings: Settings) -> TokenFile | None:
    return TokenFile(Path(settings.tokens)) if settings.tokens else None


def _queue_events(settings: Settings) -> Budget:
    return Budget(
        settings.queue_events, "events are under way (queue_events)", settings.client_share
    )


def _sender(settings: Settings, clients: Clients) -> Sender:
    """One each for publishers, readers and followers: none waits for what others do not read."""
    budget = Budget(
        settings.answer_bytes,
        "bytes of answers wait to be read (answer_bytes)",
        settings.client_share,
    )
    return Sender(budget, clients, settings.answer_timeout)


def _stream(store: Store, sender: Sender, followers: Budget, heartbeat: float) -> StreamHandler:
    commits = CommitNotifier()
    poll = SharedPoll(ReadLimiter(store, sender, _PAGES_AT_ONCE), commits)
    return StreamHandler(
        store,
        poll,
        sender,
        commits=commits,
        followers=followers,
        heartbeat=heartbeat,
    )


_PAGES_AT_ONCE = 4
_OTHERS_AT_ONCE = 2  # routes of packages: whatever they do, the service's own find room
_EXPORTS_AT_ONCE = 1  # of their own, so that nobody who reads one event waits for all of them
_LOOKED_AT = 1.0  # seconds between two looks at the file of tokens
Context = Callable[[web.Application], AsyncIterator[None]]


def _opened(
    store: Store, queue: Queue, pending: PendingSubmissions, configuration: Configuration
) -> Context:
    async def opened(_: web.Application) -> AsyncIterator[None]:
        if configuration.settings.read_only:
            assert isinstance(store, OpensReadOnly)  # check_abilities has looked
            await store.open_read_only(configuration.policies.key_spec)
        else:
            await store.open(configuration.policies.key_spec)
        try:
            if isinstance(store, IndexesFields) and not configuration.settings.read_only:
                await store.index(configuration.indexed)
                _warn_of_others(await store.indexed(), configuration.indexed)
            pending.counters = await store.counters()
            await queue.open()
            yield
        finally:
            await store.close()

    return opened


def _warn_of_others(indexed: Sequence[str], named: Sequence[str]) -> None:
    """An index takes long to make, so none is dropped because a start did not name it."""
    if others := [pointer for pointer in indexed if pointer not in named]:
        log.warning(
            "the store has an index of %s, which the setting `indexed` does not name: it is kept, "
            "and each new event adds to it. To drop it: aggregator drop-index %s",
            *(", ".join(others), " ".join(others)),
        )


def _refreshing(tokens: TokenFile) -> Context:
    """Reads the file of tokens again soon after it has changed."""

    async def watch() -> None:
        while True:
            await asyncio.sleep(_LOOKED_AT)
            try:
                await asyncio.to_thread(tokens.refresh)  # a file system may hang
            except Exception as error:  # noqa: BLE001, or a revoked token would stay for ever
                if (more := _seldom.told("tokens")) is not None:
                    log.error("cannot look at the tokens%s%s", more, traceback_of(error))

    async def refreshing(_: web.Application) -> AsyncIterator[None]:
        watching = asyncio.create_task(watch(), name="watch the tokens")
        yield
        watching.cancel()
        await asyncio.wait({watching})

    return refreshing


def _counting(metrics: Metrics) -> Context:
    """Counts messages in the log, and looks at how late the event loop is."""

    async def look() -> None:
        clock = asyncio.get_running_loop()
        while True:
            due = clock.time() + LAG_LOOKED_AT
            await asyncio.sleep(LAG_LOOKED_AT)
            metrics.moments.loop_lags.append(max(0.0, clock.time() - due))

    async def counting(_: web.Application) -> AsyncIterator[None]:
        handler = CountingHandler(metrics)
        logging.getLogger().addHandler(handler)
        looking = asyncio.create_task(look(), name="look at the event loop")
        yield
        looking.cancel()
        await asyncio.wait({looking})
        logging.getLogger().removeHandler(handler)

    return counting


def _closing(*runners: StageRunner) -> Context:
    async def closing(_: web.Application) -> AsyncIterator[None]:
        yield
        for runner in reversed(runners):
            await runner.close()

    return closing


def _hurrying(worker: Worker) -> Callable[[web.Application], Awaitable[None]]:
    """Before requests under way are waited for: those whose contents are compared are told soon."""

    async def hurrying(_: web.Application) -> None:
        worker.hurry()

    return hurrying


def _working(worker: Worker) -> Context:
    """Runs the worker, and lets it finish what was accepted. Nothing is taken once it has died."""

    async def working(app: web.Application) -> AsyncIterator[None]:
        app[WORKER] = task = asyncio.create_task(worker.run(), name="worker")
        task.add_done_callback(lambda _: _died(worker, task))
        yield
        await worker.stop()
        await asyncio.wait({task})

    return working


def _died(worker: Worker, task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error or task.cancelled():
        worker.trouble = f"the worker died: {error!r}"
        worker.pending.fail_waiting(StoreError(worker.trouble))
        log.critical("%s", worker.trouble, exc_info=error)
