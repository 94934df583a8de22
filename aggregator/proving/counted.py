"""Whether the numbers of the service grow by what it answers."""

from collections import Counter
from collections.abc import Iterator

from aggregator.proving.answers import Answers
from aggregator.proving.client import Stats
from aggregator.proving.promises import Promise


class Counted:
    """Holds the numbers against the answers whenever the service has been started again.

    Then nothing is under way, and since the time before only the few events are in doubt whose
    requests the kill has cut off: they may be counted, or not.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._answered: Counter[str] = Counter()
        self._unsure: Counter[str] = Counter()
        self._stats = Stats(0, 0, 0, 0, 0, 0, 0, 0)

    def check(self, stats: Stats) -> None:
        """What they have grown by since the last time, and that they add up."""
        for how, example in (*self._grown(stats), *_summed(stats)):
            self._answers.breaches.note(Promise.COUNTED, how, example)
        self._stats = stats
        self._answered = self._answers.statuses.copy()
        self._unsure = self._answers.unsure.copy()

    def _grown(self, stats: Stats) -> Iterator[tuple[str, str]]:
        answered = self._answers.statuses - self._answered
        unsure = self._answers.unsure - self._unsure
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


def _summed(stats: Stats) -> Iterator[tuple[str, str]]:
    parts = stats.unique_processed + stats.duplicate_dropped + stats.invalid
    parts += stats.filtered + stats.refused + stats.queue_size_current
    if parts != stats.received_total:
        yield "received_total is not the sum of the rest", f"{stats.received_total}, not {parts}"
