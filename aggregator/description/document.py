"""Describes the API in OpenAPI 3.1, from the routes, the schemas and the settings in force."""

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web
from apispec import APISpec

from aggregator import __version__
from aggregator.api.request.media_type import NDJSON
from aggregator.config import Settings
from aggregator.description.openapi_types import Types
from aggregator.description.operations import OPERATIONS, TAGS
from aggregator.description.responses import HEADERS, PROBLEMS, Told
from aggregator.stage import Stage
from aggregator.web.answer import CLOUD_EVENT, CLOUD_EVENTS, JSON

_ABOUT = (
    "Takes events over HTTP, stores each exactly once, and answers event by event. "
    "Where there is GET there is HEAD, OPTIONS is answered everywhere, and any other method is "
    "answered 405."
)
_EVENT = {
    "topic": "logins",
    "event_id": "1",
    "timestamp": "2026-01-31T12:00:00Z",
    "source": "shell",
    "payload": {"user": "ada"},
}
_CLOUD_EVENT = {
    "specversion": "1.0",
    "type": "shop.order",
    "id": "7",
    "source": "/shop",
    "time": "2026-01-31T12:00:00Z",
    "data": {"total": 12.5},
}
_PUBLISH = "POST /publish"


def calls(routes: Iterable[web.AbstractRoute]) -> dict[str, web.AbstractRoute]:
    """The routes by method and path; HEAD goes with GET."""
    return {
        f"{route.method} {route.resource.canonical}": route
        for route in routes
        if route.resource and route.method != "HEAD"
    }


def describe(
    routes: Iterable[web.AbstractRoute], stages: Sequence[Stage], settings: Settings
) -> Told:
    """The description of these routes; `stages` say what events must be like."""
    spec = APISpec(
        title="event aggregator",
        version=__version__,
        openapi_version="3.1.0",
        plugins=[Types()],
        info={"description": _ABOUT, "license": {"name": "MIT", "identifier": "MIT"}},
        servers=[{"url": "."}],  # relative to where it was read: right behind any prefix
        tags=[{"name": tag} for tag in TAGS],
    )
    for name, header in HEADERS.items():
        spec.components.header(name, header)
    for status, problem in PROBLEMS.items():
        spec.components.response(status, problem)
    for call, route in calls(routes).items():
        method, path = call.split(" ", 1)
        told = {**_said(route.handler), **OPERATIONS[call]}
        if call == _PUBLISH:
            told["requestBody"] = _body(stages, settings)
        spec.path(path, operations={method.lower(): told})
    return spec.to_dict()


def _said(handler: object) -> Told:
    """The first line of the docstring, and the rest of it."""
    summary, _, rest = (inspect.getdoc(handler) or "").partition("\n\n")
    return {"summary": summary} | ({"description": rest} if rest else {})


def _body(stages: Sequence[Stage], settings: Settings) -> Told:
    about = (
        f"At most {settings.max_events:,} events of {settings.max_event:,} bytes each and "
        f"{settings.max_body:,} bytes in all; plain, gzip or deflate. A body of any type is the "
        "data of one CloudEvent if the headers `ce-id`, `ce-source`, `ce-type` and "
        "`ce-specversion` are sent (the binary mode)."
    )
    return {"description": about, "required": True, "content": _forms(stages, settings)}


def _forms(stages: Sequence[Stage], settings: Settings) -> Told:
    event, cloud_event = _accepted(stages, JSON), _accepted(stages, CLOUD_EVENT)
    most = {"maxItems": settings.max_events}
    several = [_EVENT, {**_EVENT, "event_id": "2"}]
    lines = "".join(f"{json.dumps(one)}\n" for one in several)
    batch = {"type": "array", "items": cloud_event, **most}
    return {
        JSON: {
            "schema": {"oneOf": [event, {"type": "array", "items": event, "minItems": 1, **most}]},
            "examples": {"one": {"value": _EVENT}, "several": {"value": several}},
        },
        **{
            form: {
                "schema": {"type": "string", "description": "One event a line."},
                "example": lines,
            }
            for form in NDJSON
        },
        CLOUD_EVENT: {"schema": cloud_event, "example": _CLOUD_EVENT},
        CLOUD_EVENTS: {"schema": batch, "example": [_CLOUD_EVENT]},
        "*/*": {"schema": {"description": "The data of one CloudEvent in the binary mode."}},
    }


def _accepted(stages: Sequence[Stage], media_type: str) -> Mapping[str, Any]:
    """What the stages hold events of that type to, all of them together."""
    held = [stage.accepts[media_type] for stage in stages if media_type in stage.accepts]
    if len(held) > 1:
        return {"allOf": held}
    return held[0] if held else {"type": "object"}  # type: ignore[return-value]
