"""`Prefer` (RFC 7240): what is asked for is done, and said to be done."""

from typing import Any

import pytest
from bodies import get

from aggregator.api.publish import Preferences
from conftest import Client
from events import event


async def prefer(client: Client, preference: str, *events: dict[str, Any]) -> tuple[Any, Any]:
    headers = {"Prefer": preference}
    async with client.post("/publish", json=list(events), headers=headers) as response:
        answer = await response.json(content_type=None)
        return (response.status, response.headers.get("Preference-Applied")), answer


async def test_minimal_answer_holds_the_counts(client: Client) -> None:
    applied, answer = await prefer(client, "return=minimal", event("1"), event("1"))
    assert applied == (200, "return=minimal")
    counts = {"received": 2, "stored": 1, "duplicates": 1, "conflicts": 0, "invalid": 0}
    assert answer == {**counts, "filtered": 0}


async def test_minimal_answer_tells_what_was_refused(client: Client) -> None:
    applied, answer = await prefer(
        client, "return=minimal", event("1"), event("2", topic=""), event("3")
    )
    assert applied == (207, "return=minimal")
    assert [(one["index"], one["status"]) for one in answer["results"]] == [(1, "invalid")]


async def test_lenient_is_what_happens_anyway(client: Client) -> None:
    applied, answer = await prefer(client, "handling=lenient", event("1"), event("2", topic=""))
    assert applied == (207, "handling=lenient")
    assert answer["stored"] == 1


@pytest.mark.parametrize(
    "unknown",
    [
        "respond-async=no",
        "return=representation",
        "wait=5",
        "handling=other",
        "",
        ",,;=",
        '"',
        "return",
    ],
)
async def test_unknown_preference_is_passed_over(client: Client, unknown: str) -> None:
    applied, answer = await prefer(client, unknown, event("1"))
    assert applied == (200, None)
    assert len(answer["results"]) == 1


async def test_answer_to_respond_async_says_where_failures_show(client: Client) -> None:
    applied, answer = await prefer(client, "respond-async, return=minimal", event("1"))
    assert applied == (202, "respond-async")
    assert answer["received"] == 1
    assert (await get(client, answer["failures"]))["quarantined"] == []


async def test_body_that_cannot_be_read_is_refused_at_once_all_the_same(client: Client) -> None:
    headers = {"Prefer": "respond-async", "Content-Type": "application/json"}
    async with client.post("/publish", data=b"{", headers=headers) as response:
        assert response.status == 400


@pytest.mark.parametrize("end", ["", "\\", '"', "x"])
def test_quotes_that_never_close_are_read_in_one_go(end: str) -> None:
    assert Preferences.of(['\\"' * 500_000 + end]) == Preferences()
    assert Preferences.of(['"' + '\\"' * 500_000 + end]) == Preferences()


async def test_minimal_strict_answer_tells_the_conflict_that_refused_it(client: Client) -> None:
    await client.post("/publish", json=event("1"))
    applied, answer = await prefer(
        client, "handling=strict, return=minimal", event("1", payload={}), event("2")
    )
    assert applied == (409, "return=minimal, handling=strict")
    statuses = [result["status"] for result in answer["results"]]
    assert statuses == ["conflict", "refused"]


READ = {
    ("handling=strict, handling=lenient",): Preferences(is_strict=True),
    ("handling=lenient", "handling=strict"): Preferences(is_lenient=True),
    ('foo="a, handling=strict", return=minimal',): Preferences(is_minimal=True),
    ("respond-async; x=1 , return = minimal",): Preferences(is_async=True, is_minimal=True),
    ("respond-async", "handling=strict"): Preferences(is_strict=True),
}


@pytest.mark.parametrize(("headers", "expected"), READ.items(), ids=str)
def test_preferences_are_read_as_the_standard_says(
    headers: tuple[str, ...], expected: Preferences
) -> None:
    assert Preferences.of(headers) == expected
