"""Every query and command of the page on SQL gives what the page says, and changes nothing."""

import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest

from events import event
from restored import run_block
from running import LIMIT, Service

PAGE = Path(__file__).parent.parent / "docs" / "reading-with-sql.md"
SHOWN_URL = "http://127.0.0.1:8080"
DATABASE = "data/aggregator.db"
FILES = (DATABASE, f"{DATABASE}-wal")

_BLOCK = re.compile(
    r"^```(sh|sql|python)\n(.*?)^```\n(?:\s*^```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE
)


class Example(NamedTuple):
    """A block of the page, and what it says if that is shown."""

    section: str
    language: str
    text: str
    shown: str


def examples() -> Iterator[Example]:
    for part in PAGE.read_text().split("\n## ")[1:]:
        for language, text, shown in _BLOCK.findall(part):
            yield Example(part.partition("\n")[0], language, text, shown)


def told(names: list[str], rows: list[tuple[Any, ...]]) -> str:
    """As `sqlite3 -header` does."""
    shown = [["NULL" if value is None else str(value) for value in row] for row in rows]
    return "".join(f"{'|'.join(line)}\n" for line in [names, *shown])


def reading(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, isolation_level=None)


def in_sqlite(database: Path, statement: str) -> str:
    with closing(reading(database)) as db:
        found = db.execute(statement)
        return told([column[0] for column in found.description], found.fetchall())


def in_shell(command: str, service: Service) -> str:
    """Run it; SQLite of Python's takes the place of a `sqlite3` that is not installed."""
    if command.startswith("sqlite3 ") and not shutil.which("sqlite3"):
        return in_sqlite(service.folder / DATABASE, shlex.split(command)[-1])
    return run_block(command.replace(SHOWN_URL, service.url), service.folder)


def in_python(program: str, service: Service) -> str:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=service.folder,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    ).stdout


def test_every_example_gives_what_is_shown(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.start("--on-invalid", "quarantine")
    monkeypatch.chdir(service.folder)  # DuckDB reads relative paths from here
    with closing(duckdb.connect()) as other:
        for example in examples():
            match example.language:
                case "sh":
                    came = in_shell(example.text, service)
                case "python":
                    came = in_python(example.text, service)
                case _ if example.section == "With DuckDB":
                    found = other.execute(example.text)
                    names = [column[0] for column in found.description or ()]
                    came = told(names, found.fetchall())
                case _:
                    came = in_sqlite(service.folder / DATABASE, example.text)
            if example.shown:
                assert came == example.shown, example.text
    assert service.call("/readyz")[0] == 200


def test_page_has_an_example_of_each_kind_with_its_result() -> None:
    kinds = {(one.section, one.language) for one in examples() if one.shown}
    assert kinds >= {
        ("The view `events`", "sql"),
        ("What is beside the events", "sql"),
        ("With Python", "python"),
        ("With DuckDB", "sql"),
    }


def test_every_column_of_the_view_is_described(service: Service) -> None:
    service.start()
    header = in_sqlite(service.folder / DATABASE, "SELECT * FROM events").splitlines()[0]
    section = PAGE.read_text().partition("## The view")[2].partition("\n## ")[0]
    firsts = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    named = [name for first in firsts for name in re.findall(r"`(\w+)`", first)]
    assert sorted(named) == sorted(header.split("|"))


def test_reading_as_the_page_says_leaves_the_files_of_a_killed_service_alone(
    service: Service,
) -> None:
    """A connection that may write would check what the log holds into the database."""
    service.start()
    service.publish([event(str(number)) for number in range(10)])
    service.kill()
    before = [(service.folder / name).read_bytes() for name in FILES]
    assert before[1], "there is a log to check in"
    first = next(examples())
    assert first.text.startswith("sqlite3 -readonly ")
    assert in_shell(first.text, service) == "events\n10\n"
    assert in_sqlite(service.folder / DATABASE, "SELECT count(*) AS n FROM events") == "n\n10\n"
    assert [(service.folder / name).read_bytes() for name in FILES] == before
    with closing(sqlite3.connect(service.folder / DATABASE)) as careless:
        careless.execute("SELECT count(*) FROM events").fetchone()
    assert not (service.folder / FILES[1]).exists()


COMMANDS = (
    "DELETE FROM blocks",
    "UPDATE counters SET stored = 0",
    "VACUUM",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA wal_checkpoint(TRUNCATE)",
)


def test_reader_changes_nothing_whatever_it_is_told(service: Service) -> None:
    service.start()
    service.publish(event("1"))
    before = [(service.folder / name).read_bytes() for name in FILES]
    for statement in COMMANDS:
        with closing(reading(service.folder / DATABASE)) as db, suppress(sqlite3.OperationalError):
            db.execute(statement).fetchall()  # refused, or answered that nothing was done
        assert [(service.folder / name).read_bytes() for name in FILES] == before, statement
    assert service.publish(event("2"))[0] == 200


def test_log_grows_while_somebody_reads_and_no_longer(service: Service) -> None:
    """SQLite checks it into the database at 4 MB, as far as readers allow."""
    service.start()
    log = service.folder / FILES[1]
    large = [event(str(number), payload={"text": "x" * 900_000}) for number in range(30)]
    assert all(service.publish(one)[0] == 200 for one in large[:10])
    assert log.stat().st_size < 6_000_000
    with closing(reading(service.folder / DATABASE)) as db:
        db.execute("BEGIN").execute("SELECT count(*) FROM events").fetchone()
        assert all(service.publish(one)[0] == 200 for one in large[10:20])
    grown = log.stat().st_size
    assert grown > 9_000_000
    assert all(service.publish(one)[0] == 200 for one in large[20:])
    assert log.stat().st_size < grown + 2_000_000
