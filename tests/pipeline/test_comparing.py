"""Contents that are too much for a batch are compared beside it, and bounded for each request."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from added import with_plugin, with_stages
from aggregator import comparison, store, transaction
from aggregator.app import INTAKE, STORE
from aggregator.errors import Unavailable
from aggregator.event import Pending, Submission
from aggregator.outcome import Conflict
from aggregator.pipeline import comparer, worker
from aggregator.pipeline.batch import BatchItem
from aggregator.pipeline.bookkeeping import BatchRecorder
from aggregator.pipeline.comparer import Comparison
from aggregator.pipeline.maintenance import QuarantineLimits
from aggregator.pipeline.processor import BatchProcessor
from aggregator.pipeline.runner import PipelineSpec, StageRunner
from aggregator.plugins import STORES, Plugins
from aggregator.store import Counters, KeyOwner, Query
from aggregator.testing import make_event
from aggregator_memory.store import Committed, MemoryTransaction
from conftest import Client, Start
from events import event
from failing import FailingStore, SlowContents
from running import LIMIT

PLUGINS = Plugins(
    [
        *with_stages(raises="misbehaving:Raises").found,
        with_plugin(STORES, "slow-contents", "failing:SlowContents"),
        with_plugin(STORES, "asks-again", "foreign:AsksForAnotherTry"),
    ]
)
LARGE = "x" * 3_000
COUNT = 10
STORED = [event(str(number), payload={"filler": LARGE, "n": 1}) for number in range(COUNT)]
OTHERS = [event(str(number), payload={"x": 1}) for number in range(COUNT)]
SPELLED_OTHERWISE = [
    event(str(number), payload={"n": 1.0, "filler": LARGE}) for number in range(COUNT)
]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousandth of the bounds: two of these events are too much for a batch."""
    monkeypatch.setattr(transaction, "COMPARED_AT_ONCE", 4_000)
    for module in (comparison, comparer, store):
        monkeypatch.setattr(module, "CONTENTS_BYTES", 4_000)
    monkeypatch.setattr(Comparison, "most", 64_000)


@pytest.fixture
def store_url() -> str:
    return "slow-contents:"


Publish = Callable[..., Any]


async def publish(client: Client, *events: Any, prefer: str = "") -> tuple[int, Any]:
    headers = {"Prefer": prefer} if prefer else {}
    async with client.post("/publish", json=list(events), headers=headers) as response:
        return response.status, await response.json(content_type=None)


async def get(client: Client, path: str) -> Any:
    async with client.get(path) as response:
        return await response.json()


async def stats_when_settled(client: Client) -> dict[str, Any]:
    async with asyncio.timeout(LIMIT):
        while True:
            stats: dict[str, Any] = await get(client, "/stats")
            if not stats["queue_size_current"]:
                return stats
            await asyncio.sleep(0.01)


async def until_asked(times: int = 1) -> None:
    async with asyncio.timeout(LIMIT):
        while len(SlowContents.asked) < times:
            await asyncio.sleep(0)


async def started(start: Start, *events: Any, **flags: Any) -> Client:
    """The service with these events stored; its budgets hold just what the tests send."""
    client = await start(PLUGINS, **flags)
    status, answer = await publish(client, *(events or STORED))
    assert (status, answer["stored"]) == (200, len(events or STORED))
    return client


def statuses(answer: Any) -> set[str]:
    return {result["status"] for result in answer["results"]}


@pytest.mark.parametrize("prefer", ["", "handling=strict"])
async def test_others_are_answered_while_contents_are_compared(start: Start, prefer: str) -> None:
    client = await started(start)
    SlowContents.gate.clear()
    task = asyncio.create_task(publish(client, *OTHERS, prefer=prefer))
    await until_asked()
    assert (await publish(client, event("new")))[1]["stored"] == 1
    assert (await publish(client, STORED[0]))[1]["duplicates"] == 1
    assert not task.done(), "nothing is told that was not compared"
    SlowContents.gate.set()
    status, answer = await task
    assert status == (409 if prefer else 200)
    results = answer["results"]
    assert {result["status"] for result in results} == {"conflict"}
    assert [result["seq"] for result in results] == list(range(1, COUNT + 1))
    assert results[0]["differences"] == ["/payload/filler", "/payload/n", "/payload/x"]
    stats = await stats_when_settled(client)
    assert (stats["unique_processed"], stats["conflicts"]) == (COUNT + 1, COUNT)


@pytest.mark.parametrize("kind", ["sqlite", "memory", "asks-again"])
async def test_contents_over_the_bound_of_a_batch_are_compared_all_the_same(
    start: Start, tmp_path: Any, kind: str
) -> None:
    url = f"sqlite:///{tmp_path}/a.db" if kind == "sqlite" else f"{kind}:"
    client = await started(start, store=url)
    new = event("new")
    status, answer = await publish(client, *SPELLED_OTHERWISE, new)
    assert (status, answer["duplicates"], answer["stored"]) == (200, COUNT, 1)
    status, answer = await publish(client, *OTHERS, new)
    assert (status, answer["conflicts"], answer["duplicates"]) == (200, COUNT, 1)
    stats = await stats_when_settled(client)
    assert (stats["conflicts"], stats["duplicate_dropped"]) == (COUNT, 2 * COUNT + 1)
    assert stats["received_total"] == 3 * COUNT + 2


async def test_strict_retry_that_is_spelled_otherwise_is_a_duplicate(start: Start) -> None:
    client = await started(start)
    status, answer = await publish(
        client, *SPELLED_OTHERWISE, event("new"), prefer="handling=strict"
    )
    assert (status, answer["duplicates"], answer["stored"]) == (200, COUNT, 1)


async def test_usual_retry_is_compared_at_once(start: Start) -> None:
    client = await started(start, event("1", payload={"n": 1}))
    assert (await publish(client, event("1", payload={"n": 1.0})))[1]["duplicates"] == 1
    assert (await publish(client, event("1", payload={"n": 2})))[1]["conflicts"] == 1
    assert not SlowContents.asked


async def test_request_that_compares_too_much_is_refused_before_anything_is_stored(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Comparison, "most", 5 * len(LARGE))
    body = len(json.dumps(STORED))
    bounds = {"max_event": body, "max_body": body, "queue_bytes": body}
    bounds |= {"max_events": COUNT, "queue_events": COUNT, "client_share": 1.0}
    client = await started(start, **bounds)
    before = await get(client, "/stats")
    for _ in range(3):  # the room of each comes back
        status, problem = await publish(client, *OTHERS[:-1], event("new"))
        assert status == 503
        assert problem["detail"] == "The request compares too much: send fewer events at a time."
    after = await stats_when_settled(client)
    assert [after[name] for name in ("received_total", "unique_processed", "failed_async")] == [
        before[name] for name in ("received_total", "unique_processed", "failed_async")
    ]
    assert (await publish(client, *STORED))[1]["duplicates"] == COUNT, "all room is free"
    for some in (OTHERS[:3], OTHERS[3:6], OTHERS[6:9], OTHERS[9:]):
        assert (await publish(client, *some))[1]["conflicts"] == len(some), "fewer at a time"


async def test_what_a_client_caused_is_no_error_of_the_service(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And it keeps no fault of a stage from being told."""
    monkeypatch.setattr(Comparison, "most", 5 * len(LARGE))
    client = await started(start, pipeline="validate | raises dedup persist")
    for _ in range(3):
        assert (await publish(client, *OTHERS))[0] == 503
    assert (await publish(client, event("bad", payload={"bad": "bad"})))[0] == 500
    told = [one for one in caplog.records if "submission" in one.msg and "failed" in one.msg]
    assert [one.levelno for one in told] == [logging.WARNING, logging.ERROR], "and seldom"
    assert "compares too much" in told[0].getMessage()


async def test_what_cannot_be_settled_needs_no_transaction_if_somebody_waits() -> None:
    store = FailingStore("failing:")
    one = item("one", ("key", b"{}"))
    one.fault = Unavailable("too much")
    result = await processing(store).settle([one], is_last=False)
    assert result.failed == [(one.submission, one.fault)]
    assert not [what for what in store.happened if "begin" in what]


async def test_single_event_is_compared_whatever_its_size(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Comparison, "most", 100)
    client = await started(start, event("1", payload={"filler": 3 * LARGE}))
    assert (await publish(client, event("1", payload={})))[1]["conflicts"] == 1


async def test_what_was_answered_202_and_compares_too_much_goes_into_quarantine(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Comparison, "most", 5 * len(LARGE))
    client = await started(start)
    status, _ = await publish(client, *OTHERS, event("new"), prefer="respond-async")
    assert status == 202
    stats = await stats_when_settled(client)
    assert (stats["failed_async"], stats["quarantined"]) == (COUNT + 1, COUNT + 1)
    assert stats["received_total"] == COUNT
    entries = (await get(client, "/quarantine?reason=failed"))["quarantined"]
    assert "compares too much" in entries[0]["errors"][0]["detail"]
    monkeypatch.setattr(Comparison, "most", 64_000)
    async with client.post("/quarantine/release?after=0") as response:
        answer = await response.json()
    assert answer.get("stored") == 1, answer


async def test_what_was_answered_202_is_compared(start: Start) -> None:
    client = await started(start, on_conflict="reject")
    assert (await publish(client, *OTHERS, prefer="respond-async"))[0] == 202
    assert (await publish(client, *SPELLED_OTHERWISE, prefer="respond-async"))[0] == 202
    stats = await stats_when_settled(client)
    assert (stats["conflicts"], stats["duplicate_dropped"]) == (COUNT, 2 * COUNT)
    assert stats["quarantined"] == COUNT


async def test_small_one_is_not_kept_waiting_by_a_large_one(start: Start) -> None:
    client = await started(start)
    SlowContents.gate.clear()
    large = asyncio.create_task(publish(client, *OTHERS))
    await until_asked()
    small = asyncio.create_task(publish(client, event("0", payload={"y": LARGE})))
    pending = client.app[INTAKE].pending
    async with asyncio.timeout(LIMIT):
        while pending.snapshot().queued < COUNT + 1:
            await asyncio.sleep(0)
    assert (await publish(client, event("new")))[1]["stored"] == 1, "the small one waits too"
    SlowContents.gate.set()
    assert (await small)[1]["conflicts"] == 1
    assert (await large)[1]["conflicts"] == COUNT
    assert SlowContents.asked.index([1]) == 1, "each has a slice in turn"


async def test_twins_in_one_request_are_compared_with_each_other(start: Start) -> None:
    client = await start(PLUGINS)
    twins = [
        event("1", payload={"n": 1, "filler": LARGE}),
        event("1", payload={"n": 1.0, "filler": LARGE}),
        event("1", payload={"n": 2, "filler": LARGE}),
        event("2", payload={"n": 1, "filler": LARGE}),
    ]
    status, answer = await publish(client, *twins)
    told = [result["status"] for result in answer["results"]]
    assert (status, told) == (200, ["stored", "duplicate", "conflict", "stored"])
    assert answer["results"][2]["seq"] == answer["results"][0]["seq"]
    assert not SlowContents.asked, "both are at hand"


async def test_small_twins_are_compared_many_at_a_time(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices: list[int] = []

    def counted(together: Any, room: int) -> Any:
        slices.append(len(together))
        return comparison.compare(together, room)

    monkeypatch.setattr(comparer, "compare", counted)
    client = await start(PLUGINS)
    for count in (100, 200):
        slices.clear()
        names = [f"{count} {number}" for number in range(count)]
        twins = [event(name, payload={"n": n}) for name in names for n in (1, 2)]
        _, answer = await publish(client, *twins)
        assert (answer["stored"], answer["conflicts"]) == (count, count)
        assert count / 2 < sum(slices) < count, "most of them, each once"
        assert len(slices) < count / 5, "not a slice for each"


async def test_clients_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many submissions another client has."""
    store = FailingStore("failing:")
    processor = processing(store)
    payload = b'{"filler":"%b"}' % (b"x" * 5_000)
    keys = [str(number) for number in range(3)]
    await processor.settle([item("all", *((key, payload) for key in keys))], is_last=False)
    conflicts = [item(f"{n}", *((key, b"{%b}" % (b" " * n)) for key in keys)) for n in range(9)]
    postponed = (await processor.settle(conflicts, is_last=False)).postponed
    assert len(postponed) == 9
    read: list[str] = []

    async def noted(one: Comparison, _: Any) -> Any:
        read.append(one.submission.id)
        return await take_slice(one, store)

    take_slice = Comparison.take_slice
    monkeypatch.setattr(Comparison, "take_slice", noted)
    comparing = comparer.Comparer(store)
    clients = ["many"] * 8 + ["few"]
    await asyncio.gather(
        *(
            comparing.compare(one.comparison, client)
            for one, client in zip(postponed, clients, strict=True)
            if one.comparison
        )
    )
    few = [at for at, name in enumerate(read) if name == postponed[-1].submission.id]
    assert few == [1, 3, 5], "every other slice, until it is done"
    assert not comparing._turns


async def test_twins_of_several_publishers_at_one_instant(start: Start) -> None:
    client = await start(PLUGINS)
    payloads = [{"n": n // 2 + 1 + (n % 2) * 0.0, "filler": LARGE} for n in range(8)]
    answers = await asyncio.gather(
        *(publish(client, event("1", payload=payload)) for payload in payloads)
    )
    told = [answer["results"][0]["status"] for _, answer in answers]
    assert {status for status, _ in answers} == {200}
    assert sorted(told) == [*["conflict"] * 6, "duplicate", "stored"]
    stats = await stats_when_settled(client)
    assert stats["received_total"] == 8


async def test_neighbours_of_what_a_stage_fails_on_are_compared_too(start: Start) -> None:
    client = await started(start, pipeline="validate | raises dedup persist")
    bad = event("bad", payload={"bad": "bad"})
    SlowContents.gate.clear()
    task = asyncio.create_task(publish(client, *OTHERS))
    await until_asked()
    answers = asyncio.gather(
        publish(client, bad),
        publish(client, *SPELLED_OTHERWISE),
        publish(client, event("good")),
    )
    await until_asked()
    SlowContents.gate.set()
    (bad_status, _), (_, again), (_, good) = await answers
    assert (bad_status, again["duplicates"], good["stored"]) == (500, COUNT, 1)
    assert (await task)[1]["conflicts"] == COUNT


@pytest.mark.parametrize("prefer", ["", "handling=strict"])
async def test_store_that_cannot_be_read_is_no_verdict(start: Start, prefer: str) -> None:
    client = await started(start)
    FailingStore.failures["contents"] = 1
    status, problem = await publish(client, *SPELLED_OTHERWISE, event("new"), prefer=prefer)
    assert (status, problem["detail"]) == (503, "contents failed")
    stats = await stats_when_settled(client)
    assert (stats["received_total"], stats["unique_processed"]) == (COUNT, COUNT)
    status, answer = await publish(client, *SPELLED_OTHERWISE, event("new"), prefer=prefer)
    assert (status, answer["duplicates"], answer["stored"]) == (200, COUNT, 1)


@pytest.mark.parametrize(("failures", "quarantined"), [(2, 0), (1_000, COUNT)])
async def test_what_was_answered_202_is_read_again_and_in_the_end_set_aside(
    start: Start, failures: int, quarantined: int
) -> None:
    client = await started(start)
    FailingStore.failures["contents"] = failures
    await publish(client, *SPELLED_OTHERWISE, prefer="respond-async")
    stats = await stats_when_settled(client)
    assert (stats["quarantined"], stats["failed_async"]) == (quarantined, quarantined)
    assert stats["duplicate_dropped"] == COUNT - quarantined


async def test_what_is_compared_while_the_store_fails_is_settled_once_it_is_back(
    start: Start,
) -> None:
    client = await started(start)
    SlowContents.gate.clear()
    waiting = asyncio.create_task(publish(client, *OTHERS))
    await until_asked()
    later = asyncio.create_task(publish(client, *SPELLED_OTHERWISE, prefer="respond-async"))
    assert (await later)[0] == 202
    FailingStore.failures["commit"] = 1
    assert (await publish(client, event("new")))[0] == 503
    assert (await waiting)[0] == 503, "what becomes of it is not known while the store is away"
    SlowContents.gate.set()
    stats = await stats_when_settled(client)
    assert stats["received_total"] == 3 * COUNT
    assert (stats["conflicts"], stats["duplicate_dropped"]) == (COUNT, 2 * COUNT)


async def test_what_is_compared_when_the_service_stops_is_answered(start: Start) -> None:
    client = await started(start)
    SlowContents.gate.clear()
    task = asyncio.create_task(publish(client, *OTHERS))
    await until_asked()
    closing = asyncio.create_task(client.server.close())
    await asyncio.sleep(0.05)
    SlowContents.gate.set()
    assert (await task)[1]["conflicts"] == COUNT
    await closing


async def test_stop_does_not_wait_long_for_what_is_compared(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "_LONGEST_COMPARISON", 0.0)
    client = await started(start)
    kept = client.app[STORE]
    SlowContents.gate.clear()
    task = asyncio.create_task(publish(client, *OTHERS))
    await until_asked()
    assert (await publish(client, *OTHERS, event("new"), prefer="respond-async"))[0] == 202
    closing = asyncio.create_task(client.server.close())
    await asyncio.sleep(0.05)
    with caplog.at_level(logging.WARNING):
        SlowContents.gate.set()
        status, problem = await task
        await closing
    assert status == 503
    assert "is stopping" in problem["detail"]
    assert len((await kept.events(Query())).events) == COUNT, "nothing of either is stored"
    counters = await kept.counters()
    assert (counters.quarantined, counters.failed_async) == (COUNT + 1, COUNT + 1)
    assert "are in quarantine" in caplog.text


def item(name: str, *events: tuple[str, bytes]) -> BatchItem:
    made = [
        structs.replace(make_event(key, payload=payload, index=index), submission=name)
        for index, (key, payload) in enumerate(events)
    ]
    return BatchItem.of(Submission(name, made))


def processing(store: FailingStore) -> BatchProcessor:
    _, stages = PLUGINS.stages(PipelineSpec.parse("validate | dedup persist"), {})
    recorder = BatchRecorder(store, False, QuarantineLimits(1_000_000, 30.0))
    return BatchProcessor(store, StageRunner(stages, 5.0, pytest.fail), recorder)


async def test_what_was_stored_in_a_batch_that_is_rolled_back_is_stored_in_the_next() -> None:
    store = FailingStore("failing:")
    large = [b'{"n":%d,"filler":"%b"}' % (n, b"x" * 5_000) for n in range(2)]
    twins = [item(f"twin {n}", ("new", payload)) for n, payload in enumerate(large)]
    result = await processing(store).settle(twins, is_last=False)
    assert store.happened.count("begin held") == 2, "and not one by one"
    assert (result.stored, result.postponed) == ([twins[0].submission], [twins[1]])
    assert await store.counters() == Counters(stored=1, topics=1)


async def test_batch_is_rolled_back_twice_at_most_however_many_are_postponed() -> None:
    store = FailingStore("failing:")
    processor = processing(store)
    large = [b'{"n":%d,"filler":"%b"}' % (n, b"x" * 5_000) for n in range(3)]
    keys = [str(number) for number in range(20)]
    await processor.settle([item("all", *((key, large[0]) for key in keys))], is_last=False)
    store.happened.clear()

    conflicts = [item(f"conflict {key}", (key, large[1])) for key in keys]
    twins = [item(f"twin {n}", ("new", payload)) for n, payload in enumerate(large)]
    small = [item(f"small {key}", (f"small {key}", b"{}")) for key in keys]
    batch = [*twins, *conflicts, *small]
    result = await processor.settle(batch, is_last=False)
    assert store.happened.count("begin held") == 3
    assert store.happened.count("commit held") == 1
    assert result.stored == [one.submission for one in (twins[0], *small)]
    assert set(result.postponed) == {*twins[1:], *conflicts}
    assert all(type(event.verdict) is Pending for one in result.postponed for event in one.going)
    assert await store.counters() == Counters(stored=41, topics=1)

    for one in result.postponed:
        assert one.comparison
        await comparer.Comparer(store).compare(one.comparison)
    result = await processor.settle(result.postponed, is_last=False)
    assert len(result.stored) == 20
    assert result.postponed == twins[1:], "now their twin is committed, and can be read"


async def test_verdict_tells_of_the_owner_that_is_stored() -> None:
    """And not of the one that had its seq with the same content, and was rolled back."""
    event = make_event("key", payload=b"2")
    owner = KeyOwner(1, b"1" * 32, 2_000)
    found = Conflict(1, 1_000, event.digest, owner.digest, ("/payload",))
    work = transaction.UnitOfWork(
        MemoryTransaction(Committed()), verdicts={comparison.contents_of(event, owner): found}
    )
    lent = transaction.Transaction(work, asyncio.timeout(LIMIT), "dedup")
    [told] = await lent.compare([(event, owner)])
    assert told
    assert (told.seq, told.received_at) == (1, 2_000)


async def test_batch_reads_in_vain_once_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its submissions are run one by one."""
    read: list[Any] = []
    contents = MemoryTransaction.contents

    async def counted(tx: MemoryTransaction, seqs: Any) -> Any:
        read.append(seqs)
        return await contents(tx, seqs)

    monkeypatch.setattr(MemoryTransaction, "contents", counted)
    processor = processing(FailingStore("failing:"))
    large = b'{"filler":"%b"}' % (b"x" * 5_000)
    await processor.settle([item("first", ("held", large))], is_last=False)
    twins = [item(f"twin {n}", ("new", b"%d" % n if n else large)) for n in range(20)]
    result = await processor.settle([item("conflict", ("held", b"{}")), *twins], is_last=False)
    assert len(result.postponed) == 20
    assert len(read) == 3, "once in each transaction"
