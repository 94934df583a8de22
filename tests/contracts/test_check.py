"""`aggregator check`: what is whole is found whole, running or not; damage is told by its kind."""

import asyncio
import json
import re
import sqlite3
import zlib
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from aggregator.cli.main import main
from aggregator.core.identity import DEFAULT_KEY_SPEC, key_of
from aggregator.errors import SettingError
from aggregator.event import Event
from aggregator.store import ConflictingContent, Counters, Redelivery
from aggregator.testing import make_event
from aggregator_sqlite import check, check_events, check_tables, findings
from aggregator_sqlite.connection import prove_writing
from aggregator_sqlite.findings import Kind
from aggregator_sqlite.store import SqliteStore
from pages import cells, flip
from small_runs import make_pages_small, make_runs_small
from tampering import empty, remove, spoil

DIFFERS = ConflictingContent(b"\x01" * 17, ("/user",))


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteStore]:
    """Twelve events in four rows, in runs of the index; read in as many pieces as can be."""
    make_runs_small(monkeypatch, in_memory=4, at_once=4)
    make_pages_small(monkeypatch)
    monkeypatch.setattr(check_events, "BLOCKS_AT_ONCE", 1)
    monkeypatch.setattr(check_tables, "PAGES_AT_ONCE", 1)
    monkeypatch.setattr(check_tables, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(check_tables, "ENTRIES_AT_ONCE", 1)
    store = SqliteStore(f"sqlite:///{tmp_path}/aggregator.db")
    await store.open(DEFAULT_KEY_SPEC)
    await store.index(["/user"])
    for batch in range(4):
        await publish(store, batch)
    yield store
    await store.close()


async def publish(store: SqliteStore, batch: int) -> None:
    """Three events, of which one has another key; two sources send the first one again."""
    events = [event(f"{batch}-{number}") for number in range(3)]
    async with store.transaction() as tx:
        seqs = await tx.append(events)
        await tx.record([Redelivery(seqs[0], source, 7, DIFFERS) for source in "abc"])
        stored = Counters(stored=3)
        await tx.count(stored, {"logins": stored})


def event(event_id: str) -> Event:
    if not event_id.endswith("-1"):
        return make_event(event_id)
    name = key_of("logins", event_id)
    return make_event(event_id, key=key_of("logins", f"{event_id} of another key"), name=name)


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


async def found(store: SqliteStore) -> list[str]:
    """What each finding begins with."""
    return [finding.what.partition(":")[0] for finding in (await store.check()).findings]


async def test_nothing_is_found_while_events_are_stored_and_runs_are_merged(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    in_transaction = check._in_transaction

    def counted(*args: object) -> bool:
        nonlocal steps
        steps += 1
        return in_transaction(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(check, "_in_transaction", counted)
    other = SqliteStore(store.url)
    checking = asyncio.create_task(other.check())
    batch = 4
    while not checking.done():
        await publish(store, batch)
        batch += 1
    checked = await checking
    assert (checked.findings, checked.is_running) == ([], True)
    assert 12 <= checked.events <= 3 * batch
    assert steps > checked.events // 3  # a transaction for each row of events
    assert other.doing == ""


async def test_writers_go_on_and_the_log_is_tidied_up_between_two_pieces(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[tuple[int, int]] = []
    read_some = check_events.Events.read_some

    def read_and_publish(one: check_events.Events, db: sqlite3.Connection) -> bool:
        with closing(sqlite3.connect(store.path)) as writer:
            prove_writing(writer)  # a commit, after which the piece begins
        return read_some(one, db)

    def look(path: Path) -> None:
        with closing(sqlite3.connect(path)) as writer:
            _, pages, done = writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            copied.append((pages, done))

    monkeypatch.setattr(check_events.Events, "read_some", read_and_publish)
    checked = await check.check(store.path, lambda _: look(store.path), is_running=True)
    assert checked.findings == []
    assert copied
    assert all(pages == done for pages, done in copied)


@pytest.mark.parametrize(
    ("kind", "statements"),
    [
        (findings.BLOCKS, ["UPDATE blocks SET sizes = '' WHERE first_seq = 4"]),
        (findings.BLOCKS, ["UPDATE blocks SET first_seq_copy = 5 WHERE first_seq = 4"]),
        (findings.KEYS, ["UPDATE blocks SET checksum = 3 WHERE first_seq = 4"]),
        (findings.ARRIVALS, ["UPDATE blocks SET behind = 3 WHERE first_seq = 4"]),
        (findings.VIEW, ["UPDATE blocks SET events = CAST(';' || substr(events, 2) AS BLOB)"]),
        (findings.GONE, ["DELETE FROM blocks WHERE first_seq = 4"]),
        (findings.GONE, ["DELETE FROM blocks WHERE first_seq = 10"]),
        (findings.BY_TOPIC, ["UPDATE blocks_by_topic SET first_seq = 5 WHERE first_seq = 4"]),
        (findings.BY_TOPIC, ["INSERT INTO blocks_by_topic VALUES (1, 5)"]),
        (findings.NAMES, ["UPDATE blocks SET checksum = -1, names = ''"]),
        (findings.NAMES, ["UPDATE blocks SET checksum = -1, names = CAST(events AS BLOB)"]),
        (findings.FIELDS, ["DELETE FROM fields WHERE seq = 2"]),
        (findings.FIELDS, ["UPDATE pointers SET pointer = '/usdr'"]),
        (findings.RUNS, ["UPDATE runs SET entries = entries + 1"]),
        (findings.RUNS, ["DELETE FROM run_pages WHERE id = (SELECT max(id) FROM run_pages)"]),
        (findings.COUNTERS, ["UPDATE counters SET stored = 13, checksum = checksum + 3"]),
        (findings.COUNTERS, ["UPDATE counters SET last_seq = 4"]),
        (findings.TOPICS, ["UPDATE topics SET stored = 13, checksum = checksum + 3"]),
        (findings.TOPICS, ["UPDATE topics SET name = 'logout'"]),
        (findings.HISTORY, ["UPDATE redeliveries SET source = 'd' WHERE source = 'c'"]),
        (
            findings.HISTORY,
            ["UPDATE redeliveries SET source = CAST('c' AS BLOB) WHERE source = 'c'"],
        ),
        (findings.HISTORY, ["UPDATE conflicting_contents SET differences = '[]'"]),
        (findings.UNREADABLE, ["UPDATE redeliveries SET seq = 'x' WHERE seq = 4"]),
    ],
)
async def test_damage_is_told_as_its_kind(
    store: SqliteStore, kind: Kind, statements: list[str]
) -> None:
    await store.close()
    change(store.path, *statements)
    assert kind.what in await found(store)


async def test_damaged_event_leaves_open_what_the_others_come_to(store: SqliteStore) -> None:
    await store.close()
    spoil(store.path, 5, b"logins", b"login\xf3")
    (finding,) = (await store.check()).findings
    assert finding.what == "stored events, by seq: 5"


async def test_tree_of_pages_is_looked_at_too(store: SqliteStore) -> None:
    await store.close()
    first = cells(store.path, "run_pages")[0]
    flip(store.path, first.pointer + 1, 0)
    assert findings.STRUCTURE.what in await found(store)


async def test_key_in_a_run_is_held_against_the_events(store: SqliteStore) -> None:
    """Where page and checksum fit each other, as of an older page that a disk has brought back."""
    await store.close()
    with closing(sqlite3.connect(store.path)) as db, db:
        (number, page) = db.execute("SELECT id, entries FROM run_pages LIMIT 1").fetchone()
        wrong = bytes([page[0] ^ 1]) + page[1:-4]
        wrong += zlib.crc32(wrong).to_bytes(4)
        db.execute("UPDATE run_pages SET entries = ? WHERE id = ?", (wrong, number))
    assert await found(store) == [findings.RUNS.what]


async def test_payloads_that_are_kept_no_more_are_no_damage(store: SqliteStore) -> None:
    await store.close()
    empty(store.path, 5)
    assert await found(store) == []


async def test_many_of_a_kind_are_one_finding(store: SqliteStore) -> None:
    await store.close()
    change(store.path, "UPDATE blocks SET checksums = zeroblob(length(checksums))")
    (finding,) = (await store.check()).findings
    assert finding.what == "stored events, by seq: 1, 2, 3, 4, 5 and 7 more"


async def test_store_that_is_not_there_cannot_be_checked(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="there is none yet"):
        await SqliteStore(f"sqlite:///{tmp_path}/none.db").check()


def repairs(section: str) -> list[str]:
    """The statements that docs/reliability.md gives under that heading."""
    page = Path(__file__).parents[2] / "docs" / "reliability.md"
    told = page.read_text().partition(f"\n### {section}\n")[2].partition("\n###")[0]
    return re.findall(r'^sqlite3 data/aggregator.db "(.+)"$', told, re.MULTILINE)


async def test_index_by_topic_is_made_anew_as_the_page_says(store: SqliteStore) -> None:
    await store.close()
    change(store.path, "UPDATE blocks_by_topic SET first_seq = 5 WHERE first_seq = 4")
    change(store.path, *repairs("The index by topic is damaged"))
    assert await found(store) == []


async def test_counters_are_mended_as_the_page_says(store: SqliteStore) -> None:
    await store.close()
    change(store.path, "UPDATE counters SET last_seq = 9, filtered = 5")
    set_right, summed_anew = repairs("The counters are damaged")
    change(store.path, set_right.replace("400", "12"), summed_anew)
    assert await found(store) == []
    await store.open(DEFAULT_KEY_SPEC)


async def run(store: SqliteStore, *flags: str) -> tuple[int, str]:
    command = ["check", "--store", store.url, *flags]
    ran = await asyncio.to_thread(CliRunner().invoke, main, command)
    return ran.exit_code, ran.output


async def test_command_tells_people_and_programs(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)  # for the main thread alone
    status, told = await run(store)
    assert (status, "12 events up to seq 12" in told) == (0, True)
    assert "a service has it open" in told
    assert told.endswith("OK: nothing is damaged\n")
    await store.close()
    remove(store.path, 12)
    status, told = await run(store)
    assert status == 1
    assert "DAMAGED  seqs under which no event is found: 12\n  means  " in told
    assert "a service has it open" not in told
    status, told = await run(store, "--json")
    assert (status, json.loads(told)["findings"][0].keys()) == (1, {"what", "means", "do"})
    store.path.unlink()
    status, told = await run(store)
    assert (status, "there is none yet" in told) == (2, True)


async def test_probe_says_it_in_a_line_with_the_status_of_monitoring_plugins(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)  # for the main thread alone
    data = r" \| events=12;;;0 seconds=\d+\.\d{3}s;;;0\n"
    status, told = await run(store, "--probe")
    assert status == 0
    text = "AGGREGATOR OK - nothing is damaged in 12 events up to seq 12"
    assert re.fullmatch(re.escape(text) + data, told)
    await store.close()
    change(store.path, "UPDATE topics SET stored = 9")
    status, told = await run(store, "--probe")
    assert status == 2
    assert re.fullmatch(r"AGGREGATOR CRITICAL - damaged: [^|\n]+" + data, told)
    for url, why in ((f"sqlite:///{tmp_path}/none.db", "none yet"), ("none|such", "none/such")):
        store.url = url
        status, told = await run(store, "--probe")
        assert status == 3
        assert re.fullmatch(rf"AGGREGATOR UNKNOWN - [^|\n]*{why}[^|\n]*\n", told), told
