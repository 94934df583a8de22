"""A stage that breaks its contract hurts the submission it breaks it on, and no other."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from added import with_stages
from aggregator.pipeline.runner import NamedStage, StageRunner
from conftest import Start
from events import event
from misbehaving import CancelledAsItCloses, ClosesNever, Remembers, TellsThatItIsClosed
from running import LIMIT

BAD = {"is": "bad"}
FAULTS = {
    "Raises": "RuntimeError: it is bad",
    "Hangs": "no answer in time",
    "Loses": "was lost",
    "Doubles": "gave it back twice",
    "Invents": "was not given",
    "Reorders": "was returned in another order",
    "Copies": "was returned as a copy",
    "IsNotAsync": "process should be an `async def`",
    "PointsNowhere": "is no JSON pointer",
    "RaisesWhatSaysNothing": "Speechless: (its text cannot be read)",
    "VerdictOfItsOwn": "the verdict of event 1 is no outcome",
    "VerdictThatIsAClass": "the verdict of event 1 is no outcome",
    "KeepsAndReturns": "kept back and returned as well",
    "SettlesTwice": "is filtered already",
    "WaitsForEver": "wait for each other",
    "ForgetsToReturn": "process returned None",
    "OwnOutcome": "is no outcome",
    "SettlesAString": "is no outcome",
    "FiltersWithoutWords": "ValidationError",
    "OutcomeOfAKind": "is no outcome",
    "FaultWithoutWords": "Error",
    "FiltersInHalfLetters": "Error",
    "Removes": "was lost",
    "StoresTwoAsOne": "two events are told",
    "ForgesADuplicate": "no claim has named seq 77",
    "ForgesAStored": "are not those that were appended",
    "AppendsAGhost": "are not those that were appended",
    "Commits": "'Transaction' object has no attribute 'commit'",
    "ClaimsNone": "a NoneType is no sequence of keys",
    "AppendsNone": "a NoneType is no event",
    "ReadsAGhost": "is no seq",
    "Swallows": "an event was appended under a key that is held",
    "Changes": "changed the payload of event 1",
    "ChangesAndRaises": "RuntimeError: it has changed one",
    "ChangesAndFilters": "changed the source of event 1",
    "ChangesTheKnownTime": "changed the known_timestamp_us of event 1",
    "EffectNobodyAwaits": "after_commit takes a plain function",
    "EffectThatIsNone": "after_commit takes a function, to be called later, not None",
}


async def publish(client: Any, *events: dict[str, Any]) -> tuple[int, Any]:
    async with client.post("/publish", json=list(events)) as response:
        return response.status, await response.json()


async def stats(client: Any) -> dict[str, Any]:
    async with client.get("/stats") as response:
        found: dict[str, Any] = await response.json()
        return found


@pytest.mark.parametrize("stage", FAULTS)
async def test_neighbours_of_a_bad_submission_are_stored(
    start: Start, stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(
        with_stages(odd=f"misbehaving:{stage}"),
        pipeline="validate | dedup odd persist",
        stage_timeout=0.5,
    )
    good = [event(f"good-{number}") for number in range(6)]
    bad = [event("neighbour"), event("bad", payload=BAD)]
    answers = await asyncio.gather(
        *(publish(client, one) for one in good[:3]),
        publish(client, *bad),
        *(publish(client, one) for one in good[3:]),
    )
    assert [status for status, _ in answers] == [200, 200, 200, 500, 200, 200, 200]
    assert answers[3][1]["title"] == "Internal Server Error"
    assert FAULTS[stage] in answers[3][1]["detail"]
    assert FAULTS[stage] in caplog.text
    assert "odd" in caplog.text
    async with client.get("/events") as response:
        stored = sorted(found["event_id"] for found in (await response.json())["events"])
    assert stored == sorted(one["event_id"] for one in good)
    numbers = await stats(client)
    assert (numbers["received_total"], numbers["unique_processed"]) == (6, 6)
    assert numbers["queue_size_current"] == 0


async def test_fault_on_the_intake_side_hurts_its_request_alone(start: Start) -> None:
    client = await start(
        with_stages(odd="misbehaving:RaisesOnIntake"), pipeline="validate odd | dedup persist"
    )
    status, problem = await publish(client, event("1"), event("2", payload=BAD))
    assert status == 500
    assert problem["detail"] == "odd: RuntimeError: it is bad"
    status, _ = await publish(client, event("1"))
    assert status == 200
    assert (await stats(client))["received_total"] == 1


async def test_fault_is_logged_with_its_traceback_on_both_sides_of_the_bar(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(
        with_stages(left="misbehaving:RaisesOnIntake", right="misbehaving:Raises"),
        pipeline="validate left | dedup right persist",
    )
    for payload, line in (
        (BAD, 'in process\n        raise RuntimeError("it is bad")'),
        ({"worse": True}, 'in process\n        raise RuntimeError("it is worse")'),
    ):
        caplog.clear()
        assert (await publish(client, event("1", payload=payload)))[0] == 500
        assert caplog.text.count("Traceback (most recent call last)") == 1
        assert line in caplog.text


async def test_words_of_a_fault_begin_no_line_of_the_log(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(
        with_stages(odd="misbehaving:RaisesItsInput"), pipeline="validate | dedup odd persist"
    )
    forged = "2026-11-30 20:00:00,000 CRITICAL all is lost"
    status, problem = await publish(client, event("1", source=f"\x7f\x9b{forged}"))
    assert status == 422, (
        "validate lets no controls in, so what follows takes them from the payload"
    )
    status, problem = await publish(client, event("1", payload={"is": f"\n{forged}\x1b[31m\x9b"}))
    assert status == 500
    assert f"\\n{forged}" in problem["detail"]
    lines = "\n".join(record.getMessage() for record in caplog.records).split("\n")
    assert [line for line in lines if line.startswith("2026")] == []
    assert any(forged in line for line in lines)
    assert not {"\x1b", "\x9b"} & set(caplog.text)


async def test_stage_that_fails_all_the_time_is_logged_seldom(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(
        with_stages(left="misbehaving:RaisesOnIntake", right="misbehaving:Raises"),
        pipeline="validate left | dedup right persist",
    )
    for number in range(50):
        payload = BAD if number % 2 else {"worse": True}
        assert (await publish(client, event("1", payload=payload)))[0] == 500
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 3


@pytest.mark.parametrize("stage", ["Changes", "ChangesAndRaises"])
async def test_what_a_stage_has_changed_is_as_it_was_sent_in_quarantine(
    start: Start, stage: str
) -> None:
    client = await start(
        with_stages(odd=f"misbehaving:{stage}"), pipeline="validate | dedup odd persist"
    )
    sent = event("1", payload=BAD)
    async with client.post("/publish", json=sent, headers={"Prefer": "respond-async"}) as response:
        assert response.status == 202
    entries: list[dict[str, Any]] = []
    while not entries:
        async with client.get("/quarantine") as response:
            entries = (await response.json())["quarantined"]
    assert entries[0]["body"] == sent


async def test_event_changed_left_of_the_bar_is_not_stored(start: Start) -> None:
    client = await start(
        with_stages(odd="misbehaving:ChangesOnIntake"), pipeline="odd validate | dedup persist"
    )
    for blamed in ("odd validate", "odd"):
        status, problem = await publish(client, event("0"), event("1", payload=BAD))
        assert (status, problem["detail"]) == (500, f"{blamed}: changed the payload of event 1")
    assert (await stats(client))["unique_processed"] == 0


async def test_event_that_waits_is_not_taken_for_a_changed_one(start: Start) -> None:
    client = await start(pipeline="validate | dedup persist")
    status, answer = await publish(client, event("1"), event("1"), event("1", payload=BAD))
    assert (status, answer["stored"], answer["duplicates"], answer["conflicts"]) == (200, 1, 1, 1)


@pytest.mark.parametrize(
    ("stage", "others"),
    [("StoresOnIntake", 0), ("StoresOnIntake", 1), ("StoresLateOnIntake", 1)],
)
async def test_nothing_is_stored_left_of_the_bar(start: Start, stage: str, others: int) -> None:
    client = await start(
        with_stages(odd=f"misbehaving:{stage}"), pipeline="validate odd | dedup persist"
    )
    before = [event(f"before-{number}") for number in range(others)]
    status, problem = await publish(client, *before, event("1", payload=BAD))
    assert status == 500
    assert "nothing can be stored left of the bar" in problem["detail"]


async def test_what_failed_can_be_sent_again(start: Start) -> None:
    client = await start(
        with_stages(odd="misbehaving:Raises"), pipeline="validate | dedup odd persist"
    )
    assert (await publish(client, event("1", payload=BAD)))[0] == 500
    _, answer = await publish(client, event("1"))
    assert answer["results"][0]["status"] == "stored"


async def test_pipeline_without_validate_takes_no_malformed_event(start: Start) -> None:
    client = await start(pipeline="| dedup persist")
    status, answer = await publish(client, event("1"), {"topic": 5})
    assert status == 207
    assert [result["status"] for result in answer["results"]] == ["stored", "invalid"]


async def test_filtered_key_stays_new(start: Start) -> None:
    client = await start(
        with_stages(odd="misbehaving:Filters"), pipeline="validate | dedup odd persist"
    )
    status, answer = await publish(client, event("1", payload=BAD))
    assert (status, answer["filtered"]) == (200, 1)
    assert answer["results"][0]["reason"] == "it is bad"
    assert (await publish(client, event("1")))[1]["results"][0]["status"] == "stored"
    numbers = await stats(client)
    assert (numbers["filtered"], numbers["unique_processed"]) == (1, 1)


async def test_twin_of_a_filtered_event_is_looked_at_for_itself(start: Start) -> None:
    client = await start(
        with_stages(odd="misbehaving:Filters"), pipeline="validate | dedup odd persist"
    )
    bad = event("1", payload=BAD)
    _, answer = await publish(client, bad, bad, event("1"), bad, event("1"))
    statuses = [result["status"] for result in answer["results"]]
    assert statuses == ["filtered", "filtered", "stored", "conflict", "duplicate"]
    assert {result.get("seq") for result in answer["results"]} == {None, 1}


async def test_work_aside_does_not_count_as_a_stages_time(start: Start) -> None:
    client = await start(
        with_stages(odd="misbehaving:ThinksLong"),
        pipeline="validate | dedup odd persist",
        stage_timeout=0.1,
    )
    assert (await publish(client, event("1")))[0] == 200


async def test_stage_may_return_any_iterable(start: Start) -> None:
    client = await start(
        with_stages(odd="misbehaving:Generates"), pipeline="odd validate | dedup persist"
    )
    status, answer = await publish(client, event("1"), {"no": "event"})
    assert (status, answer["stored"], answer["invalid"]) == (207, 1, 1)


@pytest.mark.parametrize("contents", [2, 300])
async def test_filtered_contents_of_one_key_take_a_round_each(start: Start, contents: int) -> None:
    client = await start(
        with_stages(odd="misbehaving:Filters"), pipeline="validate | dedup odd persist"
    )
    bad = [event("1", payload={**BAD, "n": number % contents}) for number in range(600)]
    status, answer = await publish(client, *bad, event("1"), event("2"))
    assert (status, answer["filtered"], answer["stored"]) == (200, 600, 2)


async def test_copies_of_a_filtered_event_share_its_outcome(start: Start) -> None:
    client = await start(
        with_stages(odd="misbehaving:Filters"), pipeline="validate | dedup odd persist"
    )
    bad = [event("1", payload=BAD)] * 5000
    _, answer = await publish(client, *bad, event("1"))
    assert (answer["filtered"], answer["stored"]) == (5000, 1)


async def test_effects_of_a_submission_that_failed_never_happen(start: Start) -> None:
    Remembers.memory.clear()
    client = await start(
        with_stages(remembers="misbehaving:Remembers", odd="misbehaving:Raises"),
        pipeline="validate | dedup remembers odd persist",
    )
    await asyncio.gather(
        publish(client, event("1")), publish(client, event("2", payload=BAD), event("3"))
    )
    assert Remembers.memory == ["1"]


async def test_event_that_waited_passes_earlier_stages_once(start: Start) -> None:
    Remembers.memory.clear()
    client = await start(
        with_stages(remembers="misbehaving:Remembers"),
        pipeline="validate | remembers dedup persist",
    )
    await publish(client, event("1"), event("1"), event("2"))
    assert Remembers.memory == ["1", "1", "2"]


@pytest.mark.parametrize("wrong", ["key", "digest", "topic", "source", "received_at"])
async def test_event_that_no_store_can_take_is_the_fault_of_who_appends_it(
    start: Start, wrong: str, tmp_path: Path
) -> None:
    client = await start(  # in memory anything can be kept
        with_stages(odd="misbehaving:AppendsWhatNoStoreTakes"),
        pipeline="validate | dedup odd persist",
        store=f"sqlite:///{tmp_path}/aggregator.db",
    )
    status, problem = await publish(client, event("bad", source=wrong))
    assert status == 500
    assert problem["detail"].startswith("odd: ")
    assert (await publish(client, event("good")))[0] == 200
    assert (await stats(client))["unique_processed"] == 1


async def test_stage_whose_own_task_is_cancelled_as_it_closes_keeps_no_other_from_closing(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(TellsThatItIsClosed, "closed", 0)
    client = await start(
        with_stages(tells="misbehaving:TellsThatItIsClosed", odd="misbehaving:CancelledAsItCloses"),
        pipeline="validate | tells dedup odd persist",
    )
    assert (await publish(client, event()))[0] == 200
    await client.close()
    assert TellsThatItIsClosed.closed == 1
    assert "odd: could not be closed" in caplog.text


async def test_pipeline_that_is_cancelled_as_it_closes_ends() -> None:
    never = ClosesNever()
    stages = [NamedStage("waits", never), NamedStage("odd", CancelledAsItCloses())]
    closing = asyncio.create_task(StageRunner(stages, 1.0, pytest.fail).close())
    async with asyncio.timeout(LIMIT):
        await never.begun.wait()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
