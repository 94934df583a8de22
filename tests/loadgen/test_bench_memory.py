"""Memory is filled while stores grow, and given back."""

import os
import sys
from pathlib import Path

import pytest

from loadgen.bench import memory

HELD = 64 * 2**20
FILED = 3 * memory.PIECE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/meminfo")


def children() -> list[Path]:
    return [
        path.parent
        for path in Path("/proc").glob("[0-9]*/stat")
        if int(path.read_text().rpartition(")")[2].split()[1]) == os.getpid()
    ]


def test_all_but_what_is_left_is_held_and_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, left = tmp_path / "memory", 2**30

    def available(kind: str) -> int:
        if kind == "MemAvailable":
            return left + HELD
        return memory.FREE + FILED - file.stat().st_size

    monkeypatch.setattr(memory, "available", available)
    before = children()
    with memory.filled(tmp_path, left):
        (holding,) = set(children()) - set(before)
        pages = int((holding / "statm").read_text().split()[1])
        assert pages * os.sysconf("SC_PAGE_SIZE") >= HELD
        assert file.stat().st_size == FILED
    assert children() == before
    assert not file.exists()


def test_machine_with_less_memory_than_is_to_be_left_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"only .* GiB of memory"), memory.filled(tmp_path, 2**60):
        pass
    assert not list(tmp_path.iterdir())


def test_kernel_is_asked() -> None:
    assert 0 < memory.available("MemFree") < memory.available("MemTotal")
    with pytest.raises(OSError, match="MemNothing"):
        memory.available("MemNothing")
