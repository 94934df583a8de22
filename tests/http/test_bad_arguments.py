"""What no generator makes up, in arguments, paths and headers: it is refused or finds nothing."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from bodies import PROBLEM, publish, spelled
from yarl import URL

from conftest import Client, in_shared_app, starting

pytestmark = in_shared_app

TEXTS = {
    "a surrogate": "%ED%A0%80",
    "no UTF-8": "%FF",
    "overlong": "%C0%AF",
    "U+0000": "a%00b",
    "a noncharacter": "%EF%BF%BF",
    "a line break at the end": "logins%0A",
    "4,000 characters": "x" * 4000,
    "dots": "%2e%2e",
    "a format": "%25s%25n",
    "SQL": "'%20OR%201=1%20--",
    "a wildcard": "%25",
}
NUMBERS = {
    "a line break at the end": "1%0A",
    "a space": "%201",
    "NaN": "NaN",
    "infinity": "Infinity",
    "a power": "1e3",
    "other digits": "%D9%A1",
    "a sign": "%2B1",
    "beyond 63 bits": "9223372036854775808",
    "5,000 digits": "9" * 5000,
}
TIMES = {
    "a line break at the end": "2026-01-31T12:00:00Z%0A",
    "other digits": "%D9%A22026-01-31T12:00:00Z",
    "a surrogate": "2026-01-31T12:00:00Z%ED%A0%80",
    "year 0": "0000-01-01T00:00:00Z",
    "year 10000": "10000-01-01T00:00:00Z",
}
VALUES = {
    "NaN": "NaN",
    "infinity": "-Infinity",
    "a surrogate": "%22%5Cud800%22",
    "U+0000": "%22%5Cu0000%22",
    "beyond a double": "1e400",
    "beyond a decimal": "1e999999999999999999999",
    "5,000 digits": "9" * 5000,
    "nested brackets": "%5B" * 2000,
    "a closed array": "%5B" * 1000 + "%5D" * 1000,
    "an unfinished string": "%22abc",
}
POINTERS = {
    "a surrogate": "/%ED%A0%80",
    "deep": "/a" * 2000,
    "an index of 100 digits": "/" + "9" * 100,
    "a line break": "/a%0A",
    "a tilde": "/~",
}
WHOLE = ("/events?after=", "/events?limit=", "/events/a/b?seq=", "/topics?limit=")
QUARANTINE = ("/quarantine?after=", "/quarantine?limit=")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """The app with an event stored and one in quarantine, which no argument here changes."""
    folder = tmp_path_factory.mktemp("filled")
    async with starting(f"sqlite:///{folder}/aggregator.db") as start:
        client = await start(on_invalid="quarantine")
        await publish(client, spelled())
        await publish(client, spelled(topic="5"))
        yield client
        async with client.get("/stats") as response:
            stats = await response.json()
        assert (stats["unique_processed"], stats["quarantined"]) == (1, 1)


async def _statuses(client: Client, targets: list[str]) -> dict[str, int]:
    found = {}
    for target in targets:
        async with client.get(URL(target, encoded=True)) as response:
            if response.status >= 400:
                assert response.content_type == PROBLEM, target[:80]
                await response.json(content_type=PROBLEM)
            found[target] = response.status
    return found


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_odd_text_finds_nothing(filled: Client, text: str) -> None:
    arguments = [
        f"/{call}={text}"
        for call in (
            "events?topic",
            "events?source",
            "topics?after",
            "quarantine?topic",
            "quarantine?submission",
            "events/logins/1?source",
        )
    ]
    found = await _statuses(filled, arguments)
    assert set(found.values()) <= {200, 400, 404}, found
    missing = [f"/events/{text}/1", f"/events/logins/{text}", f"/events/{text}/{text}/explain"]
    assert set((await _statuses(filled, missing)).values()) == {404}


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
async def test_odd_number_is_refused(filled: Client, number: str) -> None:
    found = await _statuses(filled, [f"{call}{number}" for call in (*WHOLE, *QUARANTINE)])
    assert set(found.values()) == {400}, found
    assert set((await _statuses(filled, [f"/quarantine/{number}"])).values()) == {404}


@pytest.mark.parametrize("time", TIMES.values(), ids=TIMES)
async def test_odd_time_is_refused(filled: Client, time: str) -> None:
    names = ("since", "until", "received_since", "received_until")
    targets = [f"/events?{name}={time}" for name in names]
    targets += [f"/quarantine?{name}={time}" for name in ("kept_since", "kept_until")]
    found = await _statuses(filled, targets)
    assert set(found.values()) == {400}, found


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
async def test_odd_value_of_a_field_finds_nothing(filled: Client, value: str) -> None:
    (status,) = (await _statuses(filled, [f"/events?field=/a&equals={value}"])).values()
    assert status in {200, 400}


@pytest.mark.parametrize("place", POINTERS.values(), ids=POINTERS)
async def test_odd_place_of_a_field_finds_nothing(filled: Client, place: str) -> None:
    (status,) = (await _statuses(filled, [f"/events?field={place}&equals=1"])).values()
    assert status in {200, 400}


@pytest.mark.parametrize("entry", ["0", "9" * 18, "9" * 19, "-1", "1%2F..", "%ED%A0%80", "1 "])
async def test_odd_id_finds_nothing_in_quarantine(filled: Client, entry: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/release")):
        target = URL(f"/quarantine/{entry.replace(' ', '%20')}{path}", encoded=True)
        async with filled.request(method, target) as response:
            assert (response.status, response.content_type) == (404, PROBLEM)


@pytest.mark.parametrize("last", ["NaN", "-1", "1.5", "٣", "9" * 30, "é", "x"])
async def test_odd_last_event_is_refused(filled: Client, last: str) -> None:
    headers = {"Last-Event-ID": last}
    async with filled.get("/events/stream", headers=headers) as response:
        assert (response.status, response.content_type) == (400, PROBLEM)


@pytest.mark.parametrize("tag", ['"', "W/", '""', "*, *", '"a" "b"', "x" * 4000, ",,,"])
async def test_odd_condition_is_as_good_as_none(filled: Client, tag: str) -> None:
    for path in ("/events/logins/1", "/openapi.json", "/docs/start.js"):
        async with filled.get(path, headers={"If-None-Match": tag}) as response:
            assert response.status in {200, 304}
