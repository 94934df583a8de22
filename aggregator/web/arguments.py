"""What stands behind the question mark, checked by a schema."""

import re
from typing import Any

from marshmallow import Schema, ValidationError, fields
from multidict import MultiMapping

from aggregator.core import timestamp
from aggregator.errors import Unparsable

LARGEST = 2**63 - 1
"""The largest seq or id."""
LARGEST_PAGE = 1000
"""The most that a page may be asked to hold."""


def described(description: str) -> dict[str, str]:
    """The metadata of an argument: what the description of the API says of it."""
    return {"description": description}


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


def load(schema: Schema, arguments: MultiMapping[str]) -> Any:
    """What the schema makes of them. Raises Unparsable that names every argument in the wrong."""
    if doubled := sorted({name for name in arguments if len(arguments.getall(name)) > 1}):
        raise Unparsable(f"Given more than once: {', '.join(doubled)}.")
    try:
        return schema.load(dict(arguments))
    except ValidationError as error:
        said = error.normalized_messages().items()  # type: ignore[no-untyped-call]
        raise Unparsable("; ".join(f"{name}: {' '.join(why)}" for name, why in said)) from error
