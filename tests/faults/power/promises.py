"""What the service promises, held against the files that a power cut has left.

The service itself opens them: the real app is started on them, all that is stored is read, and
what had been answered and what had not is published again.
"""

import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from aggregator.api.request import body
from aggregator.app import create_app
from aggregator.config import load
from aggregator.errors import AggregatorError
from aggregator.plugins import Plugins
from aggregator_sqlite.runs import load_runs
from events import event
from power.cuts import Answered, Cut, Key, cuts
from power.steps import Step

ANSWERED_IS_STORED = "answered means stored"
STORED_ONCE = "stored exactly once"
SENT_AGAIN = "what was not answered can be sent again"
ADDS_UP = "the numbers add up"
SOUND = "no key without its event, in a sound file"
OPENS = "the store opens by itself, and can be read"

_OUTCOMES = ("unique_processed", "duplicate_dropped", "invalid", "filtered", "refused")
_MOST = 40  # events that are published again after each cut
_IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where a sync takes no time

Client = TestClient[Any, Any]
Stored = dict[Key, dict[str, Any]]


class BrokenPromise(AssertionError):
    """The service has not kept its word."""


def hold(promise: str, is_kept: object, found: object) -> None:
    """Raise BrokenPromise unless it is kept."""
    if not is_kept:
        raise BrokenPromise(f"{promise}: {found}")


class Examiner:
    """Looks at one cut after another of the same steps."""

    def __init__(self, steps: Sequence[Step], folder: Path, seed: int) -> None:
        self.steps = steps
        self.folder = folder
        self.seed = seed
        self.examined = 0
        self._random = Random(seed)
        self._sent = sorted(Answered.after(steps).seqs)  # each was answered in the end
        self._seen: set[tuple[bytes, int]] = set()

    async def examine(self, chosen: set[int]) -> None:
        """Cut after each of these steps. Raises BrokenPromise, which says where to look."""
        for cut in cuts(self.steps, chosen, self._random):
            image = cut.digest, len(cut.answered.seqs)
            if image in self._seen:
                continue
            self._seen.add(image)
            try:
                await self._examine(cut)
            except BrokenPromise as error:
                broken = self.folder / "broken"
                lay_out(cut.files, broken)
                raise BrokenPromise(f"{error}\n{cut}; files {broken}, seed {self.seed}") from error
            self.examined += 1

    async def _examine(self, cut: Cut) -> None:
        with TemporaryDirectory(dir=_IN_MEMORY) as name:
            place = Path(name)
            lay_out(cut.files, place)
            try:
                async with serving(place) as client:
                    stored = await read(client)
                    check_stored(stored, cut)
                    check_file(place)
                    await self._publish_again(client, stored, cut)
            except AggregatorError as error:
                raise BrokenPromise(f"{OPENS}: {error}") from error

    async def _publish_again(self, client: Client, stored: Stored, cut: Cut) -> None:
        """Of what was answered the newest, and others, answered or not."""
        newest = list(cut.answered.seqs)[-_MOST // 2 :]
        others = self._random.sample(self._sent, min(_MOST // 2, len(self._sent)))
        results = await publish(client, sorted({*newest, *others}))
        last = max((one["seq"] for one in stored.values()), default=0)
        stored = stored | await read(client, last)
        check_results(results, stored, cut)
        check_numbers(await (await client.get("/stats")).json(), len(stored), cut)


def lay_out(files: dict[str, bytes], folder: Path) -> None:
    """Write the files into the folder."""
    for path, content in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


_installed = cache(Plugins.installed)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Client]:
    """The app in this process, on the store in the folder."""
    configuration = load({"store": f"sqlite:///{folder}/data/aggregator.db"}, {})
    server = TestServer(create_app(configuration, _installed()))
    try:
        await server.start_server(**body.RUNNER)
        async with TestClient(server) as client:
            yield client
    finally:
        await server.close()


async def read(client: Client, after: int | None = 0) -> Stored:
    """All that is stored behind that seq."""
    events: list[dict[str, Any]] = []
    while after is not None:
        response = await client.get(f"/events?limit=1000&after={after}")
        page = await response.json()
        hold(OPENS, response.status == 200, page)
        events += page["events"]
        after = page["next"]
    found = {(one["topic"], one["event_id"]): one for one in events}
    hold(STORED_ONCE, len(found) == len(events), f"{len(events)} for {len(found)} keys")
    return found


async def publish(client: Client, keys: list[Key]) -> Stored:
    """Send these in one submission; what became of each."""
    events = [event(event_id, topic) for topic, event_id in keys]
    response = await client.post("/publish", json=events)
    told = await response.json()
    hold(SENT_AGAIN, response.status == 200, told)
    return dict(zip(keys, told["results"], strict=True))


def check_stored(stored: Stored, cut: Cut) -> None:
    """Everything answered is there, under its seq, as it was sent."""
    for (topic, event_id), seq in cut.answered.seqs.items():
        expected = event(event_id, topic, seq=seq)
        told = f"event {event_id!r} on {topic!r} was answered with seq {seq} and is"
        found = stored.get((topic, event_id))
        hold(ANSWERED_IS_STORED, found, f"{told} lost")
        hold(ANSWERED_IS_STORED, found and expected.items() <= found.items(), f"{told} {found}")


def check_results(results: Stored, stored: Stored, cut: Cut) -> None:
    """What was answered is a duplicate of itself; what was not is stored by now."""
    for key, result in results.items():
        seq = cut.answered.seqs.get(key)
        if seq:
            is_itself = (result["status"], result["seq"]) == ("duplicate", seq)
            hold(ANSWERED_IS_STORED, is_itself, f"{key} was answered with seq {seq}, now {result}")
        is_there = key in stored and stored[key]["seq"] == result["seq"]
        hold(SENT_AGAIN, is_there, f"{key} is answered {result}, and stored {stored.get(key)}")


def check_numbers(stats: dict[str, Any], stored: int, cut: Cut) -> None:
    """The counters agree with each other, with what is stored, and with what was answered."""
    told = cut.answered
    hold(ADDS_UP, stats["received_total"] == sum(stats[name] for name in _OUTCOMES), stats)
    hold(ADDS_UP, stats["unique_processed"] == stored, f"{stored} stored, {stats}")
    hold(ADDS_UP, stats["duplicate_dropped"] >= told.duplicates, f"{told.duplicates}, {stats}")
    hold(ADDS_UP, stats["invalid"] >= told.invalid, f"{told.invalid}, {stats}")


def check_file(folder: Path) -> None:
    """SQLite finds the file sound, no key stands in it twice, and the runs of keys are whole."""
    with closing(sqlite3.connect(f"file:{folder}/data/aggregator.db?mode=ro", uri=True)) as db:
        said = db.execute("PRAGMA integrity_check").fetchall()
        events, keys, newest = db.execute(EVENTS).fetchone()
        found = load_runs(db)
        for run in found:
            run.check(db)
        upto = found[0].upto if found else 0
        indexed = db.execute("SELECT count(*) FROM events WHERE seq <= ?", (upto,)).fetchone()[0]
    hold(SOUND, said == [("ok",)], said[:3])
    hold(SOUND, keys == events, f"{keys} keys, {events} events")
    told = f"{indexed} events up to {upto} of {newest}, {found}"
    hold(SOUND, upto <= newest and sum(run.entries - run.names for run in found) == indexed, told)


EVENTS = "SELECT count(*), count(DISTINCT key), coalesce(max(seq), 0) FROM events"
