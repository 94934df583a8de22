"""How schemas are told in OpenAPI 3.1: what apispec does not know of our fields and patterns."""

import re
from typing import Any

from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.field_converter import DEFAULT_FIELD_MAPPING
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields, validate

from aggregator.description.schemas import AnswerSchema
from aggregator.description.verdict_schemas import ByStatus
from aggregator.web.arguments import Moment
from aggregator.web.query import Place, Scalar

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
        Moment: ("string", "date-time"),
        Place: ("string", "json-pointer"),
        Scalar: ("string", None),
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


class Types(MarshmallowPlugin):
    """Tells marshmallow's schemas, ours and those of stages; components go by their names."""

    Converter = _Converter

    def __init__(self) -> None:
        super().__init__(schema_name_resolver=_name)


def _name(schema: type[Schema] | Schema | str) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return kind.__name__.removesuffix("Schema")
