"""What answers are made of, as schemas: for the description of the API, and for tests.

Answers are not made by these, which would take too long; that they are as described is tested.
"""

from typing import Any

from marshmallow import Schema, fields, validate


def number(description: str, **more: Any) -> fields.Integer:
    """A number of things."""
    told = {"description": description}
    return fields.Integer(
        strict=True, validate=validate.Range(0), metadata=told, **{"required": True, **more}
    )


def words(description: str, **more: Any) -> fields.String:
    """A string."""
    return fields.String(metadata={"description": description}, **{"required": True, **more})


def octets(description: str) -> fields.String:
    """Bytes, as text; only where there are any."""
    told = {"description": description, "contentEncoding": "base64"}
    return fields.String(metadata=told)


def moment(description: str, **more: Any) -> fields.AwareDateTime:
    """A time."""
    told = {"description": description}
    return fields.AwareDateTime("iso", metadata=told, **{"required": True, **more})


def any_json(description: str, **more: Any) -> fields.Raw:
    """Any JSON."""
    return fields.Raw(allow_none=True, metadata={"description": description}, **more)


def place(**more: Any) -> fields.Integer:
    """The seq of an event."""
    return number("The place among all stored events; it only grows.", **more)


def checksum(description: str) -> fields.String:
    """The digest of a content."""
    return words(description, validate=validate.Regexp("^([0-9a-f]{34})?$"))


def following() -> fields.String:
    """Where the next page begins."""
    told = "The `after` of the next page; null where there is none."
    return words(told, allow_none=True)


class AnswerSchema(Schema):
    """The base of them. Further members may come with a later version."""


class ProblemSchema(AnswerSchema):
    """What went wrong (RFC 9457)."""

    title = words("The name of the status.")
    status = number("The status, once more.")
    detail = words("What is wrong, and what can be done about it.")


class FaultSchema(AnswerSchema):
    """One thing wrong with an event."""

    pointer = words("Where: a JSON pointer (RFC 6901) into the event.")
    detail = words("What.")
