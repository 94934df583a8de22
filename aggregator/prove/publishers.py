"""Publishers as there are everywhere: each sends a request until it is answered, then the next."""

import asyncio

from aggregator.prove.client import Client, Gone
from aggregator.prove.workload import Request, Script

_PAUSE = 0.02  # seconds between tries


class Publishers:
    """Several connections that publish whenever the service is up."""

    def __init__(self, client: Client, seed: str, connections: int) -> None:
        self._client = client
        self._scripts = [Script(seed, number) for number in range(connections)]
        self._tasks: list[asyncio.Task[None]] = []
        self._up = asyncio.Event()
        self._is_over = False

    def start(self) -> None:
        """Begin; nothing is sent before `resume`."""
        self._tasks = [asyncio.create_task(self._run(script)) for script in self._scripts]

    def pause(self) -> None:
        """Send nothing more: the service is gone."""
        self._up.clear()

    def resume(self) -> None:
        """The service is up."""
        self._up.set()

    async def finish(self, seconds: float) -> bool:
        """Have what is under way answered, then end; whether all was answered in that time."""
        self._is_over = True
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        await self.stop()
        return not late

    async def stop(self) -> None:
        """End at once. Raises what has ended one of them before its time."""
        for task in self._tasks:
            task.cancel()
        for error in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(error, Exception):
                raise error

    async def _run(self, script: Script) -> None:
        while not self._is_over:
            request = script.next()
            while not await self._is_answered(request):
                await asyncio.sleep(_PAUSE)

    async def _is_answered(self, request: Request) -> bool:
        await self._up.wait()
        try:
            await self._client.publish(request)
        except Gone:
            return False
        return True
