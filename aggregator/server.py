"""Runs the application until a signal, or until it can do nothing any more."""

import asyncio
import gc
import logging
import os
import resource
import signal
import threading

from aiohttp import web

from aggregator import __version__
from aggregator.api.protocol import AppRunner
from aggregator.api.request import body
from aggregator.app import INTAKE, SENDERS, STORE, WORKER
from aggregator.config import Settings
from aggregator.errors import SettingError
from aggregator.pipeline.intake import Intake
from aggregator.pipeline.pending import PendingSubmissions
from aggregator.pipeline.runner import PipelineSpec
from aggregator.watchdog import Watchdog

log = logging.getLogger(__name__)

DRAIN = 10.0
"""Seconds for requests under way, once a signal has come."""
LAST_CALL = 14.0
"""Seconds from the signal until the process ends in any case."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_EXIT_FAILED = 1
_LAST_MOMENT = 0.05  # seconds
_LAST_READ = 2.0  # seconds for clients to read their answers
_PATIENCE = 10.0  # seconds for which the event loop may be blocked
_OPEN_FILES = 65_536  # that there may be at most; each connection is one
_COLLECTED = (20_000, 20, 50)  # new objects before the young ones are looked at, and so on


async def serve(app: web.Application, settings: Settings) -> int:
    """Serve; return the exit status. Raises SettingError or StoreError if it cannot start."""
    raise_open_files_limit()
    stopping = asyncio.Event()
    _handle_signals(stopping, app[INTAKE])
    runner = AppRunner(
        app, access_log=None, shutdown_timeout=DRAIN, handle_signals=False, **body.RUNNER
    )
    watchdog = Watchdog(max(_PATIENCE, 2 * settings.stage_timeout))
    try:
        await runner.setup()
        _collect_seldom()
        await _listen(runner, settings)
        _announce(runner, settings, app)
        watchdog.start()
        await _until_stopped(stopping, app[WORKER])
        app[INTAKE].is_open = False
        for sender in app[SENDERS]:
            sender.hurry(_LAST_READ)
        await _close_doors(runner)
    finally:
        await runner.cleanup()
        watchdog.stop()
    if app[WORKER].cancelled() or app[WORKER].exception():
        log.critical("the worker has died, so nothing can be stored; ending the process")
        return _EXIT_FAILED
    log.info("stopped: everybody who waited has an answer")
    return 0


def _collect_seldom() -> None:
    """Look for objects that refer to each other less often, and at what is there now never again.

    Events do not, and are freed at once; to look at each of them took a tenth of the processor time
    (measured with 100 events a request).
    """
    gc.freeze()
    gc.set_threshold(*_COLLECTED)


def _handle_signals(stopping: asyncio.Event, intake: Intake) -> None:
    """The first signal stops in good order; a second, or too long a time, ends at once."""

    def stop(number: int) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        intake.is_open = False
        log.info("%s: taking nothing more, settling what was accepted", signal.Signals(number).name)
        stopping.set()
        deadline = threading.Timer(LAST_CALL, _give_up, (intake.pending,))
        deadline.daemon = True
        deadline.start()

    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop, number)


def _give_up(pending: PendingSubmissions) -> None:
    for submission, events in pending.answered_early.items():
        log.critical("submission %s was answered 202 and is lost: %d events", submission, events)
    log.critical("not settled within %g s; ending. What was not answered may be lost", LAST_CALL)
    os._exit(_EXIT_FAILED)


async def _listen(runner: web.AppRunner, settings: Settings) -> None:
    host, port = settings.host, settings.port
    try:
        await web.TCPSite(runner, host, port).start()
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else error
        raise SettingError(f"cannot listen on {host}, port {port}: {reason}") from error


async def _until_stopped(stopping: asyncio.Event, worker: "asyncio.Task[None]") -> None:
    signalled = asyncio.create_task(stopping.wait())
    await asyncio.wait({signalled, worker}, return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()


async def _close_doors(runner: web.AppRunner) -> None:
    """Stop listening, and let aiohttp see the connections that were accepted at the last moment.

    One that it does not know when it begins to close is waited for during the whole drain.
    """
    for site in list(runner.sites):
        await site.stop()
    await asyncio.sleep(_LAST_MOMENT)


def url_of(host: str, port: int) -> str:
    """The URL of a service there; an IPv6 address stands in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(runner: web.AppRunner, settings: Settings, app: web.Application) -> None:
    host, port = runner.addresses[0][:2]
    url = url_of(host, port)
    event = (
        '{"topic": "logins", "event_id": "1", "timestamp": "2026-01-31T12:00:00Z",'
        ' "source": "shell", "payload": {"user": "ada"}}'
    )
    print(  # noqa: T201, this is for whoever started it
        f"aggregator {__version__} listens on {url}\n"
        f"  store     {app[STORE].about()}\n"
        f"  pipeline  {PipelineSpec.parse(settings.pipeline)}\n"
        f"  try       curl {url}/publish -H 'Content-Type: application/json' -d '{event}'\n"
        f"  stop      Ctrl-C",
        flush=True,
    )


def raise_open_files_limit() -> int:
    """Raise the limit on open files as far as it goes; how many there may be now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft == resource.RLIM_INFINITY:
        return _OPEN_FILES
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)
