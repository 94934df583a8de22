"""The simulated disk keeps what a real one must keep, and nothing that it may lose."""

import pytest
from power.changes import Survives
from power.disk import Disk
from power.steps import Create, Remove, Step, Sync, Truncate, Write

OLD = b"old!" * 256  # two sectors
NEW = b"new!" * 256


def nothing(number: int, part: object) -> bool:
    return False


def everything(number: int, part: object) -> bool:
    return True


def left(survives: Survives, *steps: Step) -> dict[str, bytes]:
    """What is found after these steps and a power cut."""
    disk = Disk()
    for step in steps:
        disk.apply(step)
    return disk.left(survives)


def synced(at: int, path: str = "file", succeeded: bool = True) -> Step:
    return Sync(at, path, at, succeeded)


MADE = (Create(1, "file"), synced(2, ""), Write(3, "file", 0, OLD), synced(4))


def test_what_was_synced_is_there() -> None:
    assert left(nothing, *MADE) == {"file": OLD}


def test_file_whose_folder_was_not_synced_is_not_there() -> None:
    made = (Create(1, "file"), Write(2, "file", 0, OLD), synced(3))
    assert left(nothing, *made) == {}
    assert left(everything, *made) == {"file": OLD}


def test_file_in_a_folder_whose_name_was_not_synced_is_not_there() -> None:
    made = (Create(1, "in", is_folder=True), Create(2, "in/file"), synced(3, "in"))
    assert left(nothing, *made) == {}
    assert left(nothing, *made, synced(4, "")) == {"in/file": b""}


def test_file_that_was_removed_may_be_back() -> None:
    removed = (*MADE, Remove(5, "file"))
    assert left(nothing, *removed) == {"file": OLD}
    assert left(everything, *removed) == {}
    assert left(nothing, *removed, synced(6, "")) == {}


def test_what_was_not_synced_survives_or_does_not() -> None:
    written = (*MADE, Write(5, "file", 0, NEW))
    assert left(nothing, *written) == {"file": OLD}
    assert left(everything, *written) == {"file": NEW}


def test_sync_covers_what_was_written_before_it_began() -> None:
    late = (*MADE, Write(6, "file", 0, NEW), Sync(7, "file", began=5, succeeded=True))
    assert left(nothing, *late) == {"file": OLD}


def test_each_sector_of_a_write_survives_for_itself() -> None:
    torn = left(lambda number, part: part == 1, *MADE, Write(5, "file", 0, NEW))
    assert torn == {"file": OLD[:512] + NEW[:512]}


def test_later_write_survives_without_the_earlier_one() -> None:
    written = (*MADE, Write(5, "file", 0, NEW[:512]), Write(6, "file", 512, NEW[:512]))
    assert left(lambda number, part: number == 6, *written) == {"file": OLD[:512] + NEW[:512]}


def test_size_is_lost_without_a_sync() -> None:
    longer = (*MADE, Write(5, "file", len(OLD), NEW))
    assert left(nothing, *longer) == {"file": OLD}
    assert left(lambda number, part: part == "size", *longer) == {"file": OLD + bytes(len(NEW))}
    assert left(nothing, *longer, synced(6)) == {"file": OLD + NEW}


def test_cutting_off_survives_as_a_whole() -> None:
    cut = (*MADE, Truncate(5, "file", 0), Write(6, "file", 0, NEW[:4]))
    assert left(nothing, *cut) == {"file": OLD}
    assert left(lambda number, part: number == 5, *cut) == {"file": b""}
    assert left(lambda number, part: number == 6, *cut) == {"file": NEW[:4]}


@pytest.mark.parametrize("survives", [nothing, everything])
def test_sync_that_failed_drops_what_it_covered_whatever_is_synced_later(
    survives: Survives,
) -> None:
    failed = (*MADE, Write(5, "file", 0, NEW), synced(6, succeeded=False), synced(7))
    assert left(survives, *failed) == {"file": OLD}


def test_running_machine_still_reads_what_a_failed_sync_has_dropped() -> None:
    disk = Disk()
    for step in (*MADE, Write(5, "file", 0, NEW), synced(6, succeeded=False)):
        disk.apply(step)
    assert disk.read() == {"file": NEW}


def test_writing_again_what_a_failed_sync_has_dropped_brings_it_back() -> None:
    failed = (*MADE, Write(5, "file", 0, NEW), synced(6, succeeded=False))
    assert left(nothing, *failed, Write(7, "file", 0, NEW), synced(8)) == {"file": NEW}


def test_name_outlives_a_failed_sync_of_its_folder() -> None:
    failed = (Create(1, "file"), synced(2, "", succeeded=False))
    assert left(nothing, *failed) == {}
    assert left(nothing, *failed, synced(3, "")) == {"file": b""}
