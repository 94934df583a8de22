"""Where else to go: references, and the header that lists them (RFC 8288)."""

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from aiohttp import web

from aggregator.store import StoredEvent


def to_event(event: StoredEvent, call: str = "") -> str:
    """A reference to this very event, or to a call below it.

    Where its path would be taken for one to a folder above, escaped or not, to a page of it alone.
    """
    if not call and {event.topic, event.event_id} & {".", ".."}:
        return _with("/events", {"after": str(event.seq - 1), "limit": "1"})
    names = ("events", event.topic, event.event_id, *filter(None, [call]))
    path = "".join(f"/{quote(name, safe='')}" for name in names)
    return _with(path, {"seq": str(event.seq)})


def to_next(request: web.Request, after: str) -> str:
    """A reference to the page after this one: the same request, from `after` on.

    Relative to the request, so that it holds behind any prefix of a path.
    """
    return _with("", {**request.query, "after": after})


def header(*references: str, rel: str) -> str:
    """The header `Link` for references of one kind."""
    return ", ".join(f'<{reference}>; rel="{rel}"' for reference in references)


def _with(path: str, arguments: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(arguments, quote_via=quote, safe='')}"
