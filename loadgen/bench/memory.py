"""Leaves no memory free, as on a machine that has run for days.

What is not in use yet costs extra: a virtual machine gets it page by page from its host, and gives
it back when files are deleted. So a store that grows seems to become slower.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LEFT = 6 * 2**30
"""Bytes for whoever is measured, and for the files that are read and written meanwhile."""
FREE = 256 * 2**20
"""Bytes that the system keeps free, about."""
PIECE = 2**20

# The kernel ends this one first where memory becomes scarce. Its standard input tells when to go.
HOLDING = """
import mmap, sys
with open("/proc/self/oom_score_adj", "w") as score:
    score.write("1000")
held = mmap.mmap(-1, int(sys.argv[1]), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
print(len(held), flush=True)
sys.stdin.read()
"""


@contextmanager
def filled(folder: Path, left: int = LEFT) -> Iterator[None]:
    """All memory but so many bytes held by a process, and these by a file that is read no more.

    For Linux. Raises OSError where there is no `/proc/meminfo`, or less memory than is to be left.
    """
    file = folder / "memory"
    command = [sys.executable, "-c", HOLDING, str(to_hold(available("MemAvailable"), left))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holding:
        try:
            assert holding.stdout
            if not holding.stdout.readline():
                raise OSError("the memory cannot be held")
            with file.open("wb", buffering=0) as cached:
                while available("MemFree") > FREE and cached.tell() < left:
                    cached.write(bytes(PIECE))
            yield
        finally:
            file.unlink(missing_ok=True)
            holding.communicate()


def to_hold(known: int, left: int) -> int:
    if known <= left:
        raise OSError(f"there are only {known / 2**30:.1f} GiB of memory to use")
    return known - left


def available(kind: str) -> int:
    """Bytes, as the kernel says."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, size = line.partition(":")
        if name == kind:
            return int(size.split()[0]) * 1024
    raise OSError(f"/proc/meminfo says nothing of {kind}")
