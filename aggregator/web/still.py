"""Answers that stay the same as long as the service runs: a client need not read them twice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b

from aiohttp import web

from aggregator.web import answer


@dataclass(frozen=True)
class Still:
    """The bytes of the answer, and what they are."""

    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def tag(self) -> str:
        """Its ETag, which another body would not have."""
        return f'"{blake2b(self.body, digest_size=16).hexdigest()}"'

    def to(self, request: web.Request) -> web.Response:
        """The answer; 304 to whoever has it already."""
        headers = {**self.headers, "ETag": self.tag, "Cache-Control": "no-cache"}
        if answer.has(request, self.tag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=self.body, headers=headers, content_type=self.content_type)
