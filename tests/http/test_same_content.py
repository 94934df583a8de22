"""Under one key the same content is a duplicate and any other a conflict, as JSON values."""

import pytest
from bodies import array, get, publish, spelled

from conftest import Client

SAME = {
    "order of members": ('{"a": 1, "b": {"c": 2, "d": 3}}', '{"b": {"d": 3, "c": 2}, "a": 1}'),
    "blanks": ('{"a":[1,2]}', '{ "a" :\t[1,\r\n2] }'),
    "1 and 1.0": ('{"a": 1}', '{"a": 1.0}'),
    "1 and 1e0": ('{"a": 1}', '{"a": 1e0}'),
    "100 and 1E+2": ('{"a": 100}', '{"a": 1E+2}'),
    "0 and -0.0": ('{"a": 0}', '{"a": -0.0}'),
    "0.1 and 0.10": ('{"a": 0.1}', '{"a": 0.10}'),
    "30 digits and a fraction of nothing": ('{"a": ' + "7" * 30 + "}", '{"a": ' + "7" * 30 + ".0}"),
    "escaped letter": ('{"a": "b"}', r'{"\u0061": "\u0062"}'),
    "escaped slash": ('{"a": "/"}', r'{"a": "\/"}'),
    "escaped pair": ('{"a": "\U0001f600"}', r'{"a": "\ud83d\uDE00"}'),
}
OTHER = {
    "1 and true": ('{"a": 1}', '{"a": true}'),
    "0 and false": ('{"a": 0}', '{"a": false}'),
    "1.0 and true": ('{"a": [1.0]}', '{"a": [true]}'),
    "1 and text": ('{"a": 1}', '{"a": "1"}'),
    "null and absent": ('{"a": null}', "{}"),
    "null and false": ('{"a": null}', '{"a": false}'),
    "beyond 64 bits": ('{"a": 18446744073709551616}', '{"a": 18446744073709551617}'),
    "last of 30 digits": ('{"a": ' + "7" * 30 + "}", '{"a": ' + "7" * 29 + "8}"),
    "last of 30 decimals": ('{"a": 0.' + "7" * 30 + "}", '{"a": 0.' + "7" * 29 + "8}"),
    "too small for a double": ('{"a": 1e-400}', '{"a": 2e-400}'),
    "order in an array": ('{"a": [1, 2]}', '{"a": [2, 1]}'),
    "empty array and object": ('{"a": []}', '{"a": {}}'),
    "composed and decomposed": ('{"a": "\u00e9"}', '{"a": "e\u0301"}'),
    "case": ('{"a": "b"}', '{"a": "B"}'),
}


async def _second(client: Client, first: bytes, second: bytes, together: bool) -> str:
    if together:
        _, answer = await publish(client, array([first, second]))
        assert answer["stored"] == 1
    else:
        assert (await publish(client, first))[1]["stored"] == 1
        _, answer = await publish(client, second)
    result = answer["results"][-1]
    assert result["seq"] == 1
    async with client.get("/events/logins/1") as response:
        payload = first.split(b'"payload":')[1][:-1]
        assert b'"payload":' + payload in await response.read(), "the first one is kept"
    stats = await get(client, "/stats")
    assert (stats["received_total"], stats["duplicate_dropped"]) == (2, 1)
    assert stats["conflicts"] == answer["conflicts"]
    status: str = result["status"]
    return status


both_ways = pytest.mark.parametrize("together", [False, True], ids=["later", "in one request"])


either_first = pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])


@both_ways
@either_first
@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
async def test_other_spelling_of_the_same_values_is_a_duplicate(
    client: Client, one: str, other: str, together: bool, turned: bool
) -> None:
    first, second = spelled(payload=one), spelled(payload=other)
    first, second = (second, first) if turned else (first, second)
    assert await _second(client, first, second, together) == "duplicate"


@both_ways
@either_first
@pytest.mark.parametrize(("one", "other"), OTHER.values(), ids=OTHER)
async def test_other_values_are_a_conflict(
    client: Client, one: str, other: str, together: bool, turned: bool
) -> None:
    first, second = spelled(payload=one), spelled(payload=other)
    first, second = (second, first) if turned else (first, second)
    assert await _second(client, first, second, together) == "conflict"


@both_ways
async def test_other_source_is_a_conflict(client: Client, together: bool) -> None:
    assert await _second(client, spelled(), spelled(source='"b"'), together) == "conflict"


@both_ways
async def test_other_timestamp_is_a_duplicate(client: Client, together: bool) -> None:
    later = spelled(timestamp='"2027-01-01T00:00:00+01:00"')
    assert await _second(client, spelled(), later, together) == "duplicate"
    assert (await get(client, "/events/logins/1"))["timestamp"] == "2026-01-31T12:00:00Z"


async def test_parts_of_a_key_do_not_run_together(client: Client) -> None:
    names = [("ab", "c"), ("a", "bc"), ("a,b", "c"), ("a", "b,c"), ("A", "bc")]
    events = [spelled(topic=f'"{topic}"', event_id=f'"{name}"') for topic, name in names]
    assert (await publish(client, array(events)))[1]["stored"] == len(names)
