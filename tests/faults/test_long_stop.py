"""The process stands still for half a minute, as on a paused machine: nothing false is said."""

import os
import signal
import time
from random import SystemRandom

from publishers import Publishers, check_everything
from running import Service, until

STANDSTILL = 30.0  # seconds; more than publishers wait, and three times the watchdog's patience


def test_process_that_stood_still_goes_on_and_keeps_its_word(service: Service) -> None:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    service.start()
    with Publishers(service, seed, count=6) as publishers:
        ledger = publishers.ledger
        until(lambda: ledger.answers > 100, "publishers get on")
        service.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, service.process.pid, os.WSTOPPED)
        answers = ledger.answers
        over = time.monotonic() + STANDSTILL
        until(lambda: time.monotonic() > over, "it has stood still", STANDSTILL + 5)
        assert ledger.answers <= answers + 6, "a process that stands still has answered"
        service.process.send_signal(signal.SIGCONT)
        enough = ledger.answers + 100
        until(lambda: ledger.answers > enough, "publishers get on again")
        assert service.call("/readyz")[0] == 200
        publishers.finish()
    assert ledger.unanswered, "no publisher has given up waiting"
    check_everything(service, ledger)
    assert "ending the process" not in service.said()
    assert service.stop() == 0
