"""Reads server-sent events as a browser does."""

import json
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, NamedTuple

from aiohttp import ClientResponse

from conftest import Client


class Message(NamedTuple):
    """What a browser would dispatch."""

    kind: str
    id: str
    data: str

    @property
    def told(self) -> Any:
        """The data as JSON."""
        return json.loads(self.data)


class EventSource:
    """Follows a stream; `last_id` is what a browser would send when it comes back."""

    def __init__(self, client: Client, path: str = "/events/stream", last_id: str = "") -> None:
        self.last_id = last_id
        self.comments = 0
        self._client = client
        self._path = path
        self._response: ClientResponse | None = None

    @property
    def response(self) -> ClientResponse:
        """The answer whose body is the stream."""
        assert self._response
        return self._response

    async def __aenter__(self) -> "EventSource":
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        self._response = await self._client.get(self._path, headers=headers)
        assert self._response.status == 200, await self._response.text()
        await self._block()  # how to reconnect, and from where
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.response.close()

    async def messages(self) -> AsyncIterator[Message]:
        """What is dispatched, until the stream ends."""
        while (block := await self._block()) is not None:
            if block.data:
                yield block

    async def take(self, count: int) -> list[Message]:
        """The next so many messages."""
        taken: list[Message] = []
        while len(taken) < count:
            block = await self._block()
            assert block, f"the stream ended after {taken}"
            if block.data:
                taken.append(block)
        return taken

    async def until_sign_of_life(self) -> list[Message]:
        """The messages before the next comment."""
        before, taken = self.comments, []
        while self.comments == before:
            block = await self._block()
            assert block, "the stream ended"
            if block.data:
                taken.append(block)
        return taken

    async def _block(self) -> Message | None:
        """The lines up to the next empty one; None at the end."""
        kind, data = "message", []
        while line := (await self.response.content.readline()).decode():
            if line == "\n":
                return Message(kind, self.last_id, "\n".join(data))
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "id":
                self.last_id = value
            elif name == "event":
                kind = value
            elif name == "data":
                data.append(value)
            elif not name:
                self.comments += 1
        return None
