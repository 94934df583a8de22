"""The service under test, as a process seen from outside: started, signalled, waited for."""

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
    """It ended by itself or does not start; the message says how, with the last lines it wrote."""

    def __init__(self, how: str, said: str, *, is_unusable: bool = False) -> None:
        super().__init__(f"{how}: {said}")
        self.said = said
        self.is_unusable = is_unusable
        """Whether it says that it cannot be started with these settings."""


class Process:
    """One life of the service."""

    def __init__(self, process: asyncio.subprocess.Process, began: float, log: Path) -> None:
        self._process = process
        self.began = began
        """When it was started, on the monotonic clock."""
        self._said = b""
        assert process.stdout
        assert process.stderr
        self._told = process.stdout
        self._listening = asyncio.create_task(self._listen(process.stderr, log))

    @classmethod
    async def spawn(cls, options: ChildOptions, folder: Path) -> "Process":
        """Start it in the folder, where what it logs is kept in `service.log`.

        Raises SettingError if the process cannot be made.
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

    async def wait_listening(self) -> str:
        """Its URL, once it listens. Raises Ended if that takes too long."""
        try:
            async with asyncio.timeout(_LONGEST_START):
                return await self._url()
        except TimeoutError:
            raise await self._ended(f"not ready after {_LONGEST_START:g} s") from None

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._process.returncode is None

    async def wait_killed(self, seconds: float) -> bool:
        """Whether it is killed within that time. Raises Ended if it ends in another way."""
        status = await self._status(seconds)
        if status not in (None, -signal.SIGKILL):
            raise await self._ended(f"exit status {status}")
        return status is not None

    async def stop(self, seconds: float) -> None:
        """Ask it to stop. Raises Ended unless its exit status is 0."""
        self.signal(signal.SIGTERM)
        status = await self._status(seconds)
        if status != 0:
            raise await self._ended(f"asked to stop, exit status {status}")

    async def kill(self) -> None:
        """Kill it, if it still runs."""
        self.signal(signal.SIGKILL)
        await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it the signal, if it still runs.

        Not through asyncio, which up to Python 3.12 polls the process first, and so takes the
        exit status from whoever waits for it (https://github.com/python/cpython/issues/87744).
        """
        if self.is_running:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def _url(self) -> str:
        """Stands in one of its first lines; a plugin may print others before."""
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
        """Keep its log in memory too: when the disk is full, that is what the log says."""
        while piece := await said.read(_PIECE):
            self._said = (self._said + piece)[-_PIECE:]
            with suppress(OSError), log.open("ab") as kept:
                kept.write(piece)


def _python_path() -> str:
    """PYTHONPATH as it is here, valid in the folder in which the child runs."""
    given = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(str(Path(one).absolute()) for one in given.split(os.pathsep) if one)


async def _read_on(said: asyncio.StreamReader) -> None:
    """Read whatever else it prints, or a full pipe would stop it."""
    while await said.read(_PIECE):
        pass
