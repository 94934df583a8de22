"""The service against a model that fits on a page: whatever is sent, in whatever order."""

import asyncio
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web_app
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aggregator.app import create_app
from aggregator.config import load
from aggregator.plugins import Plugins
from events import event
from small_runs import make_runs_small

# Few keys and few contents, so that they meet; two spellings of each content.
KEYS = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2", "3"]))
CONTENTS = st.sampled_from([0, 1, 2])
SPELLINGS = st.sampled_from(['{"n":%d,"m":1}', '{ "m": 1.0, "n": %de0 }'])
GOOD = st.builds(
    lambda key, content, spelling: (key, content, spelling % content), KEYS, CONTENTS, SPELLINGS
)
INVALID = st.just(None)


class AgainstADictionary(RuleBasedStateMachine):
    """`stored` maps each key to its content and seq; the rest are the counters."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.client: TestClient[Any, Any]
        self.stored: dict[tuple[str, str], tuple[int, int]] = {}
        self.counted: Counter[str] = Counter()

    @initialize()
    def begin(self) -> None:
        self.loop.run_until_complete(self._start())

    def teardown(self) -> None:
        self.loop.run_until_complete(self.client.close())
        web_app._cached_build_middleware.cache_clear()  # or it keeps the apps of all examples
        self.loop.close()
        shutil.rmtree(self.folder)

    @rule(events=st.lists(GOOD | INVALID, min_size=1, max_size=6))
    def publish(self, events: list[tuple[tuple[str, str], int, str] | None]) -> None:
        expected = [self._expect(one) for one in events]
        body = "[" + ",".join(map(written, events)) + "]"
        answer = self.loop.run_until_complete(self._post(body))
        results = [(result["status"], result.get("seq")) for result in answer["results"]]
        assert results == expected

    @rule(events=st.lists(GOOD | INVALID, min_size=1, max_size=4))
    def publish_strictly(self, events: list[tuple[tuple[str, str], int, str] | None]) -> None:
        before, counted = dict(self.stored), self.counted.copy()
        expected = [self._expect(one) for one in events]
        if {"invalid", "conflict"} & {status for status, _ in expected}:
            self.stored, self.counted = before, counted
            expected = [self._refused(*one) for one in expected]
        body = "[" + ",".join(map(written, events)) + "]"
        answer = self.loop.run_until_complete(self._post(body, Prefer="handling=strict"))
        results = [(result["status"], result.get("seq")) for result in answer["results"]]
        assert results == expected

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.client.close())
        self.loop.run_until_complete(self._start())

    @precondition(lambda self: self.stored)
    @rule()
    def read_back(self) -> None:
        page = self.loop.run_until_complete(self._get("/events?limit=1000"))
        found = [(one["topic"], one["event_id"], one["payload"]["n"]) for one in page["events"]]
        ordered = sorted(self.stored.items(), key=lambda entry: entry[1][1])
        assert found == [(*key, content) for key, (content, _) in ordered]

    @invariant()
    def numbers_add_up(self) -> None:
        stats = self.loop.run_until_complete(self._get("/stats"))
        assert stats["received_total"] == self.counted.total()
        assert stats["unique_processed"] == self.counted["stored"] == len(self.stored)
        again = self.counted["duplicate"] + self.counted["conflict"]
        assert (stats["duplicate_dropped"], stats["conflicts"]) == (again, self.counted["conflict"])
        assert stats["invalid"] == self.counted["invalid"]
        assert stats["refused"] == self.counted["refused"]
        assert stats["processed_topics"] == sorted({topic for topic, _ in self.stored})

    def _expect(self, one: tuple[tuple[str, str], int, str] | None) -> tuple[str, int | None]:
        if one is None:
            self.counted["invalid"] += 1
            return "invalid", None
        key, content, _ = one
        held, seq = self.stored.setdefault(key, (content, len(self.stored) + 1))
        is_new = seq == len(self.stored) and self.counted["stored"] < seq
        status = "stored" if is_new else "duplicate" if held == content else "conflict"
        self.counted[status] += 1
        return status, seq

    def _refused(self, status: str, seq: int | None) -> tuple[str, int | None]:
        """What becomes of an event whose submission is refused, and with it all that was new."""
        is_undone = seq is not None and seq > len(self.stored)
        if is_undone and status in ("stored", "duplicate"):
            status = "refused"
        self.counted[status] += 1
        return status, None if is_undone else seq

    async def _start(self) -> None:
        configuration = load({"store": f"sqlite:///{self.folder}/aggregator.db"}, {})
        server = TestServer(create_app(configuration, Plugins.installed()))
        self.client = TestClient(server)
        await self.client.start_server()

    async def _post(self, body: str, **headers: str) -> Any:
        headers = {"Content-Type": "application/json", **headers}
        async with self.client.post("/publish", data=body, headers=headers) as response:
            return await response.json(content_type=None)

    async def _get(self, path: str) -> Any:
        async with self.client.get(path) as response:
            return await response.json()


def written(one: tuple[tuple[str, str], int, str] | None) -> str:
    if one is None:
        return json.dumps(event("1", topic=""))
    (topic, event_id), _, payload = one
    members = json.dumps(event(event_id, topic, payload=None))
    return members.replace("null", payload)


class WithSmallRuns(AgainstADictionary):
    """The same where keys leave the memory at once, and runs are merged all the time."""

    def __init__(self) -> None:
        self.patch = pytest.MonkeyPatch()
        make_runs_small(self.patch, in_memory=1, at_once=1)
        super().__init__()

    def teardown(self) -> None:
        super().teardown()
        self.patch.undo()


TestWithSmallRuns = WithSmallRuns.TestCase
TestAgainstADictionary = AgainstADictionary.TestCase
TestAgainstADictionary.settings = TestWithSmallRuns.settings = hypothesis_settings(
    max_examples=40, stateful_step_count=15, deadline=None
)
