"""The service that is put to the proof, as a process: started, killed, started again."""

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from aggregator.errors import SettingError
from aggregator.prove.child import EXIT_UNUSABLE, ChildOptions

_LONGEST_START = 60.0  # seconds
_LAST_LINES = 5
_LAST_WORDS = 1.0  # seconds for them to be read, once it has ended
_PIECE = 65_536  # bytes


class Ended(Exception):
    """It ended by itself, or does not come to life; the message says how, and what it said last."""

    def __init__(self, how: str, said: str, *, is_unusable: bool = False) -> None:
        super().__init__(f"{how}: {said}")
        self.said = said
        self.is_unusable = is_unusable
        """Whether it says itself that it cannot be started with these settings."""


class Process:
    """One life of the service."""

    def __init__(self, process: asyncio.subprocess.Process, began: float, log: Path) -> None:
        self._process = process
        self.began = began
        """When it was started, by the monotonic clock."""
        self._said = b""
        assert process.stdout
        assert process.stderr
        self._told = process.stdout
        self._listening = asyncio.create_task(self._listen(process.stderr, log))

    @classmethod
    async def spawn(cls, options: ChildOptions, folder: Path) -> "Process":
        """Start it in the folder, where `service.log` keeps what it says, if there is room for it.

        Raises SettingError if there can be no process.
        """
        began = time.monotonic()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "aggregator.prove.child"),
                msgspec.json.encode(options).decode(),
                cwd=folder,
                env={**os.environ, "PYTHONPATH": _python_path()},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the prover
            )
        except OSError as error:
            raise SettingError(f"the service cannot be started: {error.strerror}") from error
        return cls(process, began, folder / "service.log")

    async def listens(self) -> str:
        """Its URL, once it listens. Raises Ended if it does not."""
        try:
            async with asyncio.timeout(_LONGEST_START):
                return await self._url()
        except TimeoutError:
            raise await self._ended(f"not ready after {_LONGEST_START:g} s") from None

    @property
    def is_there(self) -> bool:
        """Whether it lives."""
        return self._process.returncode is None

    async def killed(self, seconds: float) -> bool:
        """Wait for its death; False if it lives on. Raises Ended if it was not killed."""
        status = await self._status(seconds)
        if status not in (None, -signal.SIGKILL):
            raise await self._ended(f"exit status {status}")
        return status is not None

    async def stop(self, seconds: float) -> None:
        """Ask it to stop. Raises Ended unless it does, with 0."""
        self.signal(signal.SIGTERM)
        status = await self._status(seconds)
        if status != 0:
            raise await self._ended(f"asked to stop, exit status {status}")

    async def kill(self) -> None:
        """End it, dead or alive."""
        self.signal(signal.SIGKILL)
        await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it the signal, if it is there to hear it.

        Not by asyncio, which up to Python 3.12 asks first whether it has ended, and so takes its
        exit status from whoever waits for it (https://github.com/python/cpython/issues/87744).
        """
        if self.is_there:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def _url(self) -> str:
        """Said in one of its first lines; a plugin may print others."""
        async for line in self._told:
            if b" listens on " in line:
                self._reading = asyncio.create_task(_read_on(self._told))
                return line.decode().split()[-1]
        status = await self._process.wait()
        raise await self._ended(f"exit status {status}", is_unusable=status == EXIT_UNUSABLE)

    async def _status(self, seconds: float) -> int | None:
        try:
            return await asyncio.wait_for(self._process.wait(), seconds)
        except TimeoutError:
            return None

    async def _ended(self, how: str, *, is_unusable: bool = False) -> Ended:
        await asyncio.wait({self._listening}, timeout=_LAST_WORDS)
        last = self._said.decode(errors="replace").splitlines()[-_LAST_LINES:]
        return Ended(how, "\n".join(last), is_unusable=is_unusable)

    async def _listen(self, said: asyncio.StreamReader, log: Path) -> None:
        """Keep what it says in memory too: the disk may be full, and that is what it says then."""
        while piece := await said.read(_PIECE):
            self._said = (self._said + piece)[-_PIECE:]
            with suppress(OSError), log.open("ab") as kept:
                kept.write(piece)


def _python_path() -> str:
    """The same as here, from the folder in which it runs."""
    given = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(str(Path(one).absolute()) for one in given.split(os.pathsep) if one)


async def _read_on(said: asyncio.StreamReader) -> None:
    """Whatever else it prints, or it would wait for somebody to read it."""
    while await said.read(_PIECE):
        pass
