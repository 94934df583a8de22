"""`POST /publish`: takes events, and answers when each is stored or told why it is not."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from aiohttp import web
from msgspec import UNSET, Meta, UnsetType
from multidict import istr

from aggregator.access import EVERYTHING, Access, access_of
from aggregator.api.client_address import Clients
from aggregator.api.rates import ClientRates, RateLimits
from aggregator.api.request.decoder import RequestContext
from aggregator.api.request.media_type import header_text
from aggregator.api.request.parsed_event import LONGEST_NAME
from aggregator.api.request.receiver import Receiver
from aggregator.api.responses import (
    Answer,
    Count,
    DateTime,
    Digest,
    JsonPointers,
    Next,
    Seq,
    json_response,
    problem_response,
)
from aggregator.api.sending import SMALL, Sender
from aggregator.core import timestamp
from aggregator.core.budget import Budget, Reservation
from aggregator.core.quoting import cut
from aggregator.core.tokens import Scope
from aggregator.errors import InsufficientScope, RequestError
from aggregator.event import Event, Submission, Verdict
from aggregator.outcome import Conflict, Duplicate, Fault, Filtered, Invalid, Refused, Stored
from aggregator.pipeline.intake import Intake, new_submission_id

_PREFER = istr("Prefer")
# Possessive, and a quote that never closes is taken to the end: no header is gone through twice.
_PREFERENCE = re.compile(r'(?:[^",]++|"(?:\\.|[^"\\])*+(?:"|\\?\Z))++', re.DOTALL)
_MOST_FAULTS = 5_000  # told in one answer
_RESULT_BYTES = 256  # of an answer, for one event, about
_MAY_BE_REFUSED = {Conflict, Invalid, Refused}
_Kinds = Sequence[type[Verdict]]


@dataclass(frozen=True)
class PublishHandler:
    """Answers `POST /publish`."""

    receiver: Receiver
    intake: Intake
    budget: Budget
    sender: Sender
    clients: Clients
    rates: RateLimits
    has_quarantine: bool = True
    """Without one nobody is answered early: what fails then would show nowhere."""

    async def publish(self, request: web.Request) -> web.StreamResponse:
        """Take events; answer when each is stored, or tell why it is not."""
        # The events are gone while the answer is sent: a slow client would hold them as well.
        return await self.sender.send(request, await self._response(request))

    async def _response(self, request: web.Request) -> web.Response:
        self.intake.check_ready()
        client = self.clients.of(request)
        self.sender.budget.check_room(client)
        preferences = Preferences.of(request.headers.getall(_PREFER, ()))
        if preferences.is_async and not self.has_quarantine:
            preferences = replace(preferences, is_async=False)
        access = access_of(request)
        if rates := self.rates.of(client, access):
            rates.check(request)
        with self.budget.reserve(client) as reservation:
            headers = self._key_headers(request)
            context = RequestContext(new_submission_id(), timestamp.now(), headers)
            submission = Submission(
                context.submission,
                await self._receive(request, context, reservation, rates),
                is_strict=preferences.is_strict,
                respond_async=preferences.is_async,
                headers=headers,
            )
            if access.token is not None:
                _keep_out(submission, access)
            with self.sender.budget.reserve(client) as results:  # before anything is stored
                if (size := _RESULT_BYTES * len(submission.events)) > SMALL:
                    results.take(size)
                settled = await self.intake.take(submission, reservation)
        if preferences.is_async:
            answer = _accepted_response(submission)
        else:
            if rates:
                rates.note_conflicts(settled)
            answer = settled_response(settled, access, is_minimal=preferences.is_minimal)
        if preferences is not NO_PREFERENCES:
            answer.headers.update(preferences.applied)
        return answer

    async def _receive(
        self,
        request: web.Request,
        context: RequestContext,
        reservation: Reservation,
        rates: ClientRates | None,
    ) -> list[Event]:
        """The events of the request, held to the client's rates. Raises RequestError."""
        if rates is None:
            return await self.receiver.receive(request, context, reservation)
        try:
            events = await self.receiver.receive(request, context, reservation)
        except RequestError:
            rates.note_refused(request)
            raise
        rates.take(request, len(events))
        return events

    def _key_headers(self, request: web.Request) -> dict[str, str]:
        if not (wanted := self.receiver.decoder.policies.headers):
            return {}
        return {
            name: ", ".join(map(header_text, request.headers.getall(name)))
            for name in wanted
            if name in request.headers
        }


def _keep_out(submission: Submission, access: Access) -> None:
    """Refuse the events that the publisher's token is not for, each by itself.

    Raises InsufficientScope where none of them may pass; or where any may not, and they stand or
    fall together, or nobody waits to be told.
    """
    refused = []
    for event in submission.events:
        source = event.source if event.digest else None  # of what is no event nothing is known
        if event.topic and (why := access.why_not(event.topic, source)):
            refused.append((event, why))
    is_whole = submission.is_strict or submission.respond_async
    if refused and (is_whole or len(refused) == len(submission.events)):
        raise InsufficientScope(refused[0][1])
    for event, why in refused:
        event.overrule(Refused(why))


@dataclass(frozen=True)
class Preferences:
    """What a publisher prefers, by the header `Prefer` (RFC 7240).

    Preferences that are not known, or have a value that is not, are passed over.
    """

    is_strict: bool = False
    is_lenient: bool = False
    is_minimal: bool = False
    is_async: bool = False

    @classmethod
    def of(cls, headers: Sequence[str]) -> "Preferences":
        """Read the headers; of a preference that is given twice the first one counts."""
        if not headers:
            return NO_PREFERENCES
        given: dict[str, str] = {}
        for name, value in _given(headers):
            given.setdefault(name, value)
        is_strict = given.get("handling") == "strict"
        return cls(
            is_strict=is_strict,
            is_lenient=given.get("handling") == "lenient",
            is_minimal=given.get("return") == "minimal",
            is_async=given.get("respond-async") == "" and not is_strict,
        )

    @property
    def applied(self) -> dict[str, str]:
        """The header that says which of them were kept."""
        kept = {
            "respond-async": self.is_async,
            "return=minimal": self.is_minimal and not self.is_async,
            "handling=strict": self.is_strict,
            "handling=lenient": self.is_lenient,
        }
        told = ", ".join(name for name, is_kept in kept.items() if is_kept)
        return {"Preference-Applied": told} if told else {}


NO_PREFERENCES = Preferences()
"""Those of a request without the header."""


def _given(headers: Sequence[str]) -> Iterator[tuple[str, str]]:
    for preference in _PREFERENCE.findall(",".join(headers)):
        name, _, value = preference.partition(";")[0].partition("=")
        yield name.strip().lower(), value.strip().strip('"').lower()


_Topic = Annotated[
    str,
    Meta(
        description="As it was sent, cut where it is too long; left out where it could not be read."
    ),
]
_QuarantineId = Annotated[Count, Meta(description="Under which id it was in quarantine.")]


class Result(Answer):
    """What became of one event."""

    index: Annotated[Count, Meta(description="The place of the event in the request, from 0.")]
    topic: _Topic | UnsetType = UNSET
    event_id: _Topic | UnsetType = UNSET


class StoredResult(Result, kw_only=True):
    """New, and stored."""

    status: Literal["stored"] = "stored"
    seq: Seq
    quarantine_id: _QuarantineId | UnsetType = UNSET


class DuplicateResult(Result, kw_only=True):
    """The same event is stored already."""

    status: Literal["duplicate"] = "duplicate"
    seq: Seq | UnsetType = UNSET
    received_at: Annotated[DateTime | UnsetType, Meta(description="When the stored one came.")] = (
        UNSET
    )
    quarantine_id: _QuarantineId | UnsetType = UNSET


class ConflictResult(Result, kw_only=True):
    """Another content is stored under the key, and is kept.

    Whoever may not read it is told no more than that.
    """

    status: Literal["conflict"] = "conflict"
    seq: Seq | UnsetType | None = UNSET
    received_at: Annotated[DateTime | UnsetType, Meta(description="When the other one came.")] = (
        UNSET
    )
    differences: Annotated[
        JsonPointers | UnsetType, Meta(description="The first places that differ.")
    ] = UNSET
    digest: Annotated[Digest | UnsetType, Meta(description="The digest of this content.")] = UNSET
    stored_digest: Annotated[
        Digest | UnsetType, Meta(description="The digest of the other one.")
    ] = UNSET
    detail: Annotated[str | UnsetType, Meta(description="What is special about the other one.")] = (
        UNSET
    )
    quarantine_id: _QuarantineId | UnsetType = UNSET


class InvalidResult(Result, kw_only=True):
    """Not an event that is taken."""

    status: Literal["invalid"] = "invalid"
    errors: Sequence[Fault]
    quarantine_id: _QuarantineId | UnsetType = UNSET


class FilteredResult(Result, kw_only=True):
    """Kept out on purpose."""

    status: Literal["filtered"] = "filtered"
    reason: Annotated[str, Meta(description="Why.")]
    quarantine_id: _QuarantineId | UnsetType = UNSET


class RefusedResult(Result, kw_only=True):
    """Good, but another event of its strict request was not; or not for its publisher to send."""

    status: Literal["refused"] = "refused"
    reason: Annotated[str | UnsetType, Meta(description="Why its publisher may not.")] = UNSET
    quarantine_id: _QuarantineId | UnsetType = UNSET


AnyResult = (
    StoredResult | DuplicateResult | ConflictResult | InvalidResult | FilteredResult | RefusedResult
)


class Counts(Answer, kw_only=True):
    """How many events of a request ended in which way."""

    received: Annotated[
        Count, Meta(description="All events of the request; the sum of the others.")
    ]
    stored: Annotated[Count, Meta(description="New, and stored.")]
    duplicates: Annotated[Count, Meta(description="Stored already.")]
    conflicts: Annotated[
        Count, Meta(description="Of another content than the one stored under the same key.")
    ]
    invalid: Annotated[Count, Meta(description="Not taken, for the errors in their results.")]
    filtered: Annotated[Count, Meta(description="Kept out by a stage on purpose.")]
    refused: Annotated[
        Count | UnsetType,
        Meta(description="Good, but not taken with others, or not for its publisher to send."),
    ] = UNSET


_Results = Annotated[
    Sequence[Result],
    Meta(description="One an event, in order; where `return=minimal`, those refused."),
]


class Envelope(Counts, kw_only=True):
    """What became of the events of a request: how many ended in which way, and each of them."""

    results: _Results | UnsetType = UNSET


class Release(Counts, kw_only=True):
    """What became of the events that were released."""

    next: Next
    results: _Results


class Accepted(Answer, kw_only=True):
    """The events are accepted; what becomes of them is not waited for."""

    received: Annotated[Count, Meta(description="All events of the request.")]
    submission: Annotated[str, Meta(description="The id of the request.")]
    failures: Annotated[str, Meta(description="Where those events show that could not be stored.")]


def settled_response(
    submission: Submission, access: Access = EVERYTHING, *, is_minimal: bool = False
) -> web.Response:
    """The answer once all is settled; a minimal one tells only of what was refused.

    It tells no more than the publisher may know of what was there before.
    """
    kinds = [type(event.verdict) for event in submission.events]
    refused = _refused(submission, kinds)
    results = _results(refused if is_minimal else submission.events, submission.released, access)
    body = Envelope(
        **_counts(submission, kinds),
        results=results if results or not is_minimal else UNSET,
    )
    return _respond(submission, refused, body)


def released_response(submission: Submission, access: Access, after: str | None) -> web.Response:
    """The answer once all that was released is settled; the next page begins behind `after`."""
    kinds = [type(event.verdict) for event in submission.events]
    results = _results(submission.events, submission.released, access)
    body = Release(**_counts(submission, kinds), next=after, results=results)
    return _respond(submission, _refused(submission, kinds), body)


def _accepted_response(submission: Submission) -> web.Response:
    """The answer while nothing is settled: how many events were taken, and where failures show."""
    body = Accepted(
        received=len(submission.events),
        submission=submission.id,
        failures=f"/quarantine?submission={submission.id}",
    )
    return json_response(body, 202)


def _respond(
    submission: Submission, refused: Sequence[Event], body: Envelope | Release
) -> web.Response:
    status = _status(submission, refused)
    if status < 400:
        return json_response(body, status)
    return problem_response(status, _why(submission, status), members=body)


def _refused(submission: Submission, kinds: _Kinds) -> list[Event]:
    """The events that are refused, looked for where there may be some."""
    if _MAY_BE_REFUSED.isdisjoint(kinds):
        return []
    return [event for event in submission.events if submission.refuses(event)]


def _status(submission: Submission, refused: Sequence[Event]) -> int:
    """200; 207 if some were refused; 422 if all were, or 409 if all of those were conflicts."""
    if not refused:
        return 200
    if len(refused) < len(submission.events) and not submission.is_strict:
        return 207
    blamed = [event for event in refused if not isinstance(event.outcome, Refused)]
    return 409 if all(isinstance(event.outcome, Conflict) for event in blamed) else 422


def _why(submission: Submission, status: int) -> str:
    if submission.is_strict:
        cause = "conflicts with what is stored" if status == 409 else "is invalid"
        return f"No event was stored: handling is strict, and one {cause}, as results say."
    return "No event was stored: each is refused, for the reasons given in results."


def _counts(submission: Submission, kinds: _Kinds) -> dict[str, int]:
    told = {
        "received": len(kinds),
        "stored": kinds.count(Stored),
        "duplicates": kinds.count(Duplicate),
        "conflicts": kinds.count(Conflict),
        "invalid": kinds.count(Invalid),
        "filtered": kinds.count(Filtered),
    }
    if submission.is_strict or Refused in kinds:
        told["refused"] = kinds.count(Refused)
    return told


def _results(events: Sequence[Event], released: Sequence[int], access: Access) -> list[AnyResult]:
    """One result for each event; past _MOST_FAULTS only the first fault of each further event."""
    results: list[AnyResult] = [
        StoredResult(
            event.index, _shown(event.topic), _shown(event.event_id), seq=event.verdict.seq
        )
        if type(event.verdict) is Stored  # nearly every one
        else _result(event)
        for event in events
    ]
    if not (access.has(Scope.READ) and access.is_of_all_topics):
        results = [
            result if access.reads(event.topic) else _cut(result, access)
            for result, event in zip(results, events, strict=True)
        ]
    told = 0
    for result in results:
        if type(result) is InvalidResult:
            result.errors = result.errors[: 1 if told > _MOST_FAULTS else None]
            told += len(result.errors)
    for result in results if released else ():
        result.quarantine_id = released[result.index]
    return results


def _cut(result: AnyResult, access: Access) -> AnyResult:
    """The result without what it tells of contents that the publisher may not read.

    A duplicate of a publisher who can send one source only was stored from that source.
    """
    place = result.index, result.topic, result.event_id
    if type(result) is ConflictResult:
        return ConflictResult(*place)
    if type(result) is DuplicateResult and not access.is_pinned:
        return DuplicateResult(*place)
    return result


def _shown(name: str) -> str | UnsetType:
    if len(name) > LONGEST_NAME:
        return cut(name, LONGEST_NAME)
    return name or UNSET


def _result(event: Event) -> AnyResult:
    place = event.index, _shown(event.topic), _shown(event.event_id)
    match event.verdict:
        case Duplicate(seq=seq, received_at=received_at):
            return DuplicateResult(*place, seq=seq, received_at=timestamp.rfc_3339(received_at))
        case Conflict() as conflict:
            return ConflictResult(
                *place,
                seq=conflict.seq,
                received_at=timestamp.rfc_3339(conflict.received_at),
                differences=conflict.differences,
                digest=conflict.digest.hex(),
                stored_digest=conflict.stored_digest.hex(),
                detail=_about(conflict),
            )
        case Invalid(faults=faults):
            return InvalidResult(*place, errors=faults)
        case Filtered(reason=reason):
            return FilteredResult(*place, reason=reason)
    assert isinstance(event.verdict, Refused)
    return RefusedResult(*place, reason=event.verdict.reason or UNSET)


def _about(conflict: Conflict) -> str | UnsetType:
    if conflict.is_emptied:
        return "The stored payload is kept no more: only the digests can be compared."
    if conflict.seq is None:
        return "It conflicts with an event of this request, which is not stored either."
    return UNSET
