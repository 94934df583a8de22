"""One file: as it is read, as it surely is on the disk, and what is between the two."""

from collections import defaultdict

from power.changes import Changes, Survives

SECTOR = 512
"""Bytes that a disk writes as one (https://www.sqlite.org/atomiccommit.html, section 2)."""


class File:
    """Its sectors and its size are changed, synced and lost each for itself."""

    def __init__(self) -> None:
        self.content = bytearray()
        self._durable = bytearray()
        self._durable_size = 0
        self._sectors: defaultdict[int, Changes[bytes]] = defaultdict(Changes)
        self._sizes: Changes[int] = Changes()

    def write(self, number: int, offset: int, content: bytes) -> None:
        """Replace bytes, as change `number`. With them goes the size of the file, as it is then."""
        end = offset + len(content)
        self.resize(number, max(end, len(self.content)))
        self.content[offset:end] = content
        for sector in range(offset // SECTOR, -(-end // SECTOR)):
            self._sectors[sector].add(number, sector, self._sector(sector))

    def resize(self, number: int, size: int) -> None:
        """Cut off, or fill up with zeros, as change `number`: all of that survives, or nothing."""
        before = len(self.content)
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))
        self._sizes.add(number, "size", size)
        for sector in range(min(size, before) // SECTOR, -(-max(size, before) // SECTOR)):
            self._sectors[sector].add(number, "size", self._sector(sector))

    def sync(self, began: int, succeeded: bool) -> None:
        """Settle what was changed before it began: that is durable, or never will be."""
        sizes = self._sizes.settle(began)
        if sizes and succeeded:
            self._durable_size = sizes[-1]
        for sector, changes in list(self._sectors.items()):
            contents = changes.settle(began)
            if contents and succeeded:
                _put(self._durable, sector, contents[-1])
            if not changes:
                del self._sectors[sector]

    def left(self, survives: Survives) -> bytes:
        """What is read after a power cut."""
        left = bytearray(self._durable)
        for sector, changes in self._sectors.items():
            for content in changes.left(survives):
                _put(left, sector, content)
        size = [self._durable_size, *self._sizes.left(survives)][-1]
        return bytes(left[:size]).ljust(size, b"\0")

    def _sector(self, sector: int) -> bytes:
        """As it is read just now: a disk writes no part of one."""
        content = bytes(self.content[sector * SECTOR : (sector + 1) * SECTOR])
        return content.ljust(SECTOR, b"\0")


def _put(content: bytearray, sector: int, written: bytes) -> None:
    start = sector * SECTOR
    content.extend(bytes(max(0, start - len(content))))
    content[start : start + SECTOR] = written
