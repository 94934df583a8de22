"""What is left of a service that was killed."""

from pathlib import Path

COMMITS = 20
LENGTH = 24 + 4096  # of a frame of the log, in bytes: its header, and a page


class Killed:
    """What a service left that was killed after some commits of an event each."""

    def __init__(self, folder: Path, ends: list[int]) -> None:
        self.folder = folder
        self.ends = ends  # of the log, after each commit
        self.database = folder / "data" / "aggregator.db"
        self.log = folder / "data" / "aggregator.db-wal"

    def first_frame(self, commit: int) -> int:
        """Where it starts; the commits count from 1."""
        return self.ends[commit - 2]

    def last_frame(self, commit: int) -> int:
        """Where it starts."""
        return self.ends[commit - 1] - LENGTH

    def flip(self, byte: int, bit: int = 0) -> None:
        """One bit of the log is another."""
        log = bytearray(self.log.read_bytes())
        log[byte] ^= 1 << bit
        self.log.write_bytes(log)

    def contents(self) -> dict[str, bytes]:
        """Of every file but the lock, which names a process, and the index, which is no data."""
        return {
            path.name: path.read_bytes()
            for path in self.database.parent.iterdir()
            if path.suffix != ".lock" and not path.name.endswith("-shm")
        }
