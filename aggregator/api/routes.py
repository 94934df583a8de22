"""Every route in one table: method, path, handler, and how `/openapi.json` describes it."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from aiohttp import web
from marshmallow import Schema, validate

from aggregator.api.authentication import Authenticator, WhoAmI
from aggregator.api.description import ROUTES, OpenApiHandler
from aggregator.api.events import Choices, EventHandlers, EventPage, Explanation, TopicPage
from aggregator.api.operations import OpenApi, problem, response
from aggregator.api.publish import Accepted, Envelope, PublishHandler, Release
from aggregator.api.quarantine import (
    Dropped,
    Quarantined,
    QuarantineHandlers,
    QuarantinePage,
    QuarantineQuerySchema,
)
from aggregator.api.query import (
    LARGEST,
    LARGEST_PAGE,
    EventSelectorSchema,
    PageSchema,
    StreamSchema,
    TopicsSchema,
    WholeNumber,
    described,
)
from aggregator.api.request.body import ENCODINGS
from aggregator.api.request.media_type import NDJSON
from aggregator.api.responses import CLOUD_EVENT, CLOUD_EVENTS, JSON, Answer
from aggregator.api.status import Stats, Status, StatusHandlers
from aggregator.api.stored_event import StoredEvent
from aggregator.api.stream import StreamHandler
from aggregator.core.tokens import Scope
from aggregator.route import Route
from aggregator.store import KeepsHistory, KeepsQuarantine, Store

_EVENT = "/events/{topic:[^/]+}/{event_id:[^/]+}"
_ENTRY = r"/quarantine/{id:[0-9]{1,18}}"


def table(
    *,
    publish: PublishHandler,
    events: EventHandlers,
    stream: StreamHandler,
    status: StatusHandlers,
    quarantine: QuarantineHandlers,
    openapi: OpenApiHandler,
    authenticator: Authenticator,
) -> list[Route]:
    """Every route of the service's own, in the order in which a request is held against them.

    Beside each stands the scope that a token has to have, where tokens are in force.
    """
    publishes = partial(Route, scope=Scope.PUBLISH)
    reads = partial(Route, scope=Scope.READ)
    kept = partial(Route, needs=KeepsQuarantine, scope=Scope.QUARANTINE)
    anybody = partial(Route, scope=None)
    return [
        publishes("POST", "/publish", publish.publish, _PUBLISH),
        reads("GET", "/events", events.events, _LIST_EVENTS),
        reads("GET", "/events/stream", stream.stream, _FOLLOW_EVENTS),
        reads("GET", _EVENT, events.event, _READ_EVENT),
        reads("GET", f"{_EVENT}/explain", events.explain, _EXPLAIN_EVENT, KeepsHistory),
        reads("GET", "/topics", events.topics, _LIST_TOPICS),
        reads("GET", "/stats", status.stats, _READ_STATS),
        anybody("GET", "/healthz", status.healthz, _IS_ALIVE),
        anybody("GET", "/readyz", status.readyz, _IS_READY),
        kept("GET", "/quarantine", quarantine.entries, _LIST_QUARANTINED),
        kept("DELETE", "/quarantine", quarantine.drop_some, _DROP_SOME),
        kept("POST", "/quarantine/release", quarantine.release_some, _RELEASE_SOME),
        kept("GET", _ENTRY, quarantine.entry, _READ_QUARANTINED),
        kept("DELETE", _ENTRY, quarantine.drop_one, _DROP_ONE),
        kept("POST", f"{_ENTRY}/release", quarantine.release_one, _RELEASE_ONE),
        anybody("GET", "/openapi.json", openapi.description, _READ_DESCRIPTION),
        anybody("GET", "/whoami", authenticator.whoami, _WHO_AM_I),
    ]


def add_routes(
    app: web.Application, store: Store, authenticator: Authenticator, routes: Iterable[Route]
) -> None:
    """Add those that the store can serve, guarded. Raises ValueError if one is there already."""
    present = app[ROUTES]
    for route in routes:
        if route.needs is not None and not isinstance(store, route.needs):
            continue
        if any((route.method, route.template) == (r.method, r.template) for r in present):
            raise ValueError(f"{route.method} {route.template} is there already")
        app.add_routes([web.route(route.method, route.path, authenticator.guard(route))])
        present.append(route)


def _operation(
    name: str,
    tag: str,
    responses: Mapping[int, OpenApi],
    problems: Sequence[int] = (),
    *,
    path: Sequence[OpenApi] = (),
    query: type[Schema] | None = None,
    headers: Sequence[OpenApi] = (),
    is_open: bool = False,
) -> OpenApi:
    """An operation of OpenAPI; each may also fail, and all but open ones look at `Host`."""
    parameters = [*path, *([{"in": "query", "schema": query}] if query else []), *headers]
    described = {str(status): answer for status, answer in responses.items()}
    everywhere = (500, 503) if is_open else (421, 500, 503)
    errors = {str(status): str(status) for status in (*problems, *everywhere)}
    told = {"operationId": name, "tags": [tag], "responses": {**described, **errors}}
    return {**told, "parameters": parameters} if parameters else told


def _parameter(place: str, name: str, description: str, **schema: Any) -> OpenApi:
    told = {"in": place, "name": name, "description": description}
    return {**told, "required": place == "path", "schema": {"type": "string", **schema}}


def _settled(members: type[Answer], *headers: str, is_one: bool = False) -> dict[int, OpenApi]:
    """The answers of a call that receives events, or only one."""
    some = {207: response("Some events were refused, as results say.", {JSON: members}, *headers)}
    return {
        200: response("No event was refused.", {JSON: members}, *headers),
        **({} if is_one else some),
        409: problem("Each event refused is a conflict.", *headers, members=members),
        422: problem("All events were refused.", *headers, members=members),
    }


class _EventsSchema(PageSchema):
    """Which events to read, in which order, and how many: that depends on the media type."""

    limit = WholeNumber(
        validate=validate.Range(1, LARGEST),
        metadata=described(
            f"The most events of a page, 100 by default and {LARGEST_PAGE:,} at most; "
            "where NDJSON is asked for, the most of all, and any number."
        ),
    )


_NOT_MODIFIED = response("The client has it already.", None, "ETag")
_IF_NONE_MATCH = _parameter("header", "If-None-Match", "The ETag of an answer that the client has.")

_TEXT = {"type": "string"}
_CLOUD_EVENT = {"type": "object", "description": "A CloudEvent 1.0."}
_EVENT_PAGES = {
    JSON: EventPage,
    **{kind: {**_TEXT, "description": "All events that match, one a line."} for kind in NDJSON},
    CLOUD_EVENTS: {"type": "array", "items": _CLOUD_EVENT},
}
_STATUS = response("It is.", {JSON: Status})
_CHOICES = response("Several events have that topic and id.", {JSON: Choices}, "Link")
_ACCEPTED = response(
    "Accepted; what becomes of the events is not waited for.",
    {JSON: Accepted},
    "Preference-Applied",
)
_EVENT_PATH = [
    {**_parameter("path", "topic", "As it was sent.", minLength=1), "example": "logins"},
    {**_parameter("path", "event_id", "As it was sent.", minLength=1), "example": "1"},
]
_ENTRY_ID = {
    **_parameter(
        "path", "id", "Its id in quarantine.", type="integer", minimum=0, maximum=10**18 - 1
    ),
    "example": 1,
}
_LAST_EVENT_ID = _parameter(
    "header",
    "Last-Event-ID",
    "The seq after which to go on; it wins over `after`.",
    type="integer",
    minimum=0,
)
_PUBLISH_HEADERS = [
    _parameter(
        "header",
        "Prefer",
        "`handling=strict`: all events or none. `return=minimal`: the counts, and only the results "
        "of events that were refused. `respond-async`: answer 202 before the events are stored "
        "(RFC 7240).",
    ),
    _parameter(
        "header",
        "Content-Encoding",
        "How the body is compressed; not at all without it.",
        enum=[*ENCODINGS, "identity"],
    ),
    *(
        _parameter("header", f"ce-{name}", description)
        for name, description in {
            "specversion": "`1.0`. It, `ce-id`, `ce-source` and `ce-type` go together: the binary "
            "mode.",
            "id": "The id of a CloudEvent.",
            "source": "Its source, a URI reference.",
            "type": "Its type, which is the topic.",
            "time": "Its time, in the form of RFC 3339.",
            "subject": "Its subject. Extensions are sent in the same way.",
            "dataschema": "A URI with a scheme.",
        }.items()
    ),
]

_PUBLISH = _operation(
    "publish",
    "publish",
    {**_settled(Envelope, "Preference-Applied"), 202: _ACCEPTED},
    (400, 403, 408, 413, 415, 429),
    headers=_PUBLISH_HEADERS,
)
_LIST_EVENTS = _operation(
    "listEvents",
    "read",
    {200: response("A page, or all of them.", _EVENT_PAGES, "Link")},
    (400, 406),
    query=_EventsSchema,
)
_FOLLOW_EVENTS = _operation(
    "followEvents",
    "read",
    {200: response("Server-sent events, without end.", {"text/event-stream": _TEXT})},
    (400, 410),
    query=StreamSchema,
    headers=[_LAST_EVENT_ID],
)
_READ_EVENT = _operation(
    "readEvent",
    "read",
    {
        200: response("The event.", {JSON: StoredEvent, CLOUD_EVENT: _CLOUD_EVENT}, "ETag"),
        300: _CHOICES,
        304: _NOT_MODIFIED,
    },
    (400, 404, 406),
    path=_EVENT_PATH,
    query=EventSelectorSchema,
    headers=[_IF_NONE_MATCH],
)
_EXPLAIN_EVENT = _operation(
    "explainEvent",
    "read",
    {200: response("What is known of it.", {JSON: Explanation}), 300: _CHOICES},
    (400, 404),
    path=_EVENT_PATH,
    query=EventSelectorSchema,
)
_LIST_TOPICS = _operation(
    "listTopics",
    "read",
    {200: response("A page.", {JSON: TopicPage}, "Link")},
    (400,),
    query=TopicsSchema,
)
_READ_STATS = _operation("readStats", "state", {200: response("The numbers.", {JSON: Stats})})
_IS_ALIVE = _operation("isAlive", "state", {200: _STATUS}, is_open=True)
_IS_READY = _operation("isReady", "state", {200: _STATUS}, is_open=True)
_LIST_QUARANTINED = _operation(
    "listQuarantined",
    "quarantine",
    {200: response("A page.", {JSON: QuarantinePage}, "Link")},
    (400,),
    query=QuarantineQuerySchema,
)
_DROP_SOME = _operation(
    "dropSome",
    "quarantine",
    {200: response("They are gone.", {JSON: Dropped})},
    (400, 403),
    query=QuarantineQuerySchema,
)
_RELEASE_SOME = _operation(
    "releaseSome",
    "quarantine",
    _settled(Release),
    (400, 403),
    query=QuarantineQuerySchema,
)
_READ_QUARANTINED = _operation(
    "readQuarantined",
    "quarantine",
    {200: response("The event.", {JSON: Quarantined})},
    (404,),
    path=[_ENTRY_ID],
)
_DROP_ONE = _operation(
    "dropOne",
    "quarantine",
    {204: response("It is gone.")},
    (403, 404),
    path=[_ENTRY_ID],
)
_RELEASE_ONE = _operation(
    "releaseOne",
    "quarantine",
    _settled(Release, is_one=True),
    (403, 404),
    path=[_ENTRY_ID],
)
_READ_DESCRIPTION = _operation(
    "readDescription",
    "description",
    {
        200: response("OpenAPI 3.1.", {JSON: {"type": "object"}}, "ETag"),
        304: _NOT_MODIFIED,
    },
    headers=[_IF_NONE_MATCH],
)
_WHO_AM_I = _operation("whoAmI", "state", {200: response("What it is for.", {JSON: WhoAmI})})
