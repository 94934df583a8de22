"""After a power cut at any moment all that was answered is there, once; a real run shows it.

The service runs under strace, is killed, stopped and started, while publishers publish. At hundreds
of moments of that run the files are laid out as a disk may hold them after a power cut, and the
service is started on them. Stores that are broken on purpose show that this finds what it is for.
"""

from pathlib import Path
from random import Random, SystemRandom

import pytest
from power.cuts import Answered, cuts, moments
from power.promises import (
    ANSWERED_IS_STORED,
    BrokenPromise,
    Examiner,
    lay_out,
)
from power.recording import Recording
from power.steps import Answer, Remove, Step, Truncate, Write

from events import event
from publishers import Publishers
from running import MUTANTS, Service, until

DATABASE = "data/aggregator.db"
LOG = f"{DATABASE}-wal"
FULL = 1000 * (4096 + 24)  # bytes, https://sqlite.org/pragma.html#pragma_wal_autocheckpoint
MOMENTS = 300
FEWER = 60
FEW = 15

pytestmark = pytest.mark.usefixtures("strace")


@pytest.fixture(scope="module")
def seed() -> int:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    return seed


def await_answers(publishers: Publishers, count: int) -> None:
    """Wait for so many more."""
    enough = publishers.ledger.answers + count
    until(lambda: publishers.ledger.answers >= enough, "publishers get on")


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory, seed: int) -> list[Step]:
    """A run in which the service is killed, stopped and started, and its log is full once."""
    with Service(tmp_path_factory.mktemp("recorded")) as service:
        recording = Recording(service)
        recording.start()
        with Publishers(service, seed, count=2, most=2) as publishers:
            await_answers(publishers, 50)
            recording.kill()
            recording.start()
            log = service.folder / LOG
            until(lambda: log.exists() and log.stat().st_size > FULL, "the log is full")
            await_answers(publishers, 50)
            recording.stop()
            recording.start()
            await_answers(publishers, 50)
            recording.kill()
            recording.start()
            ledger = publishers.finish()
        recording.kill()
    assert Answered.after(recording.steps).seqs == ledger.seqs
    return recording.steps


def test_recorded_log_was_full_and_began_anew(steps: list[Step]) -> None:
    is_empty, began_anew = True, 0
    for step in steps:
        match step:
            case Remove(path=path) | Truncate(path=path) if path == LOG:
                is_empty = True
            case Write(path=path, offset=0) if path == LOG:
                began_anew += not is_empty
                is_empty = False
    assert began_anew


async def _check_cuts(steps: list[Step], folder: Path, seed: int, cuts: int) -> None:
    """Cut the power at so many moments, and start the service on what is left."""
    examiner = Examiner(steps, folder, seed)
    await examiner.examine(moments(steps, cuts, Random(seed)))
    assert examiner.examined > cuts


@pytest.mark.timeout(300)  # a minute, where nothing else runs
async def test_what_was_answered_survives_a_power_cut_at_any_moment(
    steps: list[Step], seed: int, tmp_path: Path
) -> None:
    await _check_cuts(steps, tmp_path, seed, MOMENTS)


async def test_power_cut_while_runs_of_keys_are_made_and_merged_forgets_no_key(
    service: Service, seed: int, tmp_path: Path
) -> None:
    steps = recorded(service, "small-runs", commits=60)
    await _check_cuts(steps, tmp_path / "cuts", seed, FEWER)


async def test_what_was_answered_survives_a_power_cut_at_a_few_moments(
    service: Service, seed: int, tmp_path: Path
) -> None:
    steps = recorded(service, "sqlite", commits=10)
    await _check_cuts(steps, tmp_path / "cuts", seed, FEW)


def recorded(service: Service, scheme: str, commits: int) -> list[Step]:
    """A run on a store of that kind, killed in the end."""
    recording = Recording(service)
    flags = ("--store", f"{scheme}:///{DATABASE}")
    recording.start(*flags, environ=MUTANTS)
    for number in range(commits):
        assert service.publish([event(f"{number}-{name}") for name in "abc"])[0] == 200
    recording.kill()
    return recording.steps


def test_service_starts_after_a_power_cut_and_knows_what_it_had_answered(
    steps: list[Step], seed: int, tmp_path: Path
) -> None:
    random = Random(seed)
    answers = [place for place, step in enumerate(steps) if isinstance(step, Answer)]
    for number, cut in enumerate(cuts(steps, {random.choice(answers)}, random)):
        folder = tmp_path / str(number)
        lay_out(cut.files, folder)
        with Service(folder) as service:
            service.start()
            sent = [event(event_id, topic) for topic, event_id in cut.answered.seqs]
            told = service.publish(sent)[1]
            assert told["duplicates"] == len(sent), cut
            assert [one["seq"] for one in told["results"]] == list(cut.answered.seqs.values()), cut
            assert service.stop() == 0


@pytest.mark.parametrize(
    ("scheme", "promise"),
    [
        ("skips-fsync", ANSWERED_IS_STORED),
        ("answers-early", ANSWERED_IS_STORED),
    ],
)
async def test_store_that_is_broken_on_purpose_is_found_out(
    service: Service, tmp_path: Path, scheme: str, promise: str
) -> None:
    steps = recorded(service, scheme, commits=20)
    first = next(place for place, step in enumerate(steps) if isinstance(step, Answer))
    with pytest.raises(BrokenPromise, match=promise):
        await Examiner(steps, tmp_path / "cuts", seed=1).examine(set(range(first, len(steps))))
