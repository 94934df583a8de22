"""A conflict says what differs, and what is done about it is a setting."""

import json
from pathlib import Path
from typing import Any

import pytest
from bodies import get, publish, spelled, stored_ids
from clouds import ONE, cloud

from conftest import Client, Start
from events import event
from tampering import empty

DIFFERENCES = {
    "one member": ('{"a":1,"b":2}', '{"a":1,"b":3}', ["/payload/b"]),
    "member more, member less": ('{"a":1}', '{"b":1}', ["/payload/a", "/payload/b"]),
    "deep": ('{"a":{"b":[1,{"c":2}]}}', '{"a":{"b":[1,{"c":3}]}}', ["/payload/a/b/1/c"]),
    "length of a list": ('{"a":[1,2]}', '{"a":[1]}', ["/payload/a"]),
    "true is not 1": ('{"a":[true]}', '{"a":[1]}', ["/payload/a/0"]),
    "kind": ('{"a":{}}', '{"a":[]}', ["/payload/a"]),
    "escaped names": ('{"a/b":1,"~":1}', '{"a/b":2,"~":2}', ["/payload/a~1b", "/payload/~0"]),
    "same but spelled otherwise": ('{"a":1,"b":2}', '{"b":3,"a":1.0}', ["/payload/b"]),
    "digits of a large number": (
        '{"a":18446744073709551616}',
        '{"a":18446744073709551617}',
        ["/payload/a"],
    ),
}


@pytest.mark.parametrize(("first", "second", "expected"), DIFFERENCES.values(), ids=DIFFERENCES)
async def test_conflict_points_at_what_differs(
    client: Client, first: str, second: str, expected: list[str]
) -> None:
    await publish(client, spelled(payload=first))
    _, answer = await publish(client, spelled(payload=second))
    (result,) = answer["results"]
    assert (result["status"], result["differences"]) == ("conflict", expected)


LONG = "x" * 600


async def test_place_that_is_too_long_to_be_told_is_that_of_what_holds_it(client: Client) -> None:
    names = [f"{LONG}1", f"{LONG}2", "y" * 300]
    for value in (1, 2):
        members = {"short": dict.fromkeys(names, value), "other": value}
        _, answer = await publish(client, spelled(payload=json.dumps(members)))
    assert answer["results"][0]["differences"] == [
        "/payload/short",
        f"/payload/short/{'y' * 300}",
        "/payload/other",
    ]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"data_base64": '"AA=="'}, {"data_base64": '"AQ=="'}, "/data_base64"),
        ({"data_base64": '"AA=="'}, {"data": "1"}, "/data"),
        ({"data": "1"}, {"data_base64": '"AA=="'}, "/data_base64"),
        ({"data_base64": '"AA=="'}, {}, "/data_base64"),
        ({"data": "null"}, {}, "/data"),
        ({}, {"data": "null"}, "/data"),
    ],
)
async def test_conflict_points_at_the_data_of_a_cloud_event(
    client: Client, first: dict[str, str], second: dict[str, str], expected: str
) -> None:
    await publish(client, cloud(**first), ONE)
    _, answer = await publish(client, cloud(**second), ONE)
    assert answer["results"][0]["differences"] == [expected]


async def test_conflict_points_at_the_source_too(client: Client) -> None:
    await publish(client, spelled())
    _, answer = await publish(client, spelled(source='"other"', payload='{"a":1}'))
    assert answer["results"][0]["differences"] == ["/source", "/payload/a"]


async def test_conflict_shows_both_digests(client: Client) -> None:
    _, first = await publish(client, spelled(payload='{"a":1}'))
    _, second = await publish(client, spelled(payload='{"a":2}'))
    _, third = await publish(client, spelled(payload='{"a":3}'))
    one, two = (answer["results"][0] for answer in (second, third))
    assert one["stored_digest"] == two["stored_digest"]
    assert len({one["stored_digest"], one["digest"], two["digest"]}) == 3
    assert first["results"][0]["seq"] == one["seq"]


async def test_only_the_first_differences_are_told(client: Client) -> None:
    for offset in (0, 1):
        members = ",".join(f'"{number}":{number + offset}' for number in range(500))
        _, answer = await publish(client, spelled(payload=f"{{{members}}}"))
    assert len(answer["results"][0]["differences"]) == 20


async def _twice(client: Client, **members: Any) -> tuple[int, dict[str, Any]]:
    """Publish under a held key another content than the stored one."""
    await client.post("/publish", json=event("1", **members))
    async with client.post("/publish", json=event("1", payload={"n": 2}, **members)) as response:
        return response.status, await response.json(content_type=None)


async def test_first_is_kept_unless_a_setting_says_otherwise(client: Client) -> None:
    status, answer = await _twice(client)
    assert (status, answer["conflicts"]) == (200, 1)
    assert (await get(client, "/quarantine"))["quarantined"] == []


async def test_rejected_conflict_is_409_for_a_single_event(start: Start) -> None:
    client = await start(on_conflict="reject")
    status, answer = await _twice(client)
    assert (status, answer["status"], answer["results"][0]["status"]) == (409, 409, "conflict")
    assert (await get(client, "/stats"))["conflicts"] == 1


async def test_rejected_conflict_among_others_is_207(start: Start) -> None:
    client = await start(on_conflict="reject")
    await client.post("/publish", json=event("1"))
    async with client.post("/publish", json=[event("1", payload={}), event("2")]) as response:
        assert response.status == 207
    assert await stored_ids(client) == ["1", "2"]


async def test_only_conflicts_are_409_and_others_among_them_422(start: Start) -> None:
    client = await start(on_conflict="reject")
    await client.post("/publish", json=[event("1"), event("2")])
    conflicts = [event("1", payload={}), event("2", payload={})]
    async with client.post("/publish", json=conflicts) as response:
        assert response.status == 409
    async with client.post("/publish", json=[*conflicts, event("3", topic="")]) as response:
        assert response.status == 422


async def test_quarantined_conflict_is_kept_beside(start: Start) -> None:
    client = await start(on_conflict="quarantine")
    status, answer = await _twice(client)
    assert (status, answer["conflicts"]) == (200, 1)
    (entry,) = (await get(client, "/quarantine"))["quarantined"]
    assert (entry["reason"], entry["body"]) == ("conflict", event("1", payload={"n": 2}))
    assert [error["pointer"] for error in entry["errors"]] == ["/payload/user", "/payload/n"]
    assert (await get(client, "/events/logins/1"))["payload"] == {"user": "ada"}


async def test_policy_may_differ_by_topic(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('on_conflict = "reject"\n[topics."a.b"]\non_conflict = "keep-first"\n')
    client = await start(config=str(file))
    assert (await _twice(client, topic="a.b"))[0] == 200
    assert (await _twice(client, topic="ab"))[0] == 409


async def test_conflict_with_a_payload_kept_no_more_shows_digests_only(
    start: Start, tmp_path: Path
) -> None:
    file = tmp_path / "emptied.db"
    client = await start(store=f"sqlite:///{file}")
    await publish(client, spelled(payload='{"a":1}'))
    empty(file, 1)
    _, same = await publish(client, spelled(payload='{"a":1}'))
    assert same["results"][0]["status"] == "duplicate", "equal digests are enough"
    _, other = await publish(client, spelled(payload='{"a":2}'))
    (result,) = other["results"]
    assert (result["status"], result["differences"]) == ("conflict", [])
    assert "kept no more" in result["detail"]
    assert result["digest"] != result["stored_digest"]
