"""Query parameters: the schema of each call checks them and describes them."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web
from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema
from marshmallow.types import ErrorMessages
from multidict import MultiMapping

from aggregator.core import json_pointer, json_values, timestamp
from aggregator.core.quoting import cut
from aggregator.errors import Unparsable
from aggregator.store import FieldIs, Query

LARGEST = 2**63 - 1
"""The largest seq or id."""
LARGEST_PAGE = 1000
"""The largest `limit` of a page."""
_OF_NUMBERS: ErrorMessages = {"invalid": "Should be a whole number, in digits."}
_OF_ARGUMENTS = {"unknown": "There is no such argument."}


def described(description: str) -> dict[str, str]:
    """The metadata of a field that describes it in `/openapi.json`."""
    return {"description": description}


class Timestamp(fields.Field[int]):
    """A timestamp with an offset, as microseconds since 1970."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        try:
            return timestamp.parse(str(value))
        except ValueError as error:
            hint = "; + is written %2B in a URL" if " " in str(value) else ""
            raise ValidationError(f"{error}{hint}") from error


class WholeNumber(fields.Integer):
    """A whole number in plain digits."""

    default_error_messages = _OF_NUMBERS

    def _deserialize(self, value: Any, *rest: Any, **more: Any) -> Any:
        if not re.fullmatch("[0-9]+", str(value), re.ASCII):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, *rest, **more)


class JsonPointer(fields.Field[str]):
    """A JSON pointer."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        try:
            json_pointer.parse(str(value))
        except ValueError as error:
            raise ValidationError(str(error)) from error
        return str(value)


class JsonScalar(fields.Field[bytes]):
    """A string, number or boolean, so encoded that equal values are equal bytes."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bytes:
        try:
            return json_values.scalar_of(str(value))
        except ValueError as error:
            raise ValidationError(str(error)) from error


_after = WholeNumber(
    validate=validate.Range(0, LARGEST),
    metadata=described("Only after this seq, in the order asked for."),
)


class ArgumentsSchema(Schema):
    """The arguments of a call."""

    error_messages = _OF_ARGUMENTS


class StreamSchema(ArgumentsSchema):
    """Which events to follow, and after which one."""

    topic = fields.String(metadata=described("Only on this topic."))
    source = fields.String(metadata=described("Only from this source."))
    since = Timestamp(metadata=described("Only with this timestamp, or a later one."))
    until = Timestamp(metadata=described("Only with an earlier timestamp."))
    received_since = Timestamp(metadata=described("Only those that came then, or later."))
    received_until = Timestamp(metadata=described("Only those that came earlier."))
    field = JsonPointer(
        metadata=described("A JSON pointer into the payload, where `equals` must be.")
    )
    equals = JsonScalar(
        metadata=described("A string, number or boolean as JSON; no JSON is a string.")
    )
    after = _after

    @validates_schema
    def _both_or_none(self, loaded: Mapping[str, Any], **_: Any) -> None:
        for one, other in (("field", "equals"), ("equals", "field")):
            if one in loaded and other not in loaded:
                raise ValidationError(f"Goes with {other}, which is missing.", one)

    @post_load
    def _query(self, loaded: dict[str, Any], **_: Any) -> Query:
        if "field" in loaded:
            loaded["field"] = FieldIs(loaded["field"], loaded.pop("equals"))
        return Query(descending=loaded.pop("order", "asc") == "desc", **loaded)


class PageSchema(StreamSchema):
    """Which events to read, in which order, and how many at once."""

    limit = WholeNumber(validate=validate.Range(1, LARGEST_PAGE))
    order = fields.String(
        validate=validate.OneOf(["asc", "desc"]), metadata=described("By seq; `asc` by default.")
    )


class ExportSchema(PageSchema):
    """Which events to read, in which order, and how many in all."""

    limit = WholeNumber(load_default=LARGEST, validate=validate.Range(1, LARGEST))


class TopicsQuery(msgspec.Struct, frozen=True):
    """Which topics to read: by name, from the one after `after`."""

    after: str = ""
    limit: int = 100


class TopicsSchema(ArgumentsSchema):
    """From which name on, and how many at once."""

    after = fields.String(metadata=described("Only topics after this name."))
    limit = WholeNumber(
        validate=validate.Range(1, LARGEST_PAGE),
        metadata=described("The most topics of a page, 100 by default."),
    )

    @post_load
    def _query(self, loaded: dict[str, Any], **_: Any) -> TopicsQuery:
        return TopicsQuery(**loaded)


class EventSelector(msgspec.Struct, frozen=True):
    """Which one is meant of several events of one topic and id."""

    source: str | None = None
    seq: int | None = None


class EventSelectorSchema(ArgumentsSchema):
    """Which one of several."""

    source = fields.String(metadata=described("The one from this source."))
    seq = WholeNumber(
        validate=validate.Range(1, LARGEST), metadata=described("The one stored as this seq.")
    )

    @post_load
    def _selector(self, loaded: dict[str, Any], **_: Any) -> EventSelector:
        return EventSelector(**loaded)


def parse(schema: Schema, parameters: MultiMapping[str]) -> Any:
    """What the schema makes of the query. Raises Unparsable, which names every wrong parameter."""
    if doubled := sorted({name for name in parameters if len(parameters.getall(name)) > 1}):
        raise Unparsable(f"Given more than once: {', '.join(map(cut, doubled))}.")
    try:
        return schema.load(dict(parameters))
    except ValidationError as error:
        said = error.normalized_messages().items()  # type: ignore[no-untyped-call]
        raise Unparsable(
            "; ".join(f"{cut(name)}: {' '.join(why)}" for name, why in said)
        ) from error


def parse_stream(request: web.Request) -> Query:
    """What to follow, from `Last-Event-ID` on where a client that reconnects sends it."""
    wanted: Query = parse(StreamSchema(), request.query)
    last = request.headers.get("Last-Event-ID")
    if not last:
        return wanted
    try:
        after = _after.deserialize(last)
    except ValidationError as error:
        raise Unparsable(f"Last-Event-ID: {' '.join(error.messages)}") from error
    return msgspec.structs.replace(wanted, after=after)
