"""What every call answers with: JSON, problems, links to further pages, and ETags.

What an answer holds is one struct, which is encoded as it is and described as it is.
"""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec
from aiohttp import web
from msgspec import Meta

from aggregator.api.fast_response import FastResponse
from aggregator.api.request.media_type import Format
from aggregator.core.quoting import cut
from aggregator.errors import NotAcceptable
from aggregator.route import NO_CACHE

JSON = Format.JSON.value
CLOUD_EVENT = Format.CLOUD_EVENT.value
CLOUD_EVENTS = Format.CLOUD_BATCH.value
PROBLEM = "application/problem+json"
"""The media type of every error (RFC 9457)."""

NEGOTIATED = {"Vary": "Accept", **NO_CACHE}
"""The same for what is answered in several media types."""

_RENAMED = {413: "Content Too Large", 422: "Unprocessable Content"}  # Python before 3.13 has others
_RANGE = re.compile(r"\s*([^\s;/,]+/[^\s;/,]+)\s*(;.*)?", re.DOTALL)
_WEIGHT = re.compile(r";\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*(?:;|$)", re.IGNORECASE)


class Answer(msgspec.Struct, kw_only=True):
    """The base of what is answered as JSON. A member is left out only where it is UNSET.

    Its docstring and the `Meta` of its members are its description in `/openapi.json`.
    """


class Problem(Answer, kw_only=True):
    """What went wrong (RFC 9457)."""

    title: Annotated[str, Meta(description="The name of the status.")]
    status: Annotated[int, Meta(ge=0, description="The status, once more.")]
    detail: Annotated[str, Meta(description="What is wrong, and what can be done about it.")]


Count = Annotated[int, Meta(ge=0)]
Seq = Annotated[int, Meta(ge=0, description="The place among all stored events; it only grows.")]
DateTime = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Base64 = Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]
Digest = Annotated[str, Meta(pattern="^([0-9a-f]{34})?$")]
AsSent = Annotated[str, Meta(description="As it was sent.")]
JsonPointers = Sequence[Annotated[str, Meta(description="A JSON pointer into the event.")]]
Next = Annotated[
    str | None, Meta(description="The `after` of the next page; null where there is none.")
]


def json_response(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None, media_type: str = JSON
) -> web.Response:
    """An answer whose body is that value as JSON."""
    encoded = msgspec.json.encode(body)
    return FastResponse(body=encoded, status=status, headers=headers, content_type=media_type)


class ProblemResponse(web.Response):
    """An error as problem details."""

    detail = ""
    """The same as in the body."""
    kind = ""
    """The name of the error, for the operator's numbers: `rate_exceeded`."""


def problem_response(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    members: Answer | None = None,
) -> ProblemResponse:
    """An error as problem details; the members of another answer are added to them."""
    detail = detail.encode(errors="backslashreplace").decode()  # it may quote a header
    body = msgspec.json.encode(
        Problem(title=_RENAMED.get(status, HTTPStatus(status).phrase), status=status, detail=detail)
    )
    if members is not None:
        body = body[:-1] + b"," + msgspec.json.encode(members)[1:]  # two objects become one
    answer = ProblemResponse(body=body, status=status, headers=headers, content_type=PROBLEM)
    answer.detail = detail
    return answer


def next_after(after: int | None) -> str | None:
    """The member `next` of a page: the `after` of the page that follows; None at the end."""
    return None if after is None else str(after)


def next_link(request: web.Request, after: str | None) -> dict[str, str]:
    """The header that leads to the next page, if there is one.

    Relative to the request, so that it holds behind any prefix of a path.
    """
    if after is None:
        return {}
    return {"Link": link_header(url("", {**request.query, "after": after}), rel="next")}


def link_header(*urls: str, rel: str) -> str:
    """The value of the header `Link` (RFC 8288) for links of one relation."""
    return ", ".join(f'<{target}>; rel="{rel}"' for target in urls)


def url(path: str, parameters: Mapping[str, str]) -> str:
    """The path with query parameters."""
    return f"{path}?{urlencode(parameters, quote_via=quote, safe='')}"


class _Range(NamedTuple):
    """One media range of the header `Accept`."""

    pattern: str
    weight: float


def negotiate(request: web.Request, media_types: Sequence[str]) -> str:
    """The media type that the request accepts best (RFC 9110, 12.5.1); of equals the first.

    A request without `Accept` takes anything. Raises NotAcceptable.
    """
    said = ",".join(request.headers.getall("Accept", []))
    ranges = [found for part in said.split(",") if (found := _range(part))]
    if not ranges:
        return media_types[0]
    weights = {media_type: _weight(media_type, ranges) for media_type in media_types}
    best = max(media_types, key=weights.__getitem__)
    if not weights[best]:
        offered = ", ".join(media_types)
        raise NotAcceptable(f"{cut(request.path)} is answered as {offered}, not as {cut(said)}.")
    return best


def _range(part: str) -> _Range | None:
    """The media range in one part of the header; None where it cannot be read."""
    match = _RANGE.fullmatch(part)
    if not match:
        return None
    weight = _WEIGHT.search(match[2] or "")
    return _Range(match[1].lower(), float(weight[1]) if weight else 1.0)


def _weight(media_type: str, ranges: Sequence[_Range]) -> float:
    """The weight of the most specific of the ranges that the media type is in."""
    kind = media_type.partition("/")[0]
    for pattern in (media_type, f"{kind}/*", "*/*"):
        weights = [found.weight for found in ranges if found.pattern == pattern]
        if weights:
            return max(weights)
    return 0.0
