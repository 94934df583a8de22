"""One run: the service is started and killed many times, and then every answer is checked."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from itertools import chain
from pathlib import Path

import aiohttp

from aggregator.client import ClientError
from aggregator.config import Settings
from aggregator.errors import SettingError
from aggregator.plugins import Plugins
from aggregator.prove.child import ChildOptions
from aggregator.prove.failpoints import Kill, Point, kills
from aggregator.prove.faults import Chances, Life, Trouble, lives
from aggregator.prove.journal import JournaledClient, Promise
from aggregator.prove.process import Ended, Process
from aggregator.prove.quarantine import QuarantineCheck, Releaser
from aggregator.prove.quiet import QuietMoment
from aggregator.prove.readers import Readers
from aggregator.prove.reconcile import Audit, CounterCheck
from aggregator.prove.report import OVER, Options, Proof
from aggregator.prove.workload import ASYNC, FIELD, HEADERS, KEYS, QUARANTINING, Publishers, resend
from aggregator.server import raise_open_files_limit
from aggregator.store import IndexesFields, KeepsQuarantine, Store

_PATIENCE = 30.0  # seconds for a point to be reached
_LAST_ANSWERS = 20.0  # seconds in which all requests under way should be answered at the end
_LAST_ANSWERS_IF_BROKEN = 3.0  # the same, when a promise is known to be broken
_LAST_REQUESTS = 100  # answers in the last life, after which every number is known exactly
_REQUESTS_BEFORE_QUIET = 60  # answers, so that something has failed until then
_AT_ONCE = 1000  # events sent again in one request
_LAST_EVENTS = 10.0  # seconds in which a reader of the stream should have them at the end
_DEATH = 1.0  # seconds to wait for it before looking again whether a promise is broken
_POLL = 0.005  # seconds
_PROGRESS = 0.2  # seconds between two lines
_OPENING = 0.1  # seconds at most from where a store begins to open, or to close, to the kill
_STOPPING = 1.0  # seconds at most from SIGTERM to the kill; the store is mostly closed before
_AFTER_ANSWER = 0.02  # seconds at most between an answer and a kill at a random moment
_FILES = 64  # that prover and service may have open at most, beside their connections
_DISK_SPACE = 1_048_576  # bytes that can still be written unless the disk is full


async def prove(options: Options, show: Callable[[Proof], None]) -> Proof:
    """Run the whole proof; `show` is called with its state while it runs.

    Raises SettingError if the service cannot be started at all, or if the machine has too few
    open files or no disk space.
    """
    _check_files(options.connections)
    proof = Proof(options)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers=HEADERS
    ) as http:
        await _Prover(proof, JournaledClient(http, proof.journal), show).run()
    return proof


def _check_files(connections: int) -> None:
    needed = connections + _FILES
    if (limit := raise_open_files_limit()) < needed:
        raise SettingError(
            f"{connections} connections need {needed} open files, and the limit is {limit}: "
            "take fewer (--connections), or raise it (ulimit -n)"
        )


def _check_disk(folder: Path) -> None:
    """Raise SettingError if the disk is full: what the service does then breaks no promise."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_DISK_SPACE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SettingError(
            f"nothing is proved, the disk is full or fails: {error.strerror}, in {folder.parent}"
        ) from error


def _store(options: Options) -> Store:
    """The store, for what it can do; never opened. Raises SettingError if there is none."""
    with redirect_stdout(sys.stderr):  # a plugin may print, and what is found goes to the other
        return Plugins.installed().store(Settings(store=options.store))


def _write_topics(options: Options, *, has_quarantine: bool) -> Path:
    """Write the settings of topics, which cannot be given as flags; where they are.

    Raises SettingError if that is not possible.
    """
    tables: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for topic, key in KEYS.items():
        tables[topic]["key"] = key
    if has_quarantine:
        tables[QUARANTINING]["on_conflict"] = "quarantine"
        tables[ASYNC]["on_conflict"] = "reject"  # else a 202 would be all that is heard of one
    lines = []
    for topic, table in tables.items():
        lines += [f"[topics.{topic}]", *(f'{name} = "{value}"' for name, value in table.items())]
    path = options.folder / "topics.toml"
    try:
        path.write_text("\n".join(lines))
    except OSError as error:
        raise SettingError(f"cannot write {path}: {error.strerror}") from error
    return path


class _Prover:
    def __init__(
        self, proof: Proof, client: JournaledClient, show: Callable[[Proof], None]
    ) -> None:
        self._proof = proof
        self._options = options = proof.options
        self._journal = proof.journal
        self._client = client
        self._show = show
        self._process: Process | None = None
        store = _store(options)
        has_quarantine = isinstance(store, KeepsQuarantine)
        self._indexed = FIELD if isinstance(store, IndexesFields) else ""
        self._topics = _write_topics(options, has_quarantine=has_quarantine)
        self._lives = lives(options.seed, has_quarantine=has_quarantine)
        failing = (trouble for trouble in Trouble if trouble is not Trouble.NONE)
        self._quiet_lives = lives(f"{options.seed} quiet", failing, has_quarantine=has_quarantine)
        self._counter_check = CounterCheck(proof.journal)
        self._quarantine = QuarantineCheck(client) if has_quarantine else None
        self._quiet = QuietMoment(client, self._counter_check, self._quarantine)
        self._publishers = Publishers(
            client.send, str(options.seed), options.connections, has_async=has_quarantine
        )
        self._readers = Readers(client, options.seed)
        self._releaser = Releaser(client, self._publishers) if has_quarantine else None

    async def run(self) -> None:
        began = time.monotonic()
        beside = [asyncio.create_task(self._keep_showing(began))]
        if self._releaser:
            beside.append(asyncio.create_task(self._releaser.run()))
        self._publishers.start()
        self._readers.start()
        try:
            await self._kill_repeatedly(began + self._options.seconds)
            await self._reconcile()
        except Ended as error:
            if error.is_unusable and not self._proof.starts:
                raise SettingError(error.said) from error
            self._note(Promise.READY, "the service ended by itself", error)
        except ClientError as error:
            self._note(Promise.READY, "the service does not answer", error)
        except TimeoutError:
            how = "the service listens and does not become ready"
            self._note(Promise.READY, how, f"after {_PATIENCE:g} s")
        finally:
            for event_id in () if self._proof.lost is not None else self._journal.stored_again:
                how = "acknowledged events were taken for new ones"
                self._journal.breaches.note(Promise.STORED, how, event_id)
            self._proof.followed, self._proof.exports = (
                self._readers.followed,
                self._readers.exports,
            )
            self._proof.released = self._releaser.released if self._releaser else 0
            for task in beside:
                task.cancel()
            await self._readers.stop()
            await self._publishers.stop()
            if self._process:
                await self._process.kill()

    def _note(self, promise: Promise, how: str, example: object) -> None:
        """Note a breach. Raises SettingError if the disk is full, which explains it."""
        self._check_disk_space()
        self._journal.breaches.note(promise, how, example)

    def _check_disk_space(self) -> None:
        if self._journal.is_consistent:
            _check_disk(self._options.folder)

    async def _kill_repeatedly(self, deadline: float) -> None:
        self._proof.phase = "killing"
        first = Kill(Point.ANY, 1, 0.5)
        for number, kill in enumerate(chain([first], kills(self._options.seed))):
            is_over = number == self._options.kills or time.monotonic() > deadline
            if is_over or not self._journal.is_consistent:
                break
            await self._run_and_kill(kill, is_new=number == 0)

    async def _run_and_kill(self, kill: Kill, *, is_new: bool) -> None:
        """One life of the service, from its start until it is killed."""
        is_quiet = kill.point in (Point.ANY, Point.STOPPING)
        life = next(self._quiet_lives if is_quiet else self._lives)
        process = await self._spawn(life, self._child_options(kill, life, is_new=is_new))
        if kill.point is not Point.STARTING:
            await self._resume(process, life)
        if is_quiet:
            await self._until_answered(_REQUESTS_BEFORE_QUIET, process)
            await self._be_quiet(life)
            await self._until_answered(kill.times, process)
            await asyncio.sleep(kill.chance * _AFTER_ANSWER)
            if kill.point is Point.STOPPING:
                process.signal(signal.SIGTERM)
                self._publishers.pause()
                await process.wait_killed(kill.chance * _STOPPING)
            process.signal(signal.SIGKILL)
        if not (is_reached := await self._wait_killed(process)):
            self._check_disk_space()
        self._publishers.pause()
        await process.kill()
        await self._publishers.rest(_PATIENCE)
        self._journal.accepted.killed()
        self._proof.kills[kill.point if is_reached else Point.ANY] += 1
        self._proof.troubles[life.trouble] += 1

    async def _be_quiet(self, life: Life) -> None:
        """Have everybody pause, check that everything is back, and go on."""
        if await self._publishers.rest(self._patience):
            await self._quiet.check(life)
            self._readers.check_so_far()
            self._proof.quiet_moments += 1
        else:
            self._note_unanswered()
        self._publishers.resume()

    @property
    def _patience(self) -> float:
        """Seconds for the requests under way."""
        return _LAST_ANSWERS if self._journal.is_consistent else _LAST_ANSWERS_IF_BROKEN

    def _note_unanswered(self) -> None:
        how = "some requests were not, though the service was up"
        self._note(Promise.ANSWERED, how, f"after {self._patience:g} s")

    async def _wait_killed(self, process: Process) -> bool:
        """Wait until it is killed. Not long if a promise is broken: it may never get there."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and self._journal.is_consistent:
            if await process.wait_killed(_DEATH):
                return True
        return await process.wait_killed(_DEATH)

    async def _spawn(self, life: Life, options: ChildOptions) -> Process:
        self._journal.life = life
        self._process = process = await Process.spawn(options, self._options.folder)
        return process

    async def _resume(self, process: Process, life: Life) -> None:
        """Wait until it is ready, check what it remembers, and let the publishers go on."""
        await self._until_ready(process)
        with suppress(ClientError):  # its first event may kill it
            await self._check_counters()
            last = list(self._journal.last_acknowledged)
            for request in resend(last, life.room or _AT_ONCE):
                await self._client.send(request)
        self._publishers.resume()

    async def _check_counters(self) -> None:
        self._counter_check.check(await self._client.settled_stats(), await self._client.topics())

    async def _until_ready(self, process: Process) -> None:
        self._client.url = await process.wait_listening()
        async with asyncio.timeout(_PATIENCE):
            while await self._client.why_not_ready():
                await asyncio.sleep(_POLL)
        self._proof.starts.append(time.monotonic() - process.began)

    async def _until_answered(self, requests: int, process: Process) -> None:
        end = time.monotonic() + _PATIENCE
        wanted = self._journal.requests + requests
        while self._journal.requests < wanted and process.is_running and time.monotonic() < end:
            await asyncio.sleep(_POLL)
        if time.monotonic() > end:
            self._check_disk_space()

    async def _reconcile(self) -> None:
        """One life without a kill, with everything answered; then reconcile after a restart."""
        self._proof.phase = "publishing on"
        life = Life(Trouble.NONE)
        process = await self._spawn(life, ChildOptions(self._settings_of(life)))
        await self._resume(process, life)
        await self._until_answered(_LAST_REQUESTS, process)
        await self._be_quiet(life)
        await self._until_answered(_LAST_REQUESTS, process)
        if not (is_all_answered := await self._publishers.finish(self._patience)):
            self._note_unanswered()
        await self._publishers.rest(_PATIENCE)  # nor is anything released any more
        await process.stop(_PATIENCE)
        self._journal.accepted.settled()  # or it would not have stopped
        process = await self._spawn(life, ChildOptions(self._settings_of(life)))
        await self._until_ready(process)
        self._proof.phase = "reading back and sending again"
        await self._check_counters()
        audit = Audit(self._client, is_all_answered=is_all_answered)
        await audit.read_back()
        self._journal.check_told()
        if self._quarantine:
            await self._quarantine.check()
            await audit.check_accepted(self._quarantine)
        if self._journal.is_consistent:  # else they may never come to the end
            await self._readers.check(audit.stored, _LAST_EVENTS)
        try:
            await audit.send_again()
        finally:
            self._proof.lost, self._proof.doubled = len(audit.lost), len(audit.doubled)
        if self._journal.is_consistent:  # a lost event can be neither found nor explained
            await audit.check_found()
            await audit.check_history()

    def _child_options(self, kill: Kill, life: Life, *, is_new: bool) -> ChildOptions:
        seed = f"{self._options.seed} {self._proof.kills.total()}"
        settings, chances = self._settings_of(life), Chances.of(life.trouble, seed)
        if kill.point in (Point.STARTING, Point.STOPPING):
            seconds = kill.chance**3 * _OPENING  # mostly short: a small log is opened in 3 ms
            return ChildOptions(settings, kill.point, 1, seconds, chances=chances)
        return ChildOptions(settings, kill.point, kill.times, is_new=is_new, chances=chances)

    def _settings_of(self, life: Life) -> dict[str, str | int]:
        own: dict[str, str | int] = {"port": 0, "config": str(self._topics)}
        own |= {"store": self._options.store, "queue": self._options.queue}
        own["indexed"] = self._indexed
        own["client_share"] = "1"  # the prover is one client, and asks for the whole queue
        return own | life.settings

    async def _keep_showing(self, began: float) -> None:
        try:
            while True:
                self._proof.seconds = time.monotonic() - began
                self._show(self._proof)
                await asyncio.sleep(_PROGRESS)
        finally:
            self._proof.phase = OVER
            self._show(self._proof)
