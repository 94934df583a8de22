"""The page that follows an event names what is there, in the order in which a real one meets it."""

import asyncio
import re
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession

from added import with_stages
from aggregator import transaction
from aggregator.api.request.parsed_event import OWN, ParsedEvent
from aggregator.api.request.strict_json import FIRST
from aggregator.app import STORE
from aggregator.core.identity import digest_of, key_of
from aggregator.prove.child import ChildOptions
from aggregator.prove.failpoints import Point
from aggregator.prove.process import Process
from blocks import blocks
from conftest import Client, starting
from events import event
from linked import FUNCTION, defined
from running import LIMIT, Service
from trace_event import STATUSES, Recorder, Way, ways

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "life-of-an-event.md").read_text()
HEAD, *SECTIONS = PAGE.split("\n## ")
FILE = re.compile(r"\[(\w+\.py)\]\(\.\./([\w/]+\.py)\)")
ROWS = re.findall(r"^\| \[(\d+)\]\(#([\w-]+)\) \|([^|]+)\|[^|]+\| ([^|]+) \|$", HEAD, re.MULTILINE)
KILLED_AT = {
    Point.DECODED: 5,
    Point.CLAIMED: 8,
    Point.APPENDED: 9,
    Point.COMMITTING: 10,
    Point.COMMITTED: 12,
    Point.ANSWERING: 13,
}
"""Steps of the table."""
AGAIN = {"nothing": "stored", "the event: a retry is a duplicate": "duplicate"}
"""What a retry is answered, by what a kill leaves."""
OTHER_WAYS = {"A duplicate": "duplicate", "A conflict": "conflict", "An invalid one": "invalid"}


@pytest.fixture(scope="module")
def traced() -> dict[str, Way]:
    return ways()


def titled(section: str) -> str:
    return section.partition("\n")[0]


STEPS = [section for section in SECTIONS if section[0].isdigit()]


def test_every_function_that_the_page_names_is_there() -> None:
    named = FUNCTION.findall(PAGE)
    assert len(named) > 50
    for name, path in named:
        assert name in defined(ROOT / path), f"{path} has no {name}"


def test_new_event_passes_the_functions_of_each_step_in_their_order(
    traced: dict[str, Way],
) -> None:
    named = [(Path(path), name) for step in STEPS for name, path in FUNCTION.findall(step)]
    passed = traced["new"].steps
    for step in named:
        assert step in passed, step
    # A name that comes twice counts where it comes first.
    named = list(dict.fromkeys(named))
    assert named == sorted(named, key=passed.index)


def test_steps_of_the_table_are_the_sections_and_their_files_are_on_the_way(
    traced: dict[str, Way],
) -> None:
    anchors = [re.sub(r"[^\w -]", "", titled(step)).lower().replace(" ", "-") for step in STEPS]
    assert [(number, anchor) for number, anchor, _, _ in ROWS] == [
        (str(number), anchor) for number, anchor in enumerate(anchors, 1)
    ]
    for (_, _, files, _), step in zip(ROWS, STEPS, strict=True):
        paths = [path for _, path in FILE.findall(files)]
        assert paths
        assert {Path(path) for path in paths} <= traced["new"].functions.keys()
        assert set(paths) <= {path for _, path in FUNCTION.findall(step)}, titled(step)


@pytest.mark.parametrize("section", OTHER_WAYS)
def test_what_is_not_new_passes_what_the_page_says_of_it(
    traced: dict[str, Way], section: str
) -> None:
    (text,) = (one for one in SECTIONS if titled(one) == section)
    passed = traced[OTHER_WAYS[section]].steps
    named = FUNCTION.findall(text)
    assert named
    assert [(name, path) for name, path in named if (Path(path), name) not in passed] == []
    assert set(OTHER_WAYS.values()) == STATUSES.keys() - {"new"}


async def test_the_other_ways_pass_what_the_page_says_of_them(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Recorder() as recorder:
        recorder.is_recording = True
        async with starting(store_url) as start:
            client = await start(
                with_stages(odd="misbehaving:Raises"),
                pipeline="validate | dedup odd persist",
                on_invalid="quarantine",
            )
            strict = [event("1"), event("2", source="")]
            bad = event("3", payload={"is": "bad"})
            for sent, prefer in ((strict, "handling=strict"), (bad, ""), (bad, "respond-async")):
                await client.post("/publish", json=sent, headers={"Prefer": prefer})
            await settled(client)
            await client.post("/quarantine/release", params={"after": "0"})
            monkeypatch.setattr(transaction, "COMPARED_AT_ONCE", 0)  # what is larger is large
            for payload in ({}, {"another": "content"}):
                await client.post("/publish", json=event("5", payload=payload))
            await client.app[STORE]._writer.close()  # from now on it fails, until it is reopened
            failed = await client.post("/publish", json=event("4"))
            assert failed.status == 503
            await settled(client)
        passed = recorder.taken().steps
    others = [one for one in SECTIONS if one not in STEPS and titled(one) not in OTHER_WAYS]
    assert len(others) == 6
    for section in others:
        named = FUNCTION.findall(section)
        assert named
        assert [(name, path) for name, path in named if (Path(path), name) not in passed] == [], (
            titled(section)
        )


async def settled(client: Client) -> None:
    """Wait until nothing is under way."""
    async with asyncio.timeout(LIMIT):
        while (await (await client.get("/stats")).json())["queue_size_current"]:
            pass


def test_event_is_at_each_step_what_is_shown(service: Service) -> None:
    (command,) = blocks(PAGE, "sh")
    (parsed,) = blocks(PAGE, "python")
    (hashes,) = blocks(PAGE, "text")
    stored, answer = blocks(PAGE, "json")
    body = command.split("-d '")[1].rstrip().removesuffix("'").strip().encode()

    sent = OWN.parse(body, FIRST)
    assert eval(parsed, {"ParsedEvent": ParsedEvent}) == sent
    key, digest = key_of(sent.topic, sent.event_id), digest_of(sent.source, sent.payload)
    assert dict(line.split() for line in hashes.splitlines()) == {
        "key": key.hex(),
        "digest": digest.hex(),
    }
    service.start()
    command = command.replace("http://127.0.0.1:8080", service.url)
    said = subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout
    assert said.decode() == answer.strip()
    with closing(sqlite3.connect(service.folder / "data" / "aggregator.db")) as db:
        (row,) = db.execute("SELECT CAST(events AS TEXT) FROM blocks").fetchone()
    assert without_arrival(row) == without_arrival(stored.strip())


def without_arrival(row: str) -> str:
    assert re.match(r"\[\[\d{16},", row)
    return row[18:]


@pytest.mark.parametrize("point", KILLED_AT, ids=lambda point: point.value)
async def test_kill_leaves_what_the_table_says(tmp_path: Path, point: Point) -> None:
    settings: dict[str, str | int] = {"store": f"sqlite:///{tmp_path}/aggregator.db", "port": 0}
    async with serving(ChildOptions(settings, point, times=1), tmp_path) as (process, client):
        with pytest.raises(ClientError):
            await client.post("/publish", json=event("1"))
        assert await process.wait_killed(LIMIT)
    async with serving(ChildOptions(settings), tmp_path) as (_, client):
        answer = await client.post("/publish", json=event("1"))
        (result,) = (await answer.json())["results"]
    number, _, _, left = ROWS[KILLED_AT[point] - 1]
    assert number == str(KILLED_AT[point])
    assert (result["status"], result["seq"]) == (AGAIN[left], 1)


@asynccontextmanager
async def serving(
    options: ChildOptions, folder: Path
) -> AsyncIterator[tuple[Process, ClientSession]]:
    process = await Process.spawn(options, folder)
    try:
        async with ClientSession(await process.wait_listening()) as client:
            yield process, client
    finally:
        await process.kill()
