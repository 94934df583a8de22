"""Whether the numbers of the service grow by what it answers."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from aggregator.prove.answers import Answers
from aggregator.prove.client import Stats, Topic
from aggregator.prove.promises import Promise
from aggregator.prove.tally import Tally


class Counted:
    """Holds the numbers against the answers whenever the service has been started again.

    Then nothing is under way, and since the time before only the few events are in doubt whose
    requests the kill has cut off: they may be counted, or not.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._tally = Tally()
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._stats = Stats(0, 0, 0, 0, 0, 0, 0, 0)
        self._topics: dict[str, Topic] = {}

    def check(self, stats: Stats, topics: Iterable[Topic]) -> None:
        """What they have grown by since the last time, and that they add up."""
        by_name = {topic.topic: topic for topic in topics}
        wrong = (*self._grown(stats), *self._grown_topics(by_name), *_summed(stats, by_name))
        for how, example in wrong:
            self._answers.breaches.note(Promise.COUNTED, how, example)
        self._stats, self._topics = stats, by_name
        self._tally = self._answers.tally.copy()
        for name, tally in self._answers.topics.items():
            self._tallies[name] = tally.copy()

    def _grown(self, stats: Stats) -> Iterator[tuple[str, str]]:
        new = self._answers.tally.since(self._tally)
        answered, unsure = new.answered, new.unsure
        good = unsure["good"]
        again = answered["duplicate"] + answered["conflict"]
        for name, least, leeway in (
            ("unique_processed", answered["stored"], good),
            ("duplicate_dropped", again, good + unsure["rival"]),
            ("conflicts", answered["conflict"], unsure["rival"]),
            ("invalid", answered["invalid"], unsure["invalid"]),
            ("refused", answered["refused"], good),
            ("received_total", answered.total(), unsure.total()),
        ):
            grown = getattr(stats, name) - getattr(self._stats, name)
            if not least <= grown <= least + leeway:
                yield f"{name} does not agree with the answers", f"{grown}, not {least} + {leeway}"

    def _grown_topics(self, topics: dict[str, Topic]) -> Iterator[tuple[str, str]]:
        for topic in sorted({*topics, *self._topics, *self._answers.topics}):
            before = self._topics.get(topic) or Topic(topic)
            now = topics.get(topic) or Topic(topic)
            new = self._answers.topics[topic].since(self._tallies[topic])
            for name, status, kind in (
                ("stored", "stored", "good"),
                ("duplicates", "duplicate", "good"),
                ("conflicts", "conflict", "rival"),
            ):
                grown = getattr(now, name) - getattr(before, name)
                least, leeway = new.answered[status], new.unsure[kind]
                if not least <= grown <= least + leeway:
                    how = f"{name} of a topic do not agree with the answers"
                    yield how, f"{grown}, not {least} + {leeway}, of {topic}"


def _summed(stats: Stats, topics: dict[str, Topic]) -> Iterator[tuple[str, str]]:
    parts = stats.unique_processed + stats.duplicate_dropped + stats.invalid
    parts += stats.filtered + stats.refused + stats.queue_size_current
    if parts != stats.received_total:
        yield "received_total is not the sum of the rest", f"{stats.received_total}, not {parts}"
    summed = (
        sum(topic.stored for topic in topics.values()),
        sum(topic.duplicates + topic.conflicts for topic in topics.values()),
    )
    if summed != (counted := (stats.unique_processed, stats.duplicate_dropped)):
        yield "the numbers of the topics do not sum up to those of all", f"{summed} and {counted}"
