"""The arguments of `GET /events`."""

import re
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate
from multidict import MultiMapping

from aggregator import timestamp
from aggregator.errors import Unparsable
from aggregator.store import Query

_LARGEST_SEQ = 2**63 - 1


class Moment(fields.Field[int]):
    """A timestamp with an offset, as microseconds since 1970."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        try:
            return timestamp.parse(str(value))
        except ValueError as error:
            hint = "; + is written %2B in a URL" if " " in str(value) else ""
            raise ValidationError(f"{error}{hint}") from error


class Whole(fields.Integer):
    """A whole number in plain digits."""

    def _deserialize(self, value: Any, *rest: Any, **more: Any) -> Any:
        if not re.fullmatch("[0-9]+", str(value), re.ASCII):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, *rest, **more)


class QuerySchema(Schema):
    """What may stand behind the question mark."""

    topic = fields.String()
    source = fields.String()
    since = Moment()
    until = Moment()
    after = Whole(validate=validate.Range(0, _LARGEST_SEQ))
    limit = Whole(validate=validate.Range(1, 1000))
    order = fields.String(validate=validate.OneOf(["asc", "desc"]))

    @post_load
    def _query(self, loaded: dict[str, Any], **_: Any) -> Query:
        return Query(descending=loaded.pop("order", "asc") == "desc", **loaded)


def parse(arguments: MultiMapping[str]) -> Query:
    """The query. Raises Unparsable that names every argument in the wrong."""
    if doubled := sorted({name for name in arguments if len(arguments.getall(name)) > 1}):
        raise Unparsable(f"Given more than once: {', '.join(doubled)}.")
    try:
        query: Query = QuerySchema().load(dict(arguments))
    except ValidationError as error:
        said = error.normalized_messages().items()  # type: ignore[no-untyped-call]
        raise Unparsable("; ".join(f"{name}: {' '.join(why)}" for name, why in said)) from error
    return query
