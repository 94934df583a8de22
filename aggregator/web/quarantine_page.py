"""How one asks for what is in quarantine, and how it is shown."""

import base64
from typing import Any

import msgspec
from aiohttp import web
from marshmallow import Schema, fields, post_load, validate
from multidict import MultiMapping

from aggregator.api.request import strict_json
from aggregator.core import timestamp
from aggregator.store import Quarantined, QuarantinePage, QuarantineQuery, QuarantineReason
from aggregator.web import arguments
from aggregator.web.answer import ASK_AGAIN, as_json, cursor, next_link
from aggregator.web.arguments import LARGEST, LARGEST_PAGE, Moment, Whole, described


class QuarantineQuerySchema(Schema):
    """Which of the events in quarantine."""

    topic = fields.String(metadata=described("Only on this topic."))
    reason = fields.Enum(
        QuarantineReason, by_value=True, metadata=described("Only kept for this reason.")
    )
    submission = fields.String(metadata=described("Only those of this request."))
    kept_since = Moment(metadata=described("Only those kept since then, or later."))
    kept_until = Moment(metadata=described("Only those kept earlier."))
    after = Whole(validate=validate.Range(0, LARGEST), metadata=described("Only after this id."))
    limit = Whole(
        validate=validate.Range(1, LARGEST_PAGE),
        metadata=described("The most events of a page, 100 by default."),
    )

    @post_load
    def _query(self, loaded: dict[str, Any], **_: Any) -> QuarantineQuery:
        return QuarantineQuery(**loaded)


def parse(given: MultiMapping[str]) -> QuarantineQuery:
    """The query. Raises Unparsable that names every argument in the wrong."""
    query: QuarantineQuery = arguments.load(QuarantineQuerySchema(), given)
    return query


def page(found: QuarantinePage, request: web.Request) -> web.Response:
    """A page of them, and where to go on. Slow: call it in a thread."""
    after = cursor(found.next)
    told = {"quarantined": [_shown(one) for one in found.entries], "next": after}
    return as_json(told, headers=ASK_AGAIN | next_link(request, after))


def entry(found: Quarantined) -> web.Response:
    """One of them. Slow: call it in a thread."""
    return as_json(_shown(found), headers=ASK_AGAIN)


def _shown(found: Quarantined) -> dict[str, Any]:
    """As it was sent; what is no JSON that every reader takes is shown in base64."""
    told: dict[str, Any] = {
        "id": found.id,
        "kept_at": timestamp.rfc_3339(found.kept_at),
        "reason": found.reason.value,
        "submission": found.submission,
        "topic": found.topic or None,
        "event_id": found.event_id or None,
        "errors": msgspec.Raw(found.detail),
        "format": "cloudevents" if found.is_cloud_event else "event",
    }
    if strict_json.faults(found.body):
        return {**told, "body_base64": base64.b64encode(found.body).decode()}
    return {**told, "body": msgspec.Raw(found.body)}
