"""Runs the application until a signal, or until it can do nothing any more."""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from types import FrameType

from aiohttp import web

from aggregator import __version__
from aggregator.api.description import ROUTES
from aggregator.api.hosts import Hosts
from aggregator.api.middleware import as_problems
from aggregator.api.protocol import AppRunner
from aggregator.api.request import body
from aggregator.app import CERTIFICATE, INTAKE, RECEIVER, SENDERS, STORE, TOKENS, WORKER
from aggregator.config import Settings, listed
from aggregator.errors import SettingError
from aggregator.pipeline.pending import PendingSubmissions
from aggregator.pipeline.runner import PipelineSpec
from aggregator.sockets import (
    BACKLOG,
    accept_no_more,
    accepted_last,
    address_of,
    bound,
    is_open_to_others,
    listening_sockets,
)
from aggregator.starting import StartingServer
from aggregator.tls import ProtocolFactory, protocols
from aggregator.watchdog import Watchdog

log = logging.getLogger(__name__)

DRAIN = 10.0
"""Seconds for requests under way, once a signal has come."""
LAST_CALL = 14.0
"""Seconds from the signal until the process ends in any case."""

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_EXIT_FAILED = 1
_END_OF_START = 2.0  # seconds for a start that is asked to stop
_LAST_MOMENT = 0.05  # seconds until connections that were accepted are known
_LAST_REQUESTS = 0.5  # seconds for them to ask for something
_LAST_BODIES = 1.0  # seconds for bodies under way to arrive
_LAST_READ = 2.0  # seconds for clients to read their answers
_PATIENCE = 10.0  # seconds for which the event loop may be blocked
_OPEN_FILES = 65_536  # that there may be at most; each connection is one
_COLLECTED = (20_000, 20, 50)  # new objects before the young ones are looked at, and so on


async def serve(
    app: web.Application, settings: Settings, reload: Callable[[], None] | None = None
) -> int:
    """Serve; return the exit status. Raises SettingError or StoreError if it cannot start.

    `reload` is called at SIGHUP, which never ends the service.
    """
    raise_open_files_limit()
    signals = _Signals(app[INTAKE].pending, reload)
    sockets = listening_sockets(settings)
    check_closed(settings, sockets)
    hosts = hosts_of(settings, sockets)
    certificate = app.get(CERTIFICATE)
    runner = AppRunner(
        app,
        hosts,
        certificate,
        access_log=None,
        shutdown_timeout=DRAIN,
        handle_signals=False,
        **body.RUNNER,
    )
    metrics: web.AppRunner | None = None
    watchdog = Watchdog(max(_PATIENCE, 2 * settings.stage_timeout))
    try:
        async with StartingServer(sockets, lambda: app[STORE].doing, hosts, certificate):
            if not await _started(runner, signals):
                log.info("ended before it was ready; nothing was accepted")
                return 0
        _collect_seldom()
        for one in sockets:
            await Site(runner, one, runner.protocols(one)).start()
        metrics = await metrics_runner(app, settings)
        _announce(sockets, settings, app)
        watchdog.start()
        await _until_stopped(signals.stopping, app[WORKER])
        await _close_doors(runner, sockets)
        await app[RECEIVER].finish(_LAST_BODIES)
        app[INTAKE].is_open = False
        log.info("taking nothing more, settling what was accepted")
        for sender in app[SENDERS]:
            sender.hurry(_LAST_READ)
    finally:
        if metrics:
            await metrics.cleanup()
        await runner.cleanup()
        watchdog.stop()
        for one in sockets:
            one.close()
        # Python takes its handlers away as it ends, and a SIGHUP would kill.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if app[WORKER].cancelled() or app[WORKER].exception():
        log.critical("the worker has died, so nothing can be stored; ending the process")
        return _EXIT_FAILED
    log.info("stopped: everybody who waited has an answer")
    return 0


def check_closed(settings: Settings, sockets: Sequence[socket.socket]) -> None:
    """Raise SettingError where other machines would be let in without anybody having said so."""
    reached = [str(one.getsockname()[0]) for one in sockets if is_open_to_others(one)]
    if settings.tokens or settings.open or not reached:
        return
    for one in sockets:
        one.close()
    raise SettingError(
        f"host: other machines reach {', '.join(reached)}, and no tokens are in force: whoever "
        "reaches it could publish, read and delete. Either make a token,\n"
        "    aggregator token new NAME --scope publish --tokens tokens.json\n"
        "and start with --tokens tokens.json; or, where only those reach it who may do everything, "
        "say so: --open, or AGGREGATOR_OPEN=true"
    )


async def metrics_runner(app: web.Application, settings: Settings) -> web.AppRunner | None:
    """Serve `/metrics` on a port of its own, if there is to be one. Raises SettingError."""
    if not settings.metrics_port:
        return None
    handler = next((one.handler for one in app[ROUTES] if one.template == "/metrics"), None)
    if handler is None:
        raise SettingError("metrics_port: no package that is installed serves /metrics")
    alone = web.Application(middlewares=[as_problems])
    alone.router.add_get("/metrics", handler)
    runner = web.AppRunner(alone, access_log=None)
    await runner.setup()
    assert runner.server
    try:
        for one in bound(settings.host, settings.metrics_port):
            make = protocols(runner.server, one, app.get(CERTIFICATE))
            await Site(runner, one, make).start()
    except SettingError as error:
        await runner.cleanup()
        raise SettingError(f"metrics_port: {error}") from error
    return runner


class Site(web.SockSite):
    """Serves on a socket with protocols of a factory, and is otherwise aiohttp's."""

    def __init__(
        self, runner: web.BaseRunner, listening: socket.socket, make: ProtocolFactory
    ) -> None:
        super().__init__(runner, listening, backlog=BACKLOG)
        self._listening = listening
        self._make = make

    async def start(self) -> None:
        """Accept connections."""
        await web.BaseSite.start(self)
        self._server = await asyncio.get_running_loop().create_server(
            self._make, sock=self._listening, backlog=BACKLOG
        )


def hosts_of(settings: Settings, sockets: Sequence[socket.socket]) -> Hosts | None:
    """What `Host` may be; None if anything.

    Unless names are listed, it is looked at where only this machine reaches the service: a page is
    the one stranger there. On any other address everybody gets in without one, also by the way of
    rebinding, so that to look at some of the connections would protect nothing.
    """
    names = listed(settings.hosts)
    if not names and any(map(is_open_to_others, sockets)):
        return None
    return Hosts([settings.host, *names])


async def _started(runner: web.AppRunner, signals: "_Signals") -> bool:
    """Start the application; False where a signal came first, and all is closed again."""
    starting = asyncio.create_task(runner.setup(), name="start")
    asked = asyncio.create_task(signals.stopping.wait())
    await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if starting.done():
        starting.result()
        signals.is_started = True
        return not signals.is_heard  # one that came before has begun to count down
    starting.cancel()
    await asyncio.wait({starting})
    return False


def _collect_seldom() -> None:
    """Look for objects that refer to each other less often, and at what is there now never again.

    Events do not, and are freed at once; to look at each of them took a tenth of the processor time
    (measured with 100 events a request).
    """
    gc.freeze()
    gc.set_threshold(*_COLLECTED)


class _Signals:
    """The first SIGTERM or SIGINT stops in good order; a second, or too long a time, ends at once.

    A start that is asked to stop has accepted nothing, and whatever it does bears being cut off.

    Heard without the event loop, which may be blocked, and until the process has ended: a loop that
    is closed takes its own handlers away, and a SIGHUP would kill.
    """

    def __init__(self, pending: PendingSubmissions, reload: Callable[[], None] | None) -> None:
        self.stopping = asyncio.Event()
        self.is_started = False
        self.is_heard = False
        self._is_reloading = False
        self._pending = pending
        self._reload = reload or _nothing_to_reload
        self._loop = asyncio.get_running_loop()
        # A handler may not start a thread, since it may interrupt what does; to put is allowed.
        self._heard: SimpleQueue[bool] = SimpleQueue()
        threading.Thread(target=self._end_in_time, name="deadline", daemon=True).start()
        for number in _STOPPING:
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._hang_up)

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self.is_heard:
            os._exit(128 + number)
        self.is_heard = True
        self._heard.put(self.is_started)
        self._in_loop(self._begin_to_stop, signal.Signals(number).name)

    def _hang_up(self, _: int, __: FrameType | None) -> None:
        """Read the settings again, once for all that come meanwhile; not while it stops."""
        if not (self._is_reloading or self.is_heard):
            self._is_reloading = True
            self._in_loop(self._reload_once)

    def _reload_once(self) -> None:
        self._is_reloading = False
        self._reload()

    def _begin_to_stop(self, name: str) -> None:
        log.info("%s: stopping", name)
        self.stopping.set()

    def _in_loop(self, function: Callable[..., None], *args: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: all is done
            self._loop.call_soon_threadsafe(function, *args)

    def _end_in_time(self) -> None:
        """End the process once a stop has taken too long, whatever it hangs in."""
        if self._heard.get():
            time.sleep(LAST_CALL)
            _give_up(self._pending)
        else:
            time.sleep(_END_OF_START)
            os._exit(0)


def _nothing_to_reload() -> None:
    log.info("SIGHUP: there is nothing to be read again")


def _give_up(pending: PendingSubmissions) -> None:
    for submission, events in pending.answered_early.items():
        log.critical("submission %s was answered 202 and is lost: %d events", submission, events)
    log.critical("not settled within %g s; ending. What was not answered may be lost", LAST_CALL)
    os._exit(_EXIT_FAILED)


async def _until_stopped(stopping: asyncio.Event, worker: "asyncio.Task[None]") -> None:
    signalled = asyncio.create_task(stopping.wait())
    await asyncio.wait({signalled, worker}, return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()


async def _close_doors(runner: AppRunner, sockets: Sequence[socket.socket]) -> None:
    """Stop listening, and take what the connections ask for that were made at the last moment.

    One that aiohttp does not know when it begins to close is waited for during the whole drain.
    """
    await accept_no_more(sockets)
    last = list(accepted_last(sockets))
    for site in list(runner.sites):
        await site.stop()
    for one in last:
        make = runner.protocols(one)
        await asyncio.get_running_loop().connect_accepted_socket(make, one)
    await asyncio.sleep(_LAST_MOMENT)
    await runner.wait_for_requests(_LAST_REQUESTS)


def _announce(sockets: Sequence[socket.socket], settings: Settings, app: web.Application) -> None:
    """Say where it listens, and what to do next; for whoever started it."""
    urls = [address_of(one, tls=bool(settings.tls_cert)) for one in sockets]
    path = urls[0].removeprefix("unix:")
    curl = path if path == urls[0] else f"--unix-socket {path} http://a"
    event = (
        '{"topic": "logins", "event_id": "1", "timestamp": "2026-01-31T12:00:00Z",'
        ' "source": "shell", "payload": {"user": "ada"}}'
    )
    bearer = " -H 'Authorization: Bearer agg_…'" if settings.tokens else ""
    publish = f"{curl}/publish{bearer} -H 'Content-Type: application/json' -d '{event}'"
    read = f"{curl}/events{bearer}"
    lines = [
        f"aggregator {__version__} listens on {urls[0]}",
        *(f"  and on    {url}" for url in urls[1:]),
        f"  store     {app[STORE].about()}",
        f"  pipeline  {PipelineSpec.parse(settings.pipeline)}",
        f"  try       curl {read if settings.read_only else publish}",
        f"  stop      Ctrl-C, or kill {os.getpid()}",
    ]
    if settings.tokens:
        lines.insert(-2, f"  tokens    {len(app[TOKENS].tokens.tokens)} in {settings.tokens}")
    if any(map(is_open_to_others, sockets)):
        who = "who has a token" if settings.tokens else "who reaches this machine: no tokens"
        lines.append(f"  open to   everybody {who}{'' if settings.tls_cert else '; without TLS'}")
    with suppress(OSError):  # a full disk where the output goes is no reason not to serve
        print("\n".join(lines), flush=True)  # noqa: T201


def raise_open_files_limit() -> int:
    """Raise the limit on open files as far as it goes; how many there may be now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft == resource.RLIM_INFINITY:
        return _OPEN_FILES
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)
