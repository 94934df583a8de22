"""What a run was told while it published: the publisher's half of the books."""

from collections import Counter

from aggregator.client import PublishAnswer
from loadgen.contract import faults_in
from loadgen.latency import Latency
from loadgen.plan import Batch, Key


class Tally:
    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()  # by status, or by what became of them
        self.statuses: Counter[str] = Counter()  # of the events answered
        self.faults: Counter[str] = Counter()
        self.stored: set[Key] = set()
        self.seqs: dict[Key, int] = {}
        self.unsure: set[Key] = set()  # may have been stored by a try that got no answer
        self.retries = 0
        self.resent = 0
        self.seconds = 0.0
        self.latency = Latency()

    @property
    def answered(self) -> int:
        return self.statuses.total()

    def try_failed(self, batch: Batch, reason: str) -> None:
        """The batch will be sent again, or the run ends."""
        self.requests[reason] += 1
        self.retries += 1
        self.resent += len(batch)
        self.unsure.update(event.key for event in batch)

    def batch_answered(self, batch: Batch, answer: PublishAnswer) -> None:
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
