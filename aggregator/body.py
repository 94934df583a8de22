"""Reads the body of a publish request, within bounds.

The bytes must come as they were sent: the runner is made with RUNNER, or aiohttp decompresses.
"""

import asyncio
from typing import Any

from aiohttp import ClientError, web

from aggregator.budget import Share
from aggregator.errors import TooLarge, TooSlow, Unparsable, Unsupported
from aggregator.inflate import ENCODINGS, Inflater

RUNNER: dict[str, Any] = {"auto_decompress": False}

_JSON = "application/json"
_NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
ACCEPTED = f"{_JSON}, {_NDJSON[0]}"
_CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii")


def is_ndjson(request: web.Request) -> bool:
    """Whether the body is NDJSON rather than JSON. Raises Unsupported if it is neither."""
    if "Content-Type" not in request.headers:
        return False
    if (request.charset or "utf-8").lower() not in _CHARSETS:
        raise Unsupported(f"JSON is UTF-8; the charset {request.charset} is not read.")
    if request.content_type not in (_JSON, *_NDJSON):
        raise Unsupported(
            f"A body of type {request.content_type} is not read. Send {ACCEPTED}: "
            "with curl, add -H 'Content-Type: application/json'."
        )
    return request.content_type in _NDJSON


async def read(request: web.Request, share: Share, most: int, seconds: float) -> bytes:
    """The body, decompressed, of at most `most` bytes, each held in the share.

    Counted here: whoever reads the body as a stream passes aiohttp's own limit by. Raises
    TooLarge, TooSlow, Unparsable, Unsupported or QueueFull.
    """
    inflater = _inflater(request)
    if (request.content_length or 0) > most:
        raise TooLarge(f"The body has {request.content_length:,} bytes; max_body allows {most:,}.")
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.content.iter_any():
                for piece in inflater.feed(chunk) if inflater else (chunk,):
                    if len(body) + len(piece) > most:
                        raise TooLarge(f"The body has more than the {most:,} bytes of max_body.")
                    share.take(len(piece))
                    body += piece
    except TimeoutError as error:
        raise TooSlow(f"The body did not arrive within {seconds:g} s (body_timeout).") from error
    except (ClientError, web.RequestPayloadError, ConnectionError) as error:
        raise Unparsable(f"The body ended early: {error}") from error
    if inflater:
        inflater.finish()
    return bytes(body)


def _inflater(request: web.Request) -> Inflater | None:
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding == "identity":
        return None
    if encoding not in ENCODINGS:
        raise Unsupported(
            f"A body in {encoding!r} is not read; send it plain, gzip or deflate.",
        )
    return Inflater(encoding)
