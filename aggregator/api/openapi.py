"""`GET /openapi.json`: describes the API from its routes, its schemas and the settings in force."""

import inspect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.field_converter import DEFAULT_FIELD_MAPPING
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields, validate

from aggregator import __version__
from aggregator.api.query import JsonPointer, JsonScalar, Timestamp
from aggregator.api.responses import CLOUD_EVENT, CLOUD_EVENTS, JSON, StaticResponse
from aggregator.api.routes import OPERATIONS, TAGS
from aggregator.api.schemas import HEADERS, PROBLEMS, AnswerSchema, ByStatus, Told
from aggregator.api.sending import Sender
from aggregator.config import Settings
from aggregator.receiving.media_type import NDJSON
from aggregator.stage import Stage


class OpenApiHandler:
    """Answers `GET /openapi.json`."""

    def __init__(self, stages: Sequence[Stage], settings: Settings, sender: Sender) -> None:
        self._stages = stages
        self._settings = settings
        self._sender = sender
        self._made: StaticResponse | None = None

    def routes(self) -> list[web.RouteDef]:
        """The routes of this handler."""
        return [web.get("/openapi.json", self.description)]

    async def description(self, request: web.Request) -> web.StreamResponse:
        """This description of the API."""
        self._sender.check_room()
        if self._made is None:  # made when it is first asked for: most services never are
            told = describe(request.app.router.routes(), self._stages, self._settings)
            self._made = StaticResponse(msgspec.json.encode(told), "application/json")
        return await self._sender.send(request, self._made.respond(request))


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
        plugins=[_Schemas()],
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


_ONLY_PYTHON = {r"\A": "^", r"\Z": "$", "(?P<": "(?<", "(?P=": None, "(?#": None}
_ESCAPE = re.compile(r"\\.|\(\?P[<=]|\(\?#|\(\?[a-zA-Z]+[:)-]", re.DOTALL)
_ESCAPED = frozenset(r"^$\.*+?()[]{}|/-")


def portable(pattern: "re.Pattern[Any]") -> str | None:
    """The pattern in the dialect of ECMA-262, which JSON Schema speaks; None if it has none."""
    if pattern.flags & ~re.UNICODE or not isinstance(pattern.pattern, str):
        return None
    parts: list[str] = []
    place = 0
    for found in _ESCAPE.finditer(pattern.pattern):
        part = _ported(found.group())
        if part is None:
            return None
        parts += [pattern.pattern[place : found.start()], part]
        place = found.end()
    return "".join(parts) + pattern.pattern[place:]


def _ported(token: str) -> str | None:
    if token in _ONLY_PYTHON:
        return _ONLY_PYTHON[token]
    if not token.startswith("\\"):
        return None  # flags in the pattern
    escaped = token[1]
    return token if escaped.isalnum() or escaped in _ESCAPED else escaped


class _Converter(OpenAPIConverter):
    field_mapping = {  # noqa: RUF012, the base wants it so
        **DEFAULT_FIELD_MAPPING,
        Timestamp: ("string", "date-time"),
        JsonPointer: ("string", "json-pointer"),
        JsonScalar: ("string", None),
    }

    def init_attribute_functions(self) -> None:
        super().init_attribute_functions()  # type: ignore[no-untyped-call]
        self.attribute_functions += [self.by_status2properties, self.metadata2encoding]

    def field2pattern(self, field: fields.Field[Any], **_: Any) -> dict[str, Any]:
        checks = [check.regex for check in field.validators if isinstance(check, validate.Regexp)]
        told = [{"pattern": pattern} for regex in checks if (pattern := portable(regex))]
        return {"allOf": told} if len(told) > 1 else {**(told[0] if told else {})}

    def by_status2properties(self, field: fields.Field[Any], **_: Any) -> dict[str, Any]:
        if not isinstance(field, ByStatus):
            return {}
        kinds = {
            status: self.resolve_nested_schema(kind)  # type: ignore[no-untyped-call]
            for status, kind in field.kinds.items()
        }
        mapping = {status: kind["$ref"] for status, kind in kinds.items()}
        discriminator = {"propertyName": "status", "mapping": mapping}
        return {"oneOf": list(kinds.values()), "discriminator": discriminator}

    def metadata2encoding(self, field: fields.Field[Any], **_: Any) -> dict[str, Any]:
        return {name: told for name, told in field.metadata.items() if name == "contentEncoding"}

    def schema2jsonschema(self, schema: Any) -> dict[str, Any]:
        told: dict[str, Any] = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call]
        kind = schema if isinstance(schema, type) else type(schema)
        if issubclass(kind, AnswerSchema):
            del told["additionalProperties"]  # a client shall not stumble over later ones
        return {"description": kind.__doc__, **told} if kind.__doc__ else told


class _Schemas(MarshmallowPlugin):
    """Tells marshmallow's schemas, ours and those of stages; components go by their names."""

    Converter = _Converter

    def __init__(self) -> None:
        super().__init__(schema_name_resolver=_name)


def _name(schema: type[Schema] | Schema | str) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return kind.__name__.removesuffix("Schema")
