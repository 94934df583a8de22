"""What the service promises to answer, and whether an answer to a batch keeps it."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from loadgen.plan import Batch


class Result(msgspec.Struct, kw_only=True):
    index: int
    status: str
    topic: Any = None
    event_id: Any = None
    seq: int | None = None


class Answer(msgspec.Struct):
    """The answer to ``POST /publish``."""

    received: int
    stored: int
    duplicates: int
    results: list[Result]


class Stats(msgspec.Struct):
    """The part of ``GET /stats`` that a run is judged by."""

    received_total: int
    unique_processed: int
    duplicate_dropped: int
    queue_size_current: int
    processed_topics: list[str]
    uptime_seconds: float


class StoredEvent(msgspec.Struct):
    """An event as ``GET /events`` gives it; perhaps another publisher's, and unlike ours."""

    seq: int
    topic: str
    event_id: str
    timestamp: str | None = None
    source: str | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")


class Page(msgspec.Struct):
    events: list[StoredEvent]
    next: str | None


class Problem(msgspec.Struct):
    """The part of an RFC 9457 problem that is worth repeating to the user."""

    title: str = ""
    detail: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.title, self.detail)))


decode_answer = msgspec.json.Decoder(Answer).decode
decode_stats = msgspec.json.Decoder(Stats).decode
decode_page = msgspec.json.Decoder(Page).decode


def decode_problem(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body, type=Problem))
    except msgspec.DecodeError:
        return ""


def faults_in(answer: Answer, batch: Batch) -> Iterator[str]:
    """Each way in which the answer is not one good result for each event of the batch."""
    if answer.received != len(batch):
        yield "an answer's `received` is not the number of events sent"
    if [result.index for result in answer.results] != list(range(len(batch))):
        yield "an answer has not exactly one result for each event"
        return
    statuses = Counter(result.status for result in answer.results)
    if (answer.stored, answer.duplicates) != (statuses["stored"], statuses["duplicate"]):
        yield "an answer's counts are not those of its results"
    for event, result in zip(batch, answer.results, strict=True):
        if result.status not in ("stored", "duplicate"):
            yield f"events were answered `{result.status}`"
        elif (result.topic, result.event_id) != event.key:
            yield "results name another event than the one sent"
        elif result.seq is None:
            yield "results have no `seq`"
