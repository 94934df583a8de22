"""The schemas of events, as publishers send them."""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from marshmallow import (
    INCLUDE,
    RAISE,
    Schema,
    ValidationError,
    fields,
    pre_load,
    validate,
    validates_schema,
)
from marshmallow.types import ErrorMessages

from aggregator.core import timestamp
from aggregator.core.cloudevents import has_data_twice, is_base64

_LONGEST_NAME = 255
_LONGEST_SOURCE = 1024  # a CloudEvent's source is a URI
_LONGEST_TIMESTAMP = 64
_MOST_EXPLAINED = 10  # of a CloudEvent's extensions
_ONE_LINE = re.compile("^[^\\x00-\\x1f\\x7f-\\x9f\u2028\u2029]*$")
_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_MEDIA_TYPE = re.compile(rf"^{_WORD}/{_WORD}[ \t]*(;.*)?$")
_URI = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+$")
_EXTENSION = re.compile("[a-z0-9]{1,255}")

# Instead of marshmallow's, which speaks of Python's types: publishers know JSON.
MISSING = "Missing."
NO_TEXT = "Should be a string."
NO_OBJECT = "Should be a JSON object."
UNKNOWN = "Unknown: an event has no such member."
_OF_TEXTS: ErrorMessages = {"required": MISSING, "null": NO_TEXT, "invalid": NO_TEXT}
_OF_OBJECTS: ErrorMessages = {"required": MISSING, "null": NO_OBJECT, "invalid": NO_OBJECT}
_OF_EVENTS = {"type": NO_OBJECT, "unknown": UNKNOWN}

_INTEGERS = range(-(2**31), 2**31)


class Whole(validate.Regexp):
    """Matches the whole value: `$` alone would let a last line break through."""

    def __init__(self, pattern: re.Pattern[str], error: str) -> None:
        super().__init__(pattern, error=error)
        self._pattern = pattern

    def __call__(self, value: str) -> str:  # type: ignore[override]
        """Return the value, or raise ValidationError."""
        if not self._pattern.fullmatch(value):
            raise ValidationError(str(self.error))
        return value


class Timestamp(validate.Validator):
    """A date and time with an offset."""

    def __call__(self, value: str) -> str:
        """Return the value, or raise ValidationError."""
        try:
            timestamp.parse(value)
        except ValueError as error:
            raise ValidationError(f"Bad time: {error}.") from error
        return value


class InternetTime(Timestamp):
    """A date and time as RFC 3339 spells it, which is all that CloudEvents know."""

    def __call__(self, value: str) -> str:
        """Return the value, or raise ValidationError."""
        if not timestamp.is_rfc_3339(super().__call__(value)):
            raise ValidationError("Bad time: not in the form of RFC 3339: 2026-01-31T12:00:00Z.")
        return value


class Base64(validate.Validator):
    """Bytes, as text."""

    def __call__(self, value: str) -> str:
        """Return the value, or raise ValidationError."""
        if not is_base64(value):
            raise ValidationError("Not base64.")
        return value


class OneLine(Whole):
    """Text without line breaks and control characters."""

    def __init__(self) -> None:
        super().__init__(_ONE_LINE, error="May not hold a line break or a control character.")

    def __call__(self, value: str) -> str:  # type: ignore[override]
        """Return the value, or raise ValidationError."""
        return value if value.isprintable() else super().__call__(value)


class Text(fields.String):
    """A JSON string."""

    default_error_messages = _OF_TEXTS


class JsonObject(fields.Dict):
    """A JSON object."""

    default_error_messages = _OF_OBJECTS


_one_line = OneLine()
_short = validate.Length(max=_LONGEST_TIMESTAMP)
_as_date_time = {"format": "date-time"}


def _name(longest: int, data_key: str | None = None) -> fields.String:
    checks = [validate.Length(1, longest), _one_line]
    return Text(required=True, data_key=data_key, validate=checks)


class EventSchema(Schema):
    """An event in the service's own form."""

    error_messages = _OF_EVENTS

    class Meta:
        """Unknown members are refused: a misspelled one would be lost in silence."""

        unknown = RAISE

    topic = _name(_LONGEST_NAME)
    event_id = _name(_LONGEST_NAME)
    timestamp = Text(required=True, validate=[_short, Timestamp()], metadata=_as_date_time)
    source = _name(_LONGEST_SOURCE)
    payload = JsonObject(required=True)


class CloudEventSchema(Schema):
    """A CloudEvent 1.0 in the JSON format; members that it does not name are extensions."""

    error_messages = _OF_EVENTS

    class Meta:
        """Extensions are checked below, their names as well."""

        unknown = INCLUDE

    specversion = Text(required=True, validate=validate.Equal("1.0"))
    topic = _name(_LONGEST_NAME, "type")
    event_id = _name(_LONGEST_NAME, "id")
    source = _name(_LONGEST_SOURCE)
    timestamp = Text(
        data_key="time", allow_none=True, validate=[_short, InternetTime()], metadata=_as_date_time
    )
    subject = Text(allow_none=True, validate=[validate.Length(1), _one_line])
    datacontenttype = Text(
        allow_none=True, validate=[_one_line, Whole(_MEDIA_TYPE, error="Not a media type.")]
    )
    dataschema = Text(allow_none=True, validate=Whole(_URI, error="Not a URI with a scheme."))
    data = fields.Raw(allow_none=True)
    data_base64 = Text(allow_none=True, validate=Base64(), metadata={"contentEncoding": "base64"})

    @pre_load
    def _without_nulls(self, members: object, **_: object) -> object:
        """An attribute that is null is as good as absent."""
        if not isinstance(members, Mapping):
            return members
        return {name: value for name, value in members.items() if is_there(name, value)}

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def _extensions(self, _: object, members: object, **__: object) -> None:
        if not isinstance(members, Mapping):
            return
        faults = {name: [told] for name, told in islice(extension_faults(members), _MOST_EXPLAINED)}
        if has_data_twice(members):
            faults["data_base64"] = ["There is data already; send one of them."]
        if faults:
            raise ValidationError(faults)


_NAMED = frozenset(field.data_key or name for name, field in CloudEventSchema().fields.items())


def is_there(name: str, value: object) -> bool:
    """Whether a member of a CloudEvent is one: null says that it is not, but for data."""
    return value is not None or name == "data"


def extension_faults(members: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The names of extensions that are not as they should be, with what is wrong."""
    for name, value in members.items():
        if name in _NAMED or value is None:
            continue
        if not _EXTENSION.fullmatch(name):
            yield name, "An attribute is named by lower-case letters and digits, at most 255."
        elif isinstance(value, str):
            if not _ONE_LINE.fullmatch(value):
                yield name, str(_one_line.error)
        elif not isinstance(value, bool) and not (isinstance(value, int) and value in _INTEGERS):
            yield name, "An attribute is a string, a boolean or an integer of 32 bits."
