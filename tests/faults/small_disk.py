"""A disk of a few megabytes, real in that it can be full."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_MEBI = 1024 * 1024
_BLOCK = 4096


class SmallDisk:
    """A file system of its own, and a file that takes what room there is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    @property
    def room(self) -> int:
        """Bytes that are free."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self, leaving: int = 0) -> None:
        """Take all room but so many bytes."""
        with self._filler.open("ab", buffering=0) as filler, suppress(OSError):
            while not leaving or self.room > leaving:
                filler.write(bytes(max(_BLOCK, min(self.room // 2, _MEBI) - leaving)))
                os.fsync(filler.fileno())

    def clear(self) -> None:
        """Give all of that room back."""
        self._filler.unlink()


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[SmallDisk]:
    """An ext4 file system mounted at the folder; skips the test where nothing can be mounted."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    if not shutil.which("mkfs.ext4"):
        pytest.skip("mkfs.ext4 is not installed")
    folder.mkdir()
    image = folder.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(mebibytes * _MEBI)
    # No room is kept back for root, who runs this.
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-b", str(_BLOCK), str(image)], check=True)
    mount = ["mount", "-o", "loop", str(image), str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"this machine mounts no file: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
