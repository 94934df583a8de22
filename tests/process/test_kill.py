"""Killed again and again under load, the service keeps every word it gave."""

import sqlite3
from contextlib import closing
from random import Random, SystemRandom

from publishers import Publishers, check_everything
from running import Service, until

KILLS = 5


def test_what_was_answered_before_a_kill_is_stored_exactly_once(service: Service) -> None:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    random = Random(seed)
    service.start()
    with Publishers(service, seed) as publishers:
        for _ in range(KILLS):
            enough = publishers.ledger.answers + random.randint(1, 200)
            until(lambda: publishers.ledger.answers >= enough, "the publishers get on")  # noqa: B023
            service.kill()
            service.start()
        ledger = publishers.finish()
    assert ledger.unanswered, "no publisher was ever interrupted"
    check_everything(service, ledger)
    assert service.stop() == 0
    with closing(sqlite3.connect(service.folder / "data" / "aggregator.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("SELECT count(DISTINCT key) FROM events").fetchone() == (
            len(ledger.seqs),
        )


def test_what_was_stored_and_not_answered_is_a_duplicate_when_it_comes_again(
    service: Service,
) -> None:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    service.start()
    with Publishers(service, seed, count=8) as publishers:
        until(lambda: publishers.ledger.answers > 100, "the publishers get on")
        service.kill()
        answered = dict(publishers.ledger.seqs)
        service.start()
        stored = {(one["topic"], one["event_id"]): one["seq"] for one in service.stored()}
        assert answered.items() <= stored.items()
        ledger = publishers.finish()
    check_everything(service, ledger)
