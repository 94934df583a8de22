"""One run: the service lives many short lives, and afterwards every word of it is checked."""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path

import aiohttp

from aggregator.client import ClientError
from aggregator.errors import SettingError
from aggregator.prove.child import ChildOptions
from aggregator.prove.failpoints import Kill, Point, kills
from aggregator.prove.journal import JournaledClient, Promise
from aggregator.prove.process import Ended, Process
from aggregator.prove.reconcile import Audit, CounterCheck
from aggregator.prove.report import OVER, Options, Proof
from aggregator.prove.workload import Publishers, again
from aggregator.server import raise_open_files_limit

_NEEDED = 1_048_576  # bytes


def _check_disk(folder: Path) -> None:
    """Raise SettingError if nothing can be written there any more."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_NEEDED))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SettingError(
            f"nothing is proved, the disk is full or fails: {error.strerror}, in {folder.parent}"
        ) from error


_PATIENCE = 30.0  # seconds for a point to be reached
_LAST_ANSWERS = 20.0  # seconds in which all that is under way should be answered at the end
_LOST_ANYWAY = 3.0  # seconds for the same, when it is known that a promise is broken
_LAST_REQUESTS = 200  # in the last life, of which every number is known exactly
_A_WHILE = 1.0  # seconds
_LOOK = 0.005  # seconds between looks
_SHOW = 0.2  # seconds
_A_MOMENT = 0.1  # seconds at most from where a store begins to open, or to close, to the kill
_FILES = 64  # that prover and service may have open at most, beside their connections
_STOPPING = 1.0  # seconds at most from SIGTERM to the kill; the store is mostly closed before
_LATE = 0.02  # seconds at most between an answer and a kill at a random moment


async def prove(options: Options, show: Callable[[Proof], None]) -> Proof:
    """Put the service to the proof.

    Raises SettingError if it cannot be started at all, or the machine has not what it needs.
    """
    _check_files(options.connections)
    proof = Proof(options)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await _Prover(proof, JournaledClient(http, proof.journal), show).run()
    return proof


def _check_files(connections: int) -> None:
    needed = connections + _FILES
    if (limit := raise_open_files_limit()) < needed:
        raise SettingError(
            f"{connections} connections need {needed} open files, and the limit is {limit}: "
            "take fewer (--connections), or raise it (ulimit -n)"
        )


class _Prover:
    def __init__(
        self, proof: Proof, client: JournaledClient, show: Callable[[Proof], None]
    ) -> None:
        self._proof = proof
        self._options = proof.options
        self._journal = proof.journal
        self._client = client
        self._show = show
        self._counted = CounterCheck(proof.journal)
        self._process: Process | None = None
        self._publishers = Publishers(
            client.send, str(proof.options.seed), proof.options.connections
        )

    async def run(self) -> None:
        began = time.monotonic()
        showing = asyncio.create_task(self._keep_showing(began))
        self._publishers.start()
        try:
            await self._kill_again_and_again(began + self._options.seconds)
            await self._reckon()
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
            showing.cancel()
            await self._publishers.stop()
            if self._process:
                await self._process.kill()

    def _note(self, promise: Promise, how: str, example: object) -> None:
        """Unless there is no room, where nothing else can be expected. Raises SettingError."""
        self._look_for_room()
        self._journal.breaches.note(promise, how, example)

    def _look_for_room(self) -> None:
        if self._journal.is_consistent:
            _check_disk(self._options.folder)

    async def _kill_again_and_again(self, deadline: float) -> None:
        self._proof.phase = "killing"
        first = Kill(Point.ANY, 1, 0.5)
        for number, kill in enumerate(chain([first], kills(self._options.seed))):
            is_over = number == self._options.kills or time.monotonic() > deadline
            if is_over or not self._journal.is_consistent:
                break
            await self._live(kill, is_new=number == 0)

    async def _live(self, kill: Kill, *, is_new: bool) -> None:
        """One life of the service, from its start to its death."""
        process = await self._spawn(self._child_options(kill, is_new=is_new))
        if kill.point is not Point.STARTING:
            await self._wake(process)
        if kill.point in (Point.ANY, Point.STOPPING):
            await self._until_answered(kill.times, process)
            await asyncio.sleep(kill.chance * _LATE)
            if kill.point is Point.STOPPING:
                process.signal(signal.SIGTERM)
                self._publishers.pause()
                await process.killed(kill.chance * _STOPPING)
            process.signal(signal.SIGKILL)
        if not (is_reached := await self._is_killed(process)):
            self._look_for_room()
        self._publishers.pause()
        await process.kill()
        self._proof.kills[kill.point if is_reached else Point.ANY] += 1

    async def _is_killed(self, process: Process) -> bool:
        """Wait for its death; for a broken service not long, it may never come to the point."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and self._journal.is_consistent:
            if await process.killed(_A_WHILE):
                return True
        return await process.killed(_A_WHILE)

    async def _spawn(self, options: ChildOptions) -> Process:
        self._process = process = await Process.spawn(options, self._options.folder)
        return process

    async def _wake(self, process: Process) -> None:
        """Wait until it is ready, look what it remembers, and let the publishers go on."""
        await self._until_ready(process)
        with suppress(ClientError):  # it may be killed by the first event that it sees
            self._counted.check(await self._client.settled_stats(), await self._client.topics())
            if self._journal.last_acknowledged:
                await self._client.send(again(list(self._journal.last_acknowledged)))
        self._publishers.resume()

    async def _until_ready(self, process: Process) -> None:
        self._client.url = await process.listens()
        async with asyncio.timeout(_PATIENCE):
            while await self._client.why_not_ready():
                await asyncio.sleep(_LOOK)
        self._proof.starts.append(time.monotonic() - process.began)

    async def _until_answered(self, requests: int, process: Process) -> None:
        end = time.monotonic() + _PATIENCE
        wanted = self._journal.requests + requests
        while self._journal.requests < wanted and process.is_there and time.monotonic() < end:
            await asyncio.sleep(_LOOK)
        if time.monotonic() > end:
            self._look_for_room()

    async def _reckon(self) -> None:
        """One life to its natural end, with everything answered; then look at all that is left."""
        self._proof.phase = "publishing on"
        process = await self._spawn(ChildOptions(self._settings))
        await self._wake(process)
        await self._until_answered(_LAST_REQUESTS, process)
        seconds = _LAST_ANSWERS if self._journal.is_consistent else _LOST_ANYWAY
        if not (is_all_answered := await self._publishers.finish(seconds)):
            how = "some requests were not, though the service was up"
            self._note(Promise.ANSWERED, how, f"after {seconds:g} s")
        await process.stop(_PATIENCE)
        process = await self._spawn(ChildOptions(self._settings))
        await self._until_ready(process)
        self._proof.phase = "reading back and sending again"
        self._counted.check(await self._client.settled_stats(), await self._client.topics())
        audit = Audit(self._client, is_all_answered=is_all_answered)
        await audit.read_back()
        try:
            await audit.send_again()
        finally:
            self._proof.lost, self._proof.doubled = len(audit.lost), len(audit.doubled)
        if self._journal.is_consistent:  # an event that is lost cannot be explained
            await audit.check_history()

    def _child_options(self, kill: Kill, *, is_new: bool) -> ChildOptions:
        if kill.point in (Point.STARTING, Point.STOPPING):
            seconds = kill.chance**3 * _A_MOMENT  # mostly few: a short log is opened in 3 ms
            return ChildOptions(self._settings, kill.point, times=1, seconds=seconds)
        return ChildOptions(self._settings, kill.point, kill.times, is_new=is_new)

    @property
    def _settings(self) -> dict[str, str | int]:
        return {"store": self._options.store, "queue": self._options.queue, "port": 0}

    async def _keep_showing(self, began: float) -> None:
        try:
            while True:
                self._proof.seconds = time.monotonic() - began
                self._show(self._proof)
                await asyncio.sleep(_SHOW)
        finally:
            self._proof.phase = OVER
            self._show(self._proof)
