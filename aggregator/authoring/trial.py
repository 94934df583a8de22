"""Runs submissions through a service of its own, one after another, with the store in memory.

It is the application as `aggregator serve` wires it; only nothing listens.
"""

import dataclasses
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import FrameType

import click
from aiohttp import web

from aggregator.api.request.decoder import Decoder, RequestContext
from aggregator.app import INTAKE, create_app
from aggregator.authoring.submissions import Body
from aggregator.config import Configuration
from aggregator.core import timestamp
from aggregator.core.budget import Budget
from aggregator.errors import AggregatorError, RequestError, SettingError
from aggregator.event import Event, Submission
from aggregator.pipeline.intake import Intake, new_submission_id
from aggregator.pipeline.runner import NamedStage
from aggregator.plugins import Plugins
from aggregator.watchdog import Watchdog


@dataclass(frozen=True)
class Tried:
    """What became of one submission."""

    submission: Submission
    places: list[str]
    """Where each of its events was read."""
    error: AggregatorError | None = None
    """Why it was not settled: mostly, a stage's fault."""
    failed_effects: list[BaseException] = field(default_factory=list)
    """What was raised after the commit."""


class Trial:
    """A service that is running, and takes one submission at a time."""

    def __init__(self, configuration: Configuration, intake: Intake, log: "_PipelineLog") -> None:
        settings = configuration.settings
        self._decoder = Decoder(settings.max_events, settings.max_event, configuration.policies)
        self._budget = Budget(settings.queue_bytes, "bytes of requests are under way (queue_bytes)")
        self._intake = intake
        self._log = log
        self.under_way: Tried | None = None
        """What is being settled just now."""

    @property
    def stages(self) -> list[NamedStage]:
        """All stages, in order."""
        return [*self._intake.runner.stages, *self._intake.worker.processor.runner.stages]

    @property
    def failed_closes(self) -> list[BaseException]:
        """What stages have raised when they were closed, once the service has ended."""
        return self._log.failed_closes

    async def send(self, body: Body) -> Tried:
        """Have the submission settled. Raises SettingError if it cannot be read."""
        context = RequestContext(new_submission_id(), timestamp.now())
        try:
            events = self._decode(body, context)
        except RequestError as error:
            raise SettingError(f"{body.source or 'the events'}: {error}") from error
        places = [body.place(event.index) for event in events]
        tried = Tried(Submission(context.submission, events), places)
        self._log.failed_effects = tried.failed_effects
        self.under_way = tried
        try:
            with self._budget.reserve("") as reservation:
                await self._intake.take(tried.submission, reservation)
        except AggregatorError as error:
            return dataclasses.replace(tried, error=error)
        finally:
            self.under_way = None
        return tried

    def _decode(self, body: Body, context: RequestContext) -> list[Event]:
        if body.is_json:
            return self._decoder.json(body.content, context)
        return self._decoder.ndjson(body.content, context)


Hung = Callable[[Trial, str, FrameType | None], None]
"""Is told which stage does what, and where if that is known. Nothing can go on then."""


@asynccontextmanager
async def running(
    configuration: Configuration, plugins: Plugins, hung: Hung
) -> AsyncIterator[Trial]:
    """A service with these settings, until the block ends. Raises SettingError."""
    trial: Trial

    def stuck(stage: str) -> None:
        hung(trial, f"{stage}: hangs, and cannot be cancelled", None)

    def blocked(stage: str, frame: FrameType | None) -> None:
        hung(trial, f"{stage} blocks the event loop", frame)

    with _PipelineLog.taken() as log:
        app = create_app(configuration, plugins, stuck)
        trial = Trial(configuration, app[INTAKE], log)
        runner = web.AppRunner(app, handle_signals=False)
        watchdog = Watchdog(2 * configuration.settings.stage_timeout, blocked)
        logging.disable(logging.WARNING)  # that this store forgets is no news here
        try:
            await runner.setup()
        finally:
            logging.disable(logging.NOTSET)
        try:
            watchdog.start()
            yield trial
        finally:
            log.is_closing = True
            await runner.cleanup()
            watchdog.stop()


class _PipelineLog(logging.Handler):
    """Takes what the service logs: faults are reported otherwise, and each once."""

    def __init__(self) -> None:
        super().__init__()
        self.failed_effects: list[BaseException] = []
        self.failed_closes: list[BaseException] = []
        self.is_closing = False

    def emit(self, record: logging.LogRecord) -> None:
        """Note what only the log tells; show what it warns of."""
        error = record.exc_info[1] if record.exc_info else None
        if record.name == "aggregator.pipeline.effects":
            if failed := getattr(record, "error", None):
                self.failed_effects.append(failed)
            else:
                click.echo(record.getMessage(), err=True)
        elif error and self.is_closing and record.name == "aggregator.pipeline.runner":
            self.failed_closes.append(error)

    @classmethod
    @contextmanager
    def taken(cls) -> Iterator["_PipelineLog"]:
        """The handler, in place of all others for what the service logs."""
        ours, handler = logging.getLogger("aggregator"), cls()
        ours.propagate = False
        ours.addHandler(handler)
        try:
            yield handler
        finally:
            ours.removeHandler(handler)
            ours.propagate = True
