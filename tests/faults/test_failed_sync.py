"""A sync fails, the service dies or goes on, and then the power fails: what was answered is there.

After a sync that failed the running machine reads what its disk does not have. Whoever builds on
that, a checkpoint or the word `duplicate`, loses it with the power.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from power.promises import Examiner
from power.recording import Recording
from power.steps import Answer, Remove, Step, Sync, Truncate

from events import event
from running import Service, until

SUBMISSIONS = [[event(f"{number}-{name}") for name in "abcde"] for number in range(6)]
OTHERS = 10  # moments that are chosen at random

pytestmark = pytest.mark.usefixtures("strace")


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """A service that was killed; its log is full of commits, and its keys fill several pages."""
    with Service(tmp_path_factory.mktemp("aged")) as service:
        recording = Recording(service)
        recording.start()
        for number in range(20):
            assert service.publish([event(f"old-{number}-{one}") for one in range(30)])[0] == 200
        recording.kill()
        yield recording


def publish(service: Service) -> None:
    """Everything, each until it is answered."""
    for submission in SUBMISSIONS:
        until(lambda: service.publish(submission)[0] == 200, "it is answered")  # noqa: B023


def suffer(recording: Recording, fault: str) -> None:
    """Start with the fault, and publish as long as the service lives; then end it."""
    with suppress(AssertionError, OSError):
        recording.start(fault=fault)
        publish(recording.service)
    recording.kill(sync_failed="KILL" in fault)


def is_turning_point(step: Step) -> bool:
    return isinstance(step, Sync | Truncate | Remove | Answer)


def first_failure(steps: Sequence[Step]) -> int:
    """Where a sync of a file or folder failed that is in the recording."""
    failed = [isinstance(step, Sync) and not step.succeeded for step in steps]
    assert any(failed), "no sync has failed"
    return failed.index(True)


async def examine(recording: Recording, folder: Path, since: int) -> None:
    """Cut the power at the turning points since then, and between them."""
    steps = recording.steps
    places = range(since, len(steps))
    turning = {place for place in places if is_turning_point(steps[place])}
    between = Random(1).sample(places, OTHERS)
    await Examiner(steps, folder / "cuts", seed=1).examine({*turning, *between})


@pytest.mark.parametrize("number", [2, 5, 6, 7, 8])
async def test_process_that_dies_of_a_failed_sync_leaves_nothing_that_only_memory_holds(
    aged: Recording, service: Service, tmp_path: Path, number: int
) -> None:
    recording = aged.copy_to(service)
    suffer(recording, f"fsync,fdatasync:error=EIO:signal=KILL:when={number}")
    recording.start()
    publish(service)
    recording.kill()
    await examine(recording, tmp_path, first_failure(recording.steps))


@pytest.mark.parametrize("number", [9, 10])
async def test_service_that_survives_a_failed_sync_builds_on_nothing_that_only_memory_holds(
    aged: Recording, service: Service, tmp_path: Path, number: int
) -> None:
    recording = aged.copy_to(service)
    suffer(recording, f"fsync,fdatasync:error=EIO:when={number}")
    recording.start()
    publish(service)
    recording.stop()
    await examine(recording, tmp_path, first_failure(recording.steps))


async def test_service_that_is_killed_while_all_syncs_fail_builds_on_nothing_after_it(
    aged: Recording, service: Service, tmp_path: Path
) -> None:
    recording = aged.copy_to(service)
    recording.start()
    assert service.publish(event("before"))[0] == 200
    recording.disturb("fsync,fdatasync:error=EIO")
    for submission in SUBMISSIONS[:2]:
        assert service.publish(submission)[0] == 503
    until(lambda: service.said().count("the store failed") > 2, "the service tries again")
    recording.kill()
    recording.start()
    publish(service)
    recording.kill()
    await examine(recording, tmp_path, first_failure(recording.steps))


@pytest.mark.parametrize(
    ("conduct", "number"),
    [
        *(("error=EIO", number) for number in (1, 2, 6, 8, 10, 12)),
        *(("error=EIO:signal=KILL", number) for number in (1, 2, 9, 11)),
    ],
)
async def test_first_start_whose_sync_fails_is_made_good_by_the_next_one(
    service: Service, tmp_path: Path, conduct: str, number: int
) -> None:
    recording = Recording(service)
    suffer(recording, f"fsync,fdatasync:{conduct}:when={number}")
    recording.start()
    publish(service)
    recording.kill()
    await examine(recording, tmp_path, since=0)
