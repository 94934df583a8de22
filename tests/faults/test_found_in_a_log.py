"""What we find in a log is what SQLite finds, and only what no crash leaves is called damage."""

import io
import subprocess
import sys
from functools import cache
from itertools import takewhile
from pathlib import Path
from random import Random, SystemRandom

import pytest
from images import FRAME, HEADER, SECTOR, Image, journalled, recovered, sectors_mixed

from aggregator_sqlite import wal
from aggregator_sqlite.wal import examine

MARK = range(4, 8)  # of a frame's header: the size of the database, where a transaction ends


@pytest.fixture
def random() -> Random:
    seed = SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    return Random(seed)


def check_as_sqlite(folder: Path, image: Image) -> None:
    assert recovered(folder, image) - checkpointed(folder, image.database) == image.commits


@cache
def checkpointed(folder: Path, database: bytes) -> int:
    return recovered(folder, Image(database, b""))


def check_not_refused(folder: Path, image: Image, commits: int) -> None:
    """As many commits are there at least; what was under way may be there or not."""
    assert not image.is_refused
    assert image.commits in (commits, commits + 1)
    check_as_sqlite(folder, image)


def test_flipped_bit_is_damage_unless_it_is_in_the_last_transaction(
    tmp_path: Path, random: Random
) -> None:
    with journalled(tmp_path) as made:
        images = [made.commit() for _ in range(3)]
    whole = images[-1]
    ends = [len(image.log) for image in images]
    refused = 0
    for byte in range(random.randrange(5), len(whole.log), 5):
        bit = random.randrange(8)
        flipped = whole.flipped(byte, bit)
        transaction = sum(byte >= end for end in ends) if byte >= HEADER else 0
        place = (byte - HEADER) % whole.frame
        frame = HEADER + (byte - HEADER) // whole.frame * whole.frame
        mark = flipped.log[frame + MARK.start : frame + MARK.stop]
        is_marked_wrongly = (
            byte >= HEADER and place in MARK and (any(mark) != (frame + whole.frame in ends))
        )
        if not is_marked_wrongly:
            assert flipped.is_refused == (transaction < len(ends) - 1), (byte, bit)
        refused += flipped.is_refused
        assert flipped.commits == transaction
        check_as_sqlite(tmp_path, flipped)
    assert refused > len(whole.log) // 10


@pytest.mark.parametrize("page_size", [512, 4096])
def test_every_byte_of_the_headers_counts(tmp_path: Path, page_size: int) -> None:
    with journalled(tmp_path, page_size) as made:
        made.commit()
        before = len(made.image().log)
        whole = [made.commit() for _ in range(2)][-1]
    for byte in (*range(HEADER), *range(before, before + FRAME)):
        for bit in (0, 7):
            flipped = whole.flipped(byte, bit)
            assert flipped.is_refused, (byte, bit)
            assert flipped.commits == (0 if byte < HEADER else 1)
            check_as_sqlite(tmp_path, flipped)


def test_sector_that_was_lost_is_damage(tmp_path: Path) -> None:
    with journalled(tmp_path) as made:
        images = [made.commit() for _ in range(5)]
    whole = images[-1]
    for start in range(0, len(images[-3].log), SECTOR):
        for lost in (b"\0" * SECTOR, b"\xff" * SECTOR):
            log = whole.log[:start] + lost + whole.log[start + SECTOR :]
            assert whole.with_log(log).is_refused, start
            check_as_sqlite(tmp_path, whole.with_log(log))


def test_damage_at_several_places_is_damage_still(tmp_path: Path, random: Random) -> None:
    with journalled(tmp_path) as made:
        images = [made.commit() for _ in range(8)]
    whole = images[-1]
    for _ in range(200):
        log = bytearray(whole.log)
        for _ in range(random.randint(2, 6)):
            log[random.randrange(len(images[3].log))] ^= 1 << random.randrange(8)
        damaged = whole.with_log(bytes(log))
        assert damaged.is_refused or log == whole.log
        check_as_sqlite(tmp_path, damaged)


def test_what_is_lost_is_counted(tmp_path: Path) -> None:
    with journalled(tmp_path) as made:
        images = [made.commit() for _ in range(20)]
    start = len(images[9].log)
    found = images[-1].flipped(start + 100).findings()
    assert found
    assert (found.end, found.commits, found.lost) == (start, 10, 10)
    found = images[-1].flipped(0).findings()
    assert found
    assert (found.end, found.commits, found.lost) == (0, 0, 20)


def test_big_endian_checksums_are_read(tmp_path: Path) -> None:
    with journalled(tmp_path) as made:
        whole = [made.commit() for _ in range(4)][-1]
    turned = whole.with_log(as_big_endian(whole))
    assert recovered(tmp_path, turned) == turned.commits == 4
    assert not turned.is_refused
    for byte in (3, 9, HEADER + 5, HEADER + 100):
        assert turned.flipped(byte).is_refused
        check_as_sqlite(tmp_path, turned.flipped(byte))


def as_big_endian(image: Image) -> bytes:
    """The log as a machine writes it whose words begin with their highest byte."""
    log = bytearray(image.log)
    log[3] ^= 1
    sums = wal.checksum(">", bytes(log[: HEADER - 8]), (0, 0))
    log[HEADER - 8 : HEADER] = b"".join(one.to_bytes(4) for one in sums)
    for start in range(HEADER, len(log), image.frame):
        page = log[start + FRAME : start + image.frame]
        sums = wal.checksum(">", bytes(log[start : start + 8] + page), sums)
        log[start + FRAME - 8 : start + FRAME] = b"".join(one.to_bytes(4) for one in sums)
    return bytes(log)


def test_torn_tail_of_any_length_is_no_damage(tmp_path: Path) -> None:
    with journalled(tmp_path) as made:
        images = [made.commit() for _ in range(3)]
    ends = [len(image.log) for image in images]
    for length in (*range(0, ends[-1], 3), *ends):
        torn = images[-1].with_log(images[-1].log[:length])
        assert not torn.is_refused
        assert torn.commits == sum(length >= end for end in ends)
        if length % 5 == 0:
            check_as_sqlite(tmp_path, torn)


def test_what_is_no_log_is_not_damaged(random: Random) -> None:
    for log in (b"", b"\0" * 5000, b"\xff" * 31, random.randbytes(20_000)):
        found = examine(io.BytesIO(log), lambda: 512)
        assert not (found and found.is_damaged)


def test_older_log_behind_a_shorter_one_is_no_damage(tmp_path: Path, random: Random) -> None:
    with journalled(tmp_path) as made:
        for _ in range(8):
            made.commit()
        for generation in range(2):
            old = made.begin_anew()
            assert not old.is_refused
            check_power_cuts(tmp_path, begun(old, made.commit()), made.image(), 0, random)
            for commits in range(1, 3 - generation):
                before = made.image()
                check_power_cuts(tmp_path, before, made.commit(), commits, random)


def begun(old: Image, new: Image) -> Image:
    """A log that begins anew has its new header synced before its first frame is written."""
    return new.with_log(new.log[:HEADER] + old.log[HEADER:])


def check_power_cuts(
    folder: Path, before: Image, after: Image, commits: int, random: Random
) -> None:
    """Whichever sectors of the transaction between the two reached the disk, a start takes it."""
    sectors = range(len(after.log) // SECTOR + 1)
    written = range(sector_of_difference(before.log, after.log), len(sectors))
    chosen = [{lost} for lost in random.sample(written, min(40, len(written)))]
    chosen += [set(random.sample(sectors, random.randint(1, len(sectors)))) for _ in range(40)]
    for lost in chosen:
        log = sectors_mixed(before.log, after.log, lambda sector: sector not in lost)  # noqa: B023
        check_not_refused(folder, after.with_log(log), commits)
        cut = log[: random.randint(len(before.log), max(len(before.log), len(log)))]
        check_not_refused(folder, after.with_log(cut), commits)


def sector_of_difference(one: bytes, other: bytes) -> int:
    """The first one in which the two differ."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    return same // SECTOR


def test_power_cut_in_the_last_transaction_is_no_damage(tmp_path: Path, random: Random) -> None:
    with journalled(tmp_path) as made:
        before = made.commit()
        for commits in range(1, 6):
            after = made.commit(pages=commits * 3)
            check_power_cuts(tmp_path, before, after, commits, random)
            before = after


def test_transaction_that_was_rolled_back_leaves_no_damage(tmp_path: Path, random: Random) -> None:
    with journalled(tmp_path) as made:
        made.commit()
        for commits in range(1, 4):
            left = made.roll_back(pages=40)
            assert len(left.leftovers()) > 20, "nothing was spilled"
            check_not_refused(tmp_path, left, commits)
            after = made.commit()
            assert after.leftovers(), "nothing is left behind the shorter one"
            check_power_cuts(tmp_path, left, after, commits, random)


def test_old_mark_in_a_header_that_spans_two_sectors_is_no_damage(tmp_path: Path) -> None:
    """Where pages end alike in both logs, a sector that was not written shows in the mark alone."""
    pages = 70
    with journalled(tmp_path, page_size=4096) as made:
        made.commit(pages)
        made.begin_anew()
        for number in range(pages):
            made.db.execute("UPDATE pages SET filling = ? WHERE rowid = 1", (ending_alike(number),))
        old = made.begin_anew()
        with made.db:
            made.db.execute("BEGIN")
            for row in range(pages):
                filling = (ending_alike(100 + row), row)
                made.db.execute("UPDATE pages SET filling = ? WHERE rowid = ?", filling)
        new = made.image()
    tried = 0
    for start in range(HEADER, min(len(old.log), len(new.log)), new.frame):
        sector = (start + FRAME) // SECTOR * SECTOR
        if sector >= start + MARK.stop:
            log = sectors_mixed(old.log, new.log, lambda number: number != sector // SECTOR - 1)  # noqa: B023
            assert log[start:sector] != new.log[start:sector]
            assert log[:start] == new.log[:start]
            assert any(log[start + place] for place in MARK)
            check_not_refused(tmp_path, new.with_log(log), 0)
            tried += 1
    assert tried


def ending_alike(number: int) -> bytes:
    return bytes([number]) + bytes(3000)


FAILING = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA wal_autocheckpoint = 0")
def commit(pages):
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO commits VALUES (NULL)")
    for number in range(pages):
        db.execute("INSERT INTO pages VALUES (zeroblob(400))")
    db.execute("COMMIT")
def commit_until_one_fails(pages):
    try:
        while True:
            commit(pages)
    except sqlite3.OperationalError:
        db.rollback()
for pages in (60, 20):
    commit_until_one_fails(pages)
    commit(2)
os._exit(0)
"""


def test_commit_whose_sync_failed_leaves_no_damage(
    tmp_path: Path, random: Random, strace: list[str]
) -> None:
    """Its commit frame is in the log, behind the shorter transaction that came after it."""
    with journalled(tmp_path) as made:
        made.commit()
        conduct = "inject=fsync,fdatasync:error=EIO:when=5..7+2"
        failing = (sys.executable, "-c", FAILING, str(made.path))
        subprocess.run([*strace, "-f", "-o", "/dev/null", "-e", conduct, *failing], check=True)
        left = made.image()
        commits = made.db.execute("SELECT count(*) FROM commits").fetchone()[0]
        check_not_refused(tmp_path, left, commits)
        assert any(any(header[4:8]) for header in left.leftovers()), "no commit frame is left"
        check_power_cuts(tmp_path, left, made.commit(), commits, random)
