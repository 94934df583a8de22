"""Where SQLite keeps what (https://sqlite.org/fileformat2.html#b_tree_pages)."""

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

SIZE = 4096
_LEAF = 0x0D


class Cell(NamedTuple):
    """A row or, above the rows, the way to a page of them. Places in the file."""

    pointer: int  # two bytes, which say where in the page it is
    begin: int  # of a row: its size, then its rowid
    rowid: int
    is_row: bool


def cells(path: Path, table: str) -> list[Cell]:
    """All of the table's, its rows in their order."""
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)
        ).fetchone()
    return list(_cells(path.read_bytes(), root))


def _cells(file: bytes, page: int) -> Iterator[Cell]:
    start = (page - 1) * SIZE
    is_leaf = file[start] == _LEAF
    pointers = start + (8 if is_leaf else 12)
    (count,) = struct.unpack_from(">H", file, start + 3)
    for pointer in range(pointers, pointers + 2 * count, 2):
        begin = start + struct.unpack_from(">H", file, pointer)[0]
        if is_leaf:
            yield Cell(pointer, begin, _behind(file, begin), is_row=True)
        else:
            yield Cell(pointer, begin, begin + 4, is_row=False)
            yield from _cells(file, struct.unpack_from(">I", file, begin)[0])
    if not is_leaf:
        yield from _cells(file, struct.unpack_from(">I", file, start + 8)[0])


def _behind(file: bytes, varint: int) -> int:
    while file[varint] & 0x80:
        varint += 1
    return varint + 1


def flips(file: bytes, places: range) -> Iterator[bytes]:
    """The file with each bit of these bytes flipped, one at a time."""
    for at in places:
        for bit in range(8):
            flipped = bytearray(file)
            flipped[at] ^= 1 << bit
            yield bytes(flipped)


def flip(path: Path, at: int, bit: int) -> None:
    """Flip one bit."""
    file = bytearray(path.read_bytes())
    file[at] ^= 1 << bit
    path.write_bytes(file)
