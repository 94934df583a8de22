"""The journal of every answer to a publish: what was promised, and what contradicts it."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import aiohttp
import msgspec

from aggregator.client import Client, ClientError, EventResult, PublishAnswer
from aggregator.prove.faults import HELD, SAID, Life, Trouble
from aggregator.prove.workload import QUARANTINING, Request, Sent

_GONE, _FAILED, _UNAVAILABLE = 404, 500, 503
_FULL = "are under way (queue_events)"
_NUMBER = msgspec.json.Decoder(int)
_MOST_TIMES = 5  # that the store fails over one submission
_SHOWN = 300  # bytes of an answer
_LAST = 500  # events; those acknowledged last are the ones that a kill is most likely to lose


class Promise(Enum):
    """What the service promises, as far as kills can test it; each can be broken by itself."""

    STORED = "an answer means stored"
    ONCE = "each event is stored once"
    SAME = "what was answered stays true"
    COUNTED = "the numbers add up"
    TRACELESS = "what is not stored leaves no trace"
    READ = "a reader gets every event once and in order"
    ANSWERED = "every event is answered"
    ROOM = "what was taken up is given back"
    READY = "a kill needs no repair"


class Breach(NamedTuple):
    """One way in which a promise was broken, how often, and the first case of it."""

    promise: Promise
    how: str
    times: int
    example: str

    def __str__(self) -> str:
        often = f" ({self.times:,} times)" if self.times > 1 else ""
        return f"«{self.promise.value}» is broken: {self.how}{often}, such as {self.example}"


class Breaches:
    """Every broken promise that was found."""

    def __init__(self) -> None:
        self._times: Counter[tuple[Promise, str]] = Counter()
        self._examples: dict[tuple[Promise, str], str] = {}

    def __bool__(self) -> bool:
        return bool(self._times)

    def __iter__(self) -> Iterator[Breach]:
        order = list(Promise)
        for promise, how in sorted(self._times, key=lambda breach: order.index(breach[0])):
            yield Breach(promise, how, self._times[promise, how], self._examples[promise, how])

    def note(self, promise: Promise, how: str, example: object) -> None:
        """Add one. Those with the same `how` are counted together."""
        self._times[promise, how] += 1
        self._examples.setdefault((promise, how), str(example))


@dataclass(frozen=True)
class Counts:
    """How all events were answered, or those of one topic."""

    answered: Counter[str] = field(default_factory=Counter)
    """By status."""
    uncertain: Counter[str] = field(default_factory=Counter)
    """By kind, those in requests without an answer: the service may have counted them or not."""
    accepted: Counter[str] = field(default_factory=Counter)
    """By kind, those answered 202: what became of them was not told."""

    def copy(self) -> "Counts":
        """A copy that does not grow."""
        return Counts(self.answered.copy(), self.uncertain.copy(), self.accepted.copy())

    def since(self, before: "Counts") -> "Counts":
        """What was added since that copy was made."""
        return Counts(
            self.answered - before.answered,
            self.uncertain - before.uncertain,
            self.accepted - before.accepted,
        )

    def leeway(self, *kinds: str) -> int:
        """Events of these kinds that the service may have counted in whatever way."""
        return sum(self.uncertain[kind] + self.accepted[kind] for kind in kinds)


class Accepted:
    """The events that were answered 202: each is stored, set aside, or lost by a kill alone."""

    def __init__(self) -> None:
        self.total = 0
        self.open: list[Sent] = []
        """Those of this life of the service, which nobody has seen settled yet."""
        self.doubtful: set[Sent] = set()
        """Those that were open when it was killed."""
        self.owed: set[Sent] = set()
        """Those that were seen settled."""
        self._names: set[str] = set()

    def add(self, request: Request) -> None:
        """The events of this request were accepted."""
        self.total += len(request.events)
        self.open += request.events
        self._names.update(sent.name for sent in request.events if sent.kind == "good")

    def __contains__(self, name: str) -> bool:
        """Whether a good event of that name was accepted."""
        return name in self._names

    def killed(self) -> None:
        """The service was killed: what was open may be lost."""
        self.doubtful.update(self.open)
        self.open.clear()

    def settled(self) -> None:
        """Nothing is under way any more."""
        self.owed.update(self.open)
        self.open.clear()


class Journal:
    """Which events were acknowledged, under which seq, and what was answered otherwise."""

    def __init__(self) -> None:
        self.breaches = Breaches()
        self.seqs: dict[str, int] = {}
        """The seq of each acknowledged event, by its name."""
        self.last_acknowledged: deque[str] = deque(maxlen=_LAST)
        self.received_at: dict[str, str] = {}
        """By name: when the event came first, as far as an answer has told."""
        self.counts = Counts()
        self.topics: defaultdict[str, Counts] = defaultdict(Counts)
        self.requests = 0
        self.duplicates: Counter[str] = Counter()
        """How often each event was answered so, by its name."""
        self.conflicts: Counter[str] = Counter()
        """The same for conflicts."""
        self.uncertain: Counter[str] = Counter()
        """How often each event was sent in a request that got no answer, or a 202."""
        self.set_aside: Counter[Sent] = Counter()
        """How often each event was told to be such that it is kept in quarantine."""
        self.maybe_set_aside: Counter[Sent] = Counter()
        """The same, where it was not told."""
        self.accepted = Accepted()
        self.stored_again: set[str] = set()
        """Events answered `stored` though they were acknowledged before: lost, or doubled."""
        self._stored: set[str] = set()
        self.life = Life(Trouble.NONE)
        """What the service is like just now."""

    @property
    def is_consistent(self) -> bool:
        """Whether no answer contradicts another one or breaks a promise."""
        return not self.breaches and not self.stored_again

    def acknowledged_in(self, request: Request) -> set[str]:
        """Those of its events that are acknowledged. To be asked before it is sent."""
        return {one.name for one in request.events if one.name in self.seqs}

    def record(self, request: Request, answer: PublishAnswer, known: set[str]) -> None:
        """Record an answer; `known` is what was acknowledged before the request was sent."""
        self.requests += 1
        if [result.index for result in answer.results] != list(range(len(request.events))):
            self.breaches.note(Promise.ANSWERED, "not one result for each event", answer)
            return
        for sent, result in zip(request.events, answer.results, strict=True):
            self._count(sent, result)
            if result.status in _expected(sent, request):
                self._record_result(sent.name, result, known)
            else:
                self._record_contradiction(sent, result, known)

    def record_unanswered(self, request: Request) -> None:
        """Record that there was no answer, or one that leaves open what became of the events."""
        for sent in request.events:
            for counts in (self.counts, self.topics[sent.topic]):
                counts.uncertain[sent.kind] += 1
            self._note_uncertain(sent)

    def record_accepted(self, request: Request) -> None:
        """Record a 202: what becomes of its events shows later."""
        self.requests += 1
        self.accepted.add(request)
        # Where a store fails after it has committed, what was answered 202 is settled once more.
        times = _MOST_TIMES if self.life.trouble is Trouble.STORE else 1
        for sent in request.events:
            for counts in (self.counts, self.topics[sent.topic]):
                counts.accepted[sent.kind] += times
            self._note_uncertain(sent, times)

    def check_told(self) -> None:
        """Check that nothing is stored but what was said so, or nothing was said about."""
        for name in self.seqs.keys() - self._stored - self.uncertain.keys():
            how = "an event is a duplicate of one whose requests were all told to have failed"
            self.breaches.note(Promise.TRACELESS, how, name)

    def _note_uncertain(self, sent: Sent, times: int = 1) -> None:
        self.maybe_set_aside[sent] += times
        if not sent.is_invalid:
            self.uncertain[sent.name] += times

    def _count(self, sent: Sent, result: EventResult) -> None:
        for counts in (self.counts, self.topics[sent.topic]):
            counts.answered[result.status] += 1
        if self._is_set_aside(sent, result):
            self.set_aside[sent] += 1
        if result.status == "duplicate":
            self.duplicates[sent.name] += 1
        elif result.status == "conflict":
            self.conflicts[sent.name] += 1

    def _is_set_aside(self, sent: Sent, result: EventResult) -> bool:
        if result.quarantine_id is not None:  # released, and in quarantine already
            return False
        if result.status == "conflict":
            return sent.topic == QUARANTINING
        return result.status == "invalid" and self.life.keeps_invalid

    def _record_result(self, event_id: str, result: EventResult, known: set[str]) -> None:
        if result.status in ("invalid", "refused"):
            return
        if result.status == "stored":
            if event_id in known or event_id in self._stored:
                self.stored_again.add(event_id)
            self._stored.add(event_id)
        if result.seq is None:
            self.breaches.note(Promise.ANSWERED, "no seq", _shown(event_id, result))
        elif event_id not in self.seqs:
            self.seqs[event_id] = result.seq
            self.last_acknowledged.append(event_id)
        elif self.seqs[event_id] != result.seq:
            how = "an event was answered with two different seqs"
            self.breaches.note(Promise.SAME, how, _shown(event_id, result))
        elif result.received_at:
            self.record_received_at(event_id, result.received_at)

    def record_received_at(self, event_id: str, at: str) -> None:
        """Record when an acknowledged event came first, as an answer or the store says."""
        if at != (told := self.received_at.setdefault(event_id, at)):
            how = "an event is said to have come at two different times"
            self.breaches.note(Promise.SAME, how, f"{event_id}, at {told} and {at}")

    def _record_contradiction(self, sent: Sent, result: EventResult, known: set[str]) -> None:
        if sent.name in known and result.status == "stored":
            how = "another content took the place of an acknowledged event"
        else:
            how = f"an event that is {sent.kind} was answered `{result.status}`"
        self.breaches.note(Promise.SAME, how, _shown(sent.name, result))


def _expected(sent: Sent, request: Request) -> tuple[str, ...]:
    if sent.is_invalid:
        return ("invalid",)
    if sent.is_conflicting:
        return ("conflict",)
    return ("duplicate", "refused") if request.is_refused else ("stored", "duplicate")


def _shown(event_id: str, result: EventResult) -> str:
    return f"{event_id} (answered `{result.status}`, seq {result.seq})"


class JournaledClient(Client):
    """A client that records the outcome of each publish in the journal."""

    def __init__(self, http: aiohttp.ClientSession, journal: Journal) -> None:
        super().__init__(http, url="")
        self.journal = journal

    async def send(self, request: Request) -> None:
        """Publish it once. Raises ClientError if there are no results."""
        acknowledged = self.journal.acknowledged_in(request)
        try:
            if request.is_async:
                await self.publish_async(request.body)
                self.journal.record_accepted(request)
            else:
                answer = await self.publish(request.body, is_strict=request.is_strict)
                self.journal.record(request, answer, acknowledged)
        except ClientError as error:
            if not _is_untouched(error):
                self._record_failure(request, error)
            raise

    async def receive_anew(self, sent: Sent, entry: int) -> bool:
        """Release an event that is in quarantine; whether it was received.

        Raises ClientError if there is no result.
        """
        request = Request((sent,))
        acknowledged = self.journal.acknowledged_in(request)
        try:
            answer = await self.release(entry)
        except ClientError as error:
            # 404: an earlier try that was answered 503 has been settled since.
            if error.status != _GONE and not _is_untouched(error):
                self._record_failure(request, error)
            raise
        if any(SAID in str(result.errors) for result in answer.results):
            return False  # a stage has failed, and the event stays where it is
        self.journal.record(request, answer, acknowledged)
        return True

    async def held(self) -> int:
        """Bytes of its budgets that the service holds. Raises ClientError."""
        return await self._read(HELD, _NUMBER)

    def _record_failure(self, request: Request, error: ClientError) -> None:
        # No answer, since it was killed, and 503 are expected here; nothing else is.
        if error.status not in (None, _UNAVAILABLE):
            how = f"a publish was answered {error.status}, without a result for each event"
            self.journal.breaches.note(Promise.ANSWERED, how, error.body[:_SHOWN])
        self.journal.record_unanswered(request)


def _is_untouched(error: ClientError) -> bool:
    """Whether the service says that nothing of the request was taken."""
    said = error.body.decode(errors="replace")
    return (error.status == _FAILED and SAID in said) or (
        error.status == _UNAVAILABLE and _FULL in said
    )
