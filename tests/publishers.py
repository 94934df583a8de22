"""Publishers that go on whatever happens to the service, and a ledger of all it answered."""

import http.client
import threading
from random import Random
from typing import Any

from events import event
from running import Service, until

_ANSWERED = (200, 207, 422)
_LOST = (OSError, http.client.HTTPException, ValueError)


class PendingSubmissions:
    """Every answer, and every answer that contradicts an earlier one."""

    def __init__(self) -> None:
        self.seqs: dict[tuple[str, str], int] = {}
        self.answers = 0
        self.unanswered = 0
        self.cut_off = 0
        """Connections that ended without an answer, and those that were refused."""
        self.mistakes: list[str] = []
        self._stored: set[tuple[str, str]] = set()
        self._turn = threading.Lock()

    def note(self, sent: list[dict[str, Any]], results: list[dict[str, Any]]) -> None:
        """Keep what was answered for each event that was sent."""
        with self._turn:
            self.answers += 1
            if [result["index"] for result in results] != list(range(len(sent))):
                self.mistakes.append(f"{len(sent)} sent, answered {results}")
            for one, result in zip(sent, results, strict=False):
                self._note(one, result)

    def note_lost(self, *, is_cut_off: bool) -> None:
        """A request was refused for now, or never answered."""
        with self._turn:
            self.unanswered += 1
            self.cut_off += is_cut_off

    def _note(self, one: dict[str, Any], result: dict[str, Any]) -> None:
        key, status = (one["topic"], one["event_id"]), result["status"]
        if not one["timestamp"]:
            if status != "invalid":
                self.mistakes.append(f"{key} has no timestamp and is {status}")
            return
        if status not in ("stored", "duplicate") or (status == "stored" and key in self._stored):
            self.mistakes.append(f"{key} answered {result} after {self.seqs.get(key)}")
        elif self.seqs.setdefault(key, result["seq"]) != result["seq"]:
            self.mistakes.append(f"{key} had seq {self.seqs[key]}, answered {result}")
        if status == "stored":
            self._stored.add(key)


class Publishers:
    """Threads that publish seeded batches, sending each again until it is answered."""

    def __init__(self, service: Service, seed: int, count: int = 4, most: int = 20) -> None:
        self.service = service
        self.most = most  # events in a batch
        self.ledger = PendingSubmissions()
        self.broken: list[BaseException] = []
        self._over = threading.Event()
        self._given_up = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number, Random(f"{seed} {number}")))
            for number in range(count)
        ]

    def __enter__(self) -> "Publishers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._given_up.set()
        for thread in self._threads:
            thread.join()

    def finish(self) -> PendingSubmissions:
        """Have every batch answered, then end; the service must be there for it."""
        self._over.set()
        until(lambda: not any(thread.is_alive() for thread in self._threads), "all is answered")
        assert not self.broken, self.broken
        assert not self.ledger.mistakes, self.ledger.mistakes[:5]
        return self.ledger

    def _run(self, number: int, random: Random) -> None:
        try:
            self._publish_until_over(number, random)
        except BaseException as error:
            self.broken.append(error)

    def _publish_until_over(self, number: int, random: Random) -> None:
        made = 0
        while not self._over.is_set():
            batch = []
            for _ in range(random.randint(1, self.most)):
                made += 1
                batch.append(_one(number, made, random))
            while not self._is_answered(batch):
                if self._given_up.wait(0.02):
                    return

    def _is_answered(self, batch: list[dict[str, Any]]) -> bool:
        try:
            status, told = self.service.publish(batch)
        except _LOST:
            self.ledger.note_lost(is_cut_off=True)
            return False
        if status not in _ANSWERED:
            assert status == 503, (status, told)
            self.ledger.note_lost(is_cut_off=False)
            return False
        self.ledger.note(batch, told["results"])
        return True


def _one(number: int, made: int, random: Random) -> dict[str, Any]:
    """Mostly new; a tenth again, of which some meet other publishers'; a few invalid."""
    dice = random.random()
    if dice < 0.05:
        return event(f"shared-{made // 10}", "shared")
    if dice < 0.1:
        return event(f"{number}-{random.randint(1, made)}", "again")
    if dice < 0.13:
        return event(f"{number}-{made}", "invalid", timestamp="")
    return event(f"{number}-{made}", f"topic-{made % 3}")


def check_everything(service: Service, ledger: PendingSubmissions) -> None:
    """What is stored is what was answered, the numbers add up, and sending again adds nothing."""
    check_stored(service, ledger)
    sent = list(ledger.seqs)
    before = service.call("/stats")[1]
    for start in range(0, len(sent), 1000):
        some = sent[start : start + 1000]
        status, told = service.publish([event(name, topic) for topic, name in some])
        assert status == 200
        assert {result["status"] for result in told["results"]} == {"duplicate"}
        assert [result["seq"] for result in told["results"]] == [ledger.seqs[key] for key in some]
    after = check_stored(service, ledger)
    assert after["duplicate_dropped"] == before["duplicate_dropped"] + len(sent)


def check_stored(service: Service, ledger: PendingSubmissions) -> dict[str, Any]:
    """Every answered event is stored once, under its seq, and nothing else is; the statistics."""
    stored = service.stored()
    found = {(one["topic"], one["event_id"]): one["seq"] for one in stored}
    assert len(found) == len(stored), "an event is stored twice"
    assert found == ledger.seqs
    stats: dict[str, Any] = service.call("/stats")[1]
    outcomes = ("unique_processed", "duplicate_dropped", "invalid", "filtered", "refused")
    assert stats["received_total"] == sum(stats[name] for name in outcomes)
    assert stats["unique_processed"] == len(stored)
    assert stats["queue_size_current"] == 0
    return stats
