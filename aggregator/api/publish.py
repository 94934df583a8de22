"""`POST /publish`: takes events, and answers when each is stored or told why it is not."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType
from multidict import istr

from aggregator.api.responses import json_response, problem_response
from aggregator.api.sending import Sender
from aggregator.core import timestamp
from aggregator.core.budget import ByteBudget
from aggregator.errors import Unparsable
from aggregator.event import Event, Submission, Verdict
from aggregator.outcome import (
    Conflict,
    Duplicate,
    Fault,
    Filtered,
    Invalid,
    Outcome,
    Refused,
    Stored,
)
from aggregator.pipeline.intake import Intake, new_submission_id
from aggregator.receiving.decode import Arrival
from aggregator.receiving.receiver import Receiver

_PREFER = istr("Prefer")
_NOT_UTF8 = re.compile("[\ud800-\udfff]")  # what aiohttp makes of such bytes
# Possessive, and a quote that never closes is taken to the end: no header is gone through twice.
_PREFERENCE = re.compile(r'(?:[^",]++|"(?:\\.|[^"\\])*+(?:"|\\?\Z))++', re.DOTALL)
_MOST_FAULTS = 5_000  # told in one answer
_MAY_BE_REFUSED = {Conflict, Invalid, Refused}
_Kinds = Sequence[type[Verdict]]


@dataclass(frozen=True)
class PublishHandler:
    """Answers `POST /publish`."""

    receiver: Receiver
    intake: Intake
    budget: ByteBudget
    sender: Sender

    def routes(self) -> list[web.RouteDef]:
        """The routes of this handler."""
        return [web.post("/publish", self.publish)]

    async def publish(self, request: web.Request) -> web.StreamResponse:
        """Take events; answer when each is stored, or tell why it is not."""
        self.intake.check_ready()
        self.sender.check_room()
        preferences = Preferences.of(request.headers.getall(_PREFER, ()))
        with self.budget.reserve() as reservation:
            headers = self._key_headers(request)
            arrival = Arrival(new_submission_id(), timestamp.now(), headers)
            submission = Submission(
                arrival.submission,
                await self.receiver.receive(request, arrival, reservation),
                is_strict=preferences.is_strict,
                respond_async=preferences.is_async,
                headers=headers,
            )
            settled = await self.intake.take(submission, reservation)
        if preferences.is_async:
            answer = _accepted_response(submission)
        else:
            answer = settled_response(settled, is_minimal=preferences.is_minimal)
        if preferences is not NO_PREFERENCES:
            answer.headers.update(preferences.applied)
        return await self.sender.send(request, answer)

    def _key_headers(self, request: web.Request) -> dict[str, str]:
        if not (wanted := self.receiver.decoder.policies.headers):
            return {}
        sent = {
            name: ", ".join(request.headers.getall(name))
            for name in wanted
            if name in request.headers
        }
        for name, value in sent.items():
            if _NOT_UTF8.search(value):
                raise Unparsable(f"The header {name}, which keys are made of, is not UTF-8.")
        return sent


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


class _Result(msgspec.Struct, omit_defaults=True):
    """What is told of one event, in this order."""

    index: int
    topic: str = ""
    event_id: str = ""
    status: str = ""
    seq: int | UnsetType | None = UNSET
    received_at: str | UnsetType = UNSET
    differences: Sequence[str] | UnsetType = UNSET
    digest: str | UnsetType = UNSET
    stored_digest: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    errors: Sequence[Fault] | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    quarantine_id: int | UnsetType = UNSET


def settled_response(
    submission: Submission,
    *,
    is_minimal: bool = False,
    members: Mapping[str, Any] | None = None,
) -> web.Response:
    """The answer once all is settled; a minimal one tells only of what was refused."""
    kinds = [type(event.verdict) for event in submission.events]
    refused = _refused(submission, kinds)
    results = _results(refused if is_minimal else submission.events, submission.released)
    told: dict[str, Any] = {**_counts(submission, kinds), **(members or {})}
    if results or not is_minimal:
        told["results"] = results
    status = _status(submission, refused)
    if status < 400:
        return json_response(told, status)
    return problem_response(status, _why(submission, status), members=told)


def _accepted_response(submission: Submission) -> web.Response:
    """The answer while nothing is settled: how many events were taken, and where failures show."""
    return json_response(
        {
            "received": len(submission.events),
            "submission": submission.id,
            "failures": f"/quarantine?submission={submission.id}",
        },
        202,
    )


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
    if submission.is_strict:
        told["refused"] = kinds.count(Refused)
    return told


def _results(events: Sequence[Event], released: Sequence[int]) -> list[_Result]:
    """One an event; once many faults are told, only the first of each further event."""
    results = [
        _Result(event.index, event.topic, event.event_id, Stored.status, verdict.seq)
        if type(verdict := event.verdict) is Stored  # nearly every one
        else _result(event)
        for event in events
    ]
    told = 0
    for result in results:
        if result.errors:
            result.errors = result.errors[: 1 if told > _MOST_FAULTS else None]
            told += len(result.errors)
    for result in results if released else ():
        result.quarantine_id = released[result.index]
    return results


def _result(event: Event) -> _Result:
    outcome = event.verdict
    assert isinstance(outcome, Outcome)
    result = _Result(event.index, event.topic, event.event_id, outcome.status)
    match outcome:
        case Duplicate(seq=seq, received_at=received_at):
            result.seq = seq
            result.received_at = timestamp.rfc_3339(received_at)
        case Conflict():
            _tell(outcome, result)
        case Invalid(faults=faults):
            result.errors = faults
        case Filtered(reason=reason):
            result.reason = reason
    return result


def _tell(conflict: Conflict, result: _Result) -> None:
    result.seq = conflict.seq
    result.received_at = timestamp.rfc_3339(conflict.received_at)
    result.differences = conflict.differences
    result.digest = conflict.digest.hex()
    result.stored_digest = conflict.stored_digest.hex()
    if conflict.seq is None:
        result.detail = "It conflicts with an event of this request, which is not stored either."
    if conflict.is_emptied:
        result.detail = "The stored payload is kept no more: only the digests can be compared."
