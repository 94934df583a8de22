"""Describes the API in OpenAPI 3.1, from its routes and the settings in force.

`description.py` imports this, and apispec with it, once somebody asks.
"""

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

import msgspec
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.field_converter import DEFAULT_FIELD_MAPPING
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields, validate

from aggregator import __version__
from aggregator.api.operations import HEADERS, PROBLEMS, OpenApi
from aggregator.api.publish import AnyResult, Result
from aggregator.api.query import JsonPointer, JsonScalar, Timestamp
from aggregator.api.request.media_type import NDJSON
from aggregator.api.responses import CLOUD_EVENT, CLOUD_EVENTS, JSON
from aggregator.config import Settings
from aggregator.route import Route
from aggregator.stage import Stage

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
_TOKEN = "token"  # noqa: S105, what the description calls it
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "agg_…",
    "description": "Made by `aggregator token new`. The calls that it is for are its scopes.",
}
_PUBLISH = "POST", "/publish"
_WHOAMI = "GET", "/whoami"
_PATH_PARAMETER = re.compile(r"\{(\w+)\}")
_REFERENCE = "#/components/schemas/{name}"


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
    if settings.tokens:
        spec.components.security_scheme(_TOKEN, _BEARER)
    operations = [_operation(route, stages, settings) for route in routes]
    references, schemas = _struct_schemas(_structs_in([PROBLEMS, operations]))
    for name, header in HEADERS.items():
        spec.components.header(name, header)
    for status, answer in PROBLEMS.items():
        spec.components.response(status, _replaced(answer, references))
    for route, operation in zip(routes, operations, strict=True):
        told = {route.method.lower(): _replaced(operation, references)}
        spec.path(route.template, operations=told)
    for name, schema in schemas.items():
        spec.components.schema(name, schema)
    return spec.to_dict()


def _operation(route: Route, stages: Sequence[Stage], settings: Settings) -> OpenApi:
    """What the route says of itself, and the docstring of its handler."""
    summary, _, rest = (inspect.getdoc(route.handler) or "").partition("\n\n")
    told = {"summary": summary} | ({"description": rest} if rest else {}) | {**route.operation}
    if (route.method, route.path) == _PUBLISH:
        told["requestBody"] = _publish_body(stages, settings)
    if settings.tokens:
        told |= _guarded(route, told["responses"])
    parameters = told.get("parameters", ())
    names = _PATH_PARAMETER.findall(route.template)
    if names and not any(parameter["in"] == "path" for parameter in parameters):
        told["parameters"] = [
            *map(_path_parameter, names),
            *parameters,
        ]  # OpenAPI wants all of them
    return told


def _guarded(route: Route, responses: OpenApi) -> OpenApi:
    """What is said of a call that asks for a token, where tokens are in force."""
    if (route.method, route.path) == _WHOAMI:  # any token will do
        return {"security": [{_TOKEN: []}], "responses": {**responses, "401": "401"}}
    if route.scope is None:
        return {}
    return {
        "security": [{_TOKEN: [str(route.scope)]}],
        "responses": {**responses, "401": "401", "403": "403"},
    }


def _path_parameter(name: str) -> OpenApi:
    return {"in": "path", "name": name, "required": True, "schema": {"type": "string"}}


def _tags(routes: Iterable[Route]) -> Iterable[str]:
    """What the calls are for, in the order of the routes."""
    return dict.fromkeys(tag for route in routes for tag in route.operation.get("tags", ()))


def _structs_in(value: object) -> Iterator[type[msgspec.Struct]]:
    """The structs that stand in it for their schemas."""
    if isinstance(value, type) and issubclass(value, msgspec.Struct):
        yield value
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _structs_in(member)
    elif isinstance(value, list):
        for item in value:
            yield from _structs_in(item)


def _replaced(value: Any, references: Mapping[Any, OpenApi]) -> Any:
    """The value with a reference to its schema in place of each struct."""
    if isinstance(value, Mapping):
        return {name: _replaced(member, references) for name, member in value.items()}
    if isinstance(value, list):
        return [_replaced(item, references) for item in value]
    return references.get(value, value) if isinstance(value, type) else value


def _struct_schemas(
    structs: Iterable[type[msgspec.Struct]],
) -> tuple[Mapping[Any, OpenApi], OpenApi]:
    """A reference to the schema of each struct, and all schemas by name."""
    kinds = get_args(AnyResult)
    known = list(dict.fromkeys([*structs, Result, *kinds]))
    found, schemas = msgspec.json.schema_components(known, ref_template=_REFERENCE)
    references = dict(zip(known, found, strict=True))
    for schema in schemas.values():
        del schema["title"]  # which is its name
        if members := schema.get("properties"):
            _require(schema, members)
    # msgspec would encode the tag of a union first; here `status` comes after what it is about.
    name = _name_in(references[Result])
    union = _one_of([references[kind] for kind in kinds], schemas, "status")
    schemas[name] = {"description": schemas[name]["description"], **union}
    return references, dict(sorted(schemas.items()))


def _require(schema: OpenApi, members: OpenApi) -> None:
    """Require every member but those that may be UNSET: other defaults are answered as well."""
    always = [name for name, member in members.items() if "default" in member]
    for name in always:
        del members[name]["default"]
    required = {*schema.get("required", ()), *always}
    schema["required"] = [name for name in members if name in required]


def _one_of(references: Sequence[OpenApi], schemas: OpenApi, tag: str) -> OpenApi:
    """A schema for what has one of these, which are told apart by a member."""
    mapping = {}
    for reference in references:
        (value,) = schemas[_name_in(reference)]["properties"][tag]["enum"]
        mapping[value] = reference["$ref"]
    return {"oneOf": references, "discriminator": {"propertyName": tag, "mapping": mapping}}


def _name_in(reference: OpenApi) -> str:
    name: str = reference["$ref"].rpartition("/")[2]
    return name


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
    either = event if event == cloud_event else {"anyOf": [event, cloud_event]}
    return {
        JSON: {
            "schema": {
                "oneOf": [either, {"type": "array", "items": either, "minItems": 1, **most}]
            },
            "examples": {"one": {"value": _EVENT}, "several": {"value": several}},
        },
        **{
            media_type: {
                "schema": {"type": "string", "description": "One event a line, as in JSON."},
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
