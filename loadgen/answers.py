"""What the service answered: one of the two sides that the verdict compares."""

from collections import Counter
from collections.abc import Iterator

from aggregator.client import PublishAnswer
from loadgen.latency import Latency
from loadgen.workload import Batch, Key


def faults_in(answer: PublishAnswer, batch: Batch) -> Iterator[str]:
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


class Answers:
    """Every answer to a batch, and every try without one."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()  # by status, or by the reason of a failed try
        self.statuses: Counter[str] = Counter()  # of the events answered
        self.faults: Counter[str] = Counter()
        self.stored: set[Key] = set()
        self.seqs: dict[Key, int] = {}
        self.uncertain: set[Key] = set()  # may have been stored by a try that got no answer
        self.retries = 0
        self.resent = 0
        self.seconds = 0.0
        self.latency = Latency()

    @property
    def events(self) -> int:
        """How many events were answered."""
        return self.statuses.total()

    def record_failed_try(self, batch: Batch, reason: str) -> None:
        """Record a try without an answer; the batch is sent again, or the run ends."""
        self.requests[reason] += 1
        self.retries += 1
        self.resent += len(batch)
        self.uncertain.update(event.key for event in batch)

    def record(self, batch: Batch, answer: PublishAnswer) -> None:
        """Record the answer to a batch, and each of its faults."""
        self.faults.update(faults_in(answer, batch))
        for event, result in zip(batch, answer.results, strict=False):
            self.statuses[result.status] += 1
            if result.status == "stored":
                self._note_stored(event.key)
            if result.seq is not None:
                self._note_seq(event.key, result.seq)

    def _note_stored(self, key: Key) -> None:
        if key in self.stored:
            self.faults["events were answered `stored` a second time"] += 1
        self.stored.add(key)

    def _note_seq(self, key: Key, seq: int) -> None:
        if self.seqs.setdefault(key, seq) != seq:
            self.faults["events were answered with two different `seq`"] += 1
