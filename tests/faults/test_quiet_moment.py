"""What `aggregator prove` makes of a service that goes on failing as everybody rests."""

from aggregator.client import Stats, TopicStats
from aggregator.prove.faults import Life, Trouble
from aggregator.prove.journal import Journal, JournaledClient
from aggregator.prove.quiet import QuietMoment
from aggregator.prove.reconcile import CounterCheck


class FailsOnceMore(JournaledClient):
    """An event that was answered 503 is committed, its store fails, and then comes back."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.under_way, self.is_back = True, False

    async def why_not_ready(self) -> str | None:
        if self.under_way:
            return None
        self.is_back, was_back = True, self.is_back
        return None if was_back else "the store has failed"

    async def settled_stats(self, seconds: float = 0.0) -> Stats:
        self.under_way = False
        none = dict.fromkeys(
            ("duplicate_dropped", "conflicts", "invalid", "filtered", "refused"), 0
        )
        counted = none | dict.fromkeys(("received_total", "unique_processed"), int(self.is_back))
        return Stats(**counted, queue_size_current=0, processed_topics=[], uptime_seconds=0.0)

    async def topics(self) -> list[TopicStats]:
        return [TopicStats("a", 1)]

    async def held(self) -> int:
        return 0


async def test_counters_are_read_once_what_failed_last_is_counted() -> None:
    client = FailsOnceMore()
    quiet = QuietMoment(client, CounterCheck(client.journal), None)
    await quiet.check(Life(Trouble.NONE))
    assert "the numbers of the topics" not in " ".join(map(str, client.journal.breaches))
