"""Which charset a body may be in: UTF-8, under whatever name."""

from aiohttp import web

from aggregator.errors import Unsupported

_UTF8 = ("utf-8", "utf8", "us-ascii", "ascii")


def is_utf8(request: web.Request) -> bool:
    """Whether the body claims to be UTF-8, or nothing else."""
    return (request.charset or "utf-8").lower() in _UTF8


def check_json(request: web.Request) -> None:
    """Raise Unsupported where a body of JSON claims to be in another charset."""
    if not is_utf8(request):
        raise Unsupported(f"JSON is UTF-8; the charset {request.charset} is not read.")
