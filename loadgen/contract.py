"""Whether an answer to a batch keeps the contract."""

from collections import Counter
from collections.abc import Iterator

from aggregator.client import PublishAnswer
from loadgen.plan import Batch


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
