"""The arguments of `GET /events`."""

from typing import Any

from marshmallow import Schema, fields, post_load, validate
from multidict import MultiMapping

from aggregator import arguments
from aggregator.arguments import LARGEST, Moment, Whole
from aggregator.store import Query


class QuerySchema(Schema):
    """What may stand behind the question mark."""

    topic = fields.String()
    source = fields.String()
    since = Moment()
    until = Moment()
    after = Whole(validate=validate.Range(0, LARGEST))
    limit = Whole(validate=validate.Range(1, 1000))
    order = fields.String(validate=validate.OneOf(["asc", "desc"]))

    @post_load
    def _query(self, loaded: dict[str, Any], **_: Any) -> Query:
        return Query(descending=loaded.pop("order", "asc") == "desc", **loaded)


def parse(given: MultiMapping[str]) -> Query:
    """The query. Raises Unparsable that names every argument in the wrong."""
    query: Query = arguments.load(QuerySchema(), given)
    return query
