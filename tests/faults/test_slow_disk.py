"""A disk that takes its time, or seems to hang: publishers wait, and are told nothing false."""

import http.client
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import SystemRandom

import pytest

from events import event
from publishers import Publishers, check_everything
from running import Service, until
from tracing import syncs

SLOW = "delay_enter=300000"  # microseconds
SLOWER = "delay_enter=1000000"
HANGING = "delay_enter=3000000:when=1"


pytestmark = pytest.mark.usefixtures("strace")


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Service]:
    """A service that waits for its disk for one second where others wait for ten."""
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "from aggregator import server\n"
        "from aggregator.cli.main import main\n"
        "from aggregator.pipeline import worker\n"
        "worker._LONGEST_BATCH = server.LAST_CALL = 1.0\n"
        "main(sys.argv[3:])  # after -m aggregator\n"
    )
    python.chmod(0o755)
    with Service(tmp_path, python=str(python)) as service:
        yield service


def test_slow_disk_gathers_larger_batches_and_everybody_is_answered(service: Service) -> None:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    service.start()
    with Publishers(service, seed, count=16) as publishers:
        ledger = publishers.ledger
        until(lambda: ledger.answers > 16, "publishers get on")
        with syncs(service, SLOW) as trace:
            enough = ledger.answers + 100
            until(lambda: ledger.answers > enough, "publishers get on, slower")
            assert service.call("/readyz")[0] == 200
        publishers.finish()
    lines = trace.read_text().splitlines()
    commits = sum("aggregator.db-wal>" in line for line in lines if "(DELAYED)" in line)
    answers = sum('"HTTP/1.1 20' in line for line in lines)
    assert commits < answers / 4, f"{answers} answers after {commits} commits"
    assert ledger.unanswered == 0
    check_everything(service, ledger)


def test_service_is_not_ready_while_a_commit_hangs_and_answers_once_it_is_done(
    impatient: Service,
) -> None:
    service = impatient
    service.start()
    assert service.publish(event("before"))[0] == 200
    with ThreadPoolExecutor() as pool, syncs(service, HANGING):
        hanging = pool.submit(service.publish, event("hanging"))
        until(lambda: service.call("/readyz")[0] == 503, "the disk is seen to hang")
        assert "disk may hang" in service.call("/readyz")[1]["detail"]
        assert not hanging.done()
        assert [one["event_id"] for one in service.stored()] == ["before"]
        service.until_ready()
        assert hanging.result()[1]["stored"] == 1
    assert service.publish([event("hanging"), event("before")])[1]["duplicates"] == 2


def test_what_was_accepted_before_a_signal_is_answered_however_slow_its_commit(
    service: Service,
) -> None:
    service.start()
    assert service.publish(event("before"))[0] == 200
    with ThreadPoolExecutor() as pool, syncs(service, SLOWER):
        accepted = [pool.submit(service.publish, event(f"{number}")) for number in range(3)]
        until(lambda: service.call("/stats")[1]["queue_size_current"] == 3, "all are accepted")
        service.process.send_signal(signal.SIGTERM)
        answers = [one.result() for one in accepted]
        assert service.wait() == 0
    assert [status for status, _ in answers] == [200] * 3
    service.start()
    assert {one["event_id"] for one in service.stored()} == {"before", "0", "1", "2"}


def test_service_that_is_to_stop_waits_for_a_hanging_disk_no_longer_than_its_last_call(
    impatient: Service,
) -> None:
    service = impatient
    service.start()
    assert service.publish(event("before"))[0] == 200
    with ThreadPoolExecutor() as pool, syncs(service, HANGING):
        accepted = pool.submit(service.publish, event("accepted"))
        until(lambda: service.call("/stats")[1]["queue_size_current"] == 1, "it is accepted")
        service.process.send_signal(signal.SIGTERM)
        assert service.wait() == 1
        with pytest.raises((OSError, http.client.HTTPException)):
            accepted.result()
    assert "not settled within" in service.said()
    service.start()
    again = service.publish([event("before"), event("accepted")])[1]
    assert again["stored"] + again["duplicates"] == 2
    assert [one["seq"] for one in again["results"]] == [1, 2]
