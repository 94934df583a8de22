"""`GET /openapi.json`: describes the API from its routes and the settings in force."""

import inspect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import msgspec
from aiohttp import web
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.field_converter import DEFAULT_FIELD_MAPPING
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields, validate

from aggregator import __version__
from aggregator.api.publish import AnyResult, Result
from aggregator.api.query import JsonPointer, JsonScalar, Timestamp
from aggregator.api.responses import (
    CLOUD_EVENT,
    CLOUD_EVENTS,
    JSON,
    PROBLEM,
    Answer,
    Problem,
    StaticResponse,
)
from aggregator.api.sending import Sender
from aggregator.config import Settings
from aggregator.receiving.media_type import NDJSON
from aggregator.route import Route
from aggregator.stage import Stage

OpenApi = dict[str, Any]
"""A part of the description."""

ROUTES = web.AppKey("ROUTES", list[Route])
"""The routes that are described: those that are there."""

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
_PUBLISH = "POST", "/publish"
_REFERENCE = "#/components/schemas/{name}"


class OpenApiHandler:
    """Answers `GET /openapi.json`."""

    def __init__(self, stages: Sequence[Stage], settings: Settings, sender: Sender) -> None:
        self._stages = stages
        self._settings = settings
        self._sender = sender
        self._made: StaticResponse | None = None

    async def description(self, request: web.Request) -> web.StreamResponse:
        """This description of the API."""
        self._sender.check_room()
        if self._made is None:  # made when it is first asked for: most services never are
            routes = request.app[ROUTES]
            description = describe(routes, self._stages, self._settings)
            self._made = StaticResponse(msgspec.json.encode(description), JSON)
        return await self._sender.send(request, self._made.respond(request))


def describe(routes: Sequence[Route], stages: Sequence[Stage], settings: Settings) -> OpenApi:
    """The description of these routes; `stages` say what events must be like."""
    spec = APISpec(
        title="event aggregator",
        version=__version__,
        openapi_version="3.1.0",
        plugins=[_Schemas()],
        info={"description": _ABOUT, "license": {"name": "MIT", "identifier": "MIT"}},
        servers=[{"url": "."}],  # relative to where it was read: right behind any prefix
        tags=[{"name": tag} for tag in _tags(routes)],
    )
    structs: list[type[msgspec.Struct]] = []
    for name, header in HEADERS.items():
        spec.components.header(name, header)
    for status, problem in PROBLEMS.items():
        spec.components.response(status, _with_references(problem, structs))
    for route in routes:
        operation = {**_docstring(route.handler), **_with_references(route.operation, structs)}
        if (route.method, route.path) == _PUBLISH:
            operation["requestBody"] = _publish_body(stages, settings)
        spec.path(route.template, operations={route.method.lower(): operation})
    for name, schema in _struct_schemas(structs).items():
        spec.components.schema(name, schema)
    return spec.to_dict()


def _tags(routes: Iterable[Route]) -> Iterable[str]:
    """What the calls are for, in the order of the routes."""
    return dict.fromkeys(tag for route in routes for tag in route.operation.get("tags", ()))


def _docstring(handler: object) -> OpenApi:
    """The first line of the docstring, and the rest of it."""
    summary, _, rest = (inspect.getdoc(handler) or "").partition("\n\n")
    return {"summary": summary} | ({"description": rest} if rest else {})


def _with_references(value: Any, structs: list[type[msgspec.Struct]]) -> Any:
    """The value with a reference in place of each struct; those are added to `structs`."""
    if isinstance(value, type) and issubclass(value, msgspec.Struct):
        structs.append(value)
        return {"$ref": _REFERENCE.format(name=value.__name__)}
    if isinstance(value, Mapping):
        return {name: _with_references(member, structs) for name, member in value.items()}
    if isinstance(value, list):
        return [_with_references(item, structs) for item in value]
    return value


def _struct_schemas(structs: Iterable[type[msgspec.Struct]]) -> OpenApi:
    """The schemas of structs by name, those that they refer to included."""
    kinds = [kind.__name__ for kind in get_args(AnyResult)]
    _, schemas = msgspec.json.schema_components(
        {*structs, *get_args(AnyResult)}, ref_template=_REFERENCE
    )
    for schema in schemas.values():
        del schema["title"]  # which is its name
        if members := schema.get("properties"):
            _require(schema, members)
    schemas[Result.__name__] = {
        "description": schemas[Result.__name__]["description"],
        **_one_of({kind: schemas[kind] for kind in kinds}, "status"),
    }
    return dict(sorted(schemas.items()))


def _require(schema: OpenApi, members: OpenApi) -> None:
    """Require every member but those that may be UNSET: other defaults are answered as well."""
    required = {
        *schema.get("required", ()),
        *(n for n, told in members.items() if "default" in told),
    }
    for member in members.values():
        member.pop("default", None)
    schema["required"] = [name for name in members if name in required]


def _one_of(schemas: OpenApi, tag: str) -> OpenApi:
    """A schema for what has one of these, which are told apart by a member."""
    references = {name: _REFERENCE.format(name=name) for name in schemas}
    mapping = {
        schema["properties"][tag]["enum"][0]: references[name] for name, schema in schemas.items()
    }
    return {
        "oneOf": [{"$ref": reference} for reference in references.values()],
        "discriminator": {"propertyName": tag, "mapping": mapping},
    }


def _publish_body(stages: Sequence[Stage], settings: Settings) -> OpenApi:
    about = (
        f"At most {settings.max_events:,} events of {settings.max_event:,} bytes each and "
        f"{settings.max_body:,} bytes in all; plain, gzip or deflate. A body of any type is the "
        "data of one CloudEvent if the headers `ce-id`, `ce-source`, `ce-type` and "
        "`ce-specversion` are sent (the binary mode)."
    )
    return {"description": about, "required": True, "content": _bodies(stages, settings)}


def _bodies(stages: Sequence[Stage], settings: Settings) -> OpenApi:
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
            media_type: {
                "schema": {"type": "string", "description": "One event a line."},
                "example": lines,
            }
            for media_type in NDJSON
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


HEADERS: Mapping[str, OpenApi] = {
    "Retry-After": {
        "description": "Seconds after which the same request may be sent again.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Link": {
        "description": "Where to go on, or the events to choose from (RFC 8288).",
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "Changes when the answer does.",
        "schema": {"type": "string"},
    },
    "Preference-Applied": {
        "description": "Which preferences were kept.",
        "schema": {"type": "string"},
    },
    "Accept-Post": {
        "description": "The media types that are read.",
        "schema": {"type": "string"},
    },
    "Accept-Encoding": {
        "description": "The encodings that are read, where the body is in another one.",
        "schema": {"type": "string"},
    },
}
"""The headers of answers that are described once."""


def response(meaning: str, bodies: Mapping[str, Any] | None = None, *headers: str) -> OpenApi:
    """An answer: what its body is by media type, and the headers it may have."""
    content = {media_type: {"schema": schema} for media_type, schema in (bodies or {}).items()}
    told: OpenApi = {"description": meaning}
    if content:
        told["content"] = content
    if headers:
        told["headers"] = {name: name for name in headers}
    return told


def problem(meaning: str, *headers: str, members: type[Answer] | None = None) -> OpenApi:
    """A problem, the headers it may have, and the answer whose members are added to it."""
    schema = Problem if members is None else {"allOf": [Problem, members]}
    return response(meaning, {PROBLEM: schema}, *headers)


PROBLEMS: Mapping[str, OpenApi] = {
    "400": problem("The body or an argument cannot be read as what it claims to be."),
    "403": problem("Sent by a page of an origin that is not listed."),
    "404": problem("Nothing is there."),
    "406": problem("There is nothing in a form that the request accepts."),
    "408": problem("The body did not arrive in time."),
    "410": problem("Events from there on are kept no more."),
    "413": problem("More events or bytes than are allowed."),
    "415": problem(
        "A media type, charset or encoding that is not read.", "Accept-Post", "Accept-Encoding"
    ),
    "500": problem("A stage, or the service, is at fault; nothing was stored."),
    "503": problem("Full, stopping, or the store failed: try again.", "Retry-After"),
}
"""The errors that mean the same wherever they are answered, by their status."""

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
    """What apispec does not know of our fields of marshmallow, and of patterns."""

    field_mapping = {  # noqa: RUF012, the base wants it so
        **DEFAULT_FIELD_MAPPING,
        Timestamp: ("string", "date-time"),
        JsonPointer: ("string", "json-pointer"),
        JsonScalar: ("string", None),
    }

    def init_attribute_functions(self) -> None:
        super().init_attribute_functions()  # type: ignore[no-untyped-call]
        self.attribute_functions += [self.metadata2encoding]

    def field2pattern(self, field: fields.Field[Any], **_: Any) -> OpenApi:
        checks = [check.regex for check in field.validators if isinstance(check, validate.Regexp)]
        told = [{"pattern": pattern} for regex in checks if (pattern := portable(regex))]
        return {"allOf": told} if len(told) > 1 else {**(told[0] if told else {})}

    def metadata2encoding(self, field: fields.Field[Any], **_: Any) -> OpenApi:
        return {name: told for name, told in field.metadata.items() if name == "contentEncoding"}

    def schema2jsonschema(self, schema: Any) -> OpenApi:
        told: OpenApi = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call]
        kind = schema if isinstance(schema, type) else type(schema)
        return {"description": kind.__doc__, **told} if kind.__doc__ else told


class _Schemas(MarshmallowPlugin):
    """Describes marshmallow's schemas, ours and those of stages, under their names."""

    Converter = _Converter

    def __init__(self) -> None:
        super().__init__(schema_name_resolver=_name)


def _name(schema: type[Schema] | Schema | str) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return kind.__name__.removesuffix("Schema")
