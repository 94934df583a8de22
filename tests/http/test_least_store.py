"""The service on a store that does only what every store must: the rest is not there, and said."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bodies import PROBLEM, get, stored_ids
from click.testing import CliRunner, Result
from sse import EventSource

from added import INSTALLED, with_plugin
from aggregator.cli.main import main
from aggregator.plugins import STORES, Plugins
from conftest import Client, Start
from events import event

PLAIN = Plugins([*INSTALLED.found, with_plugin(STORES, "plain", "plain_store:PlainStore")])


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"plain:{tmp_path}/plain.db"


@pytest.fixture
async def client(start: Start) -> Client:
    return await start(PLAIN)


async def send(client: Client, *events: Any, prefer: str = "") -> tuple[int, list[tuple[str, Any]]]:
    """The answer's status; the status and seq of each event."""
    headers = {"Prefer": prefer} if prefer else {}
    async with client.post("/publish", json=list(events), headers=headers) as response:
        answer = await response.json(content_type=None)
        return response.status, [(one["status"], one.get("seq")) for one in answer["results"]]


async def check_stats(client: Client, **expected: int) -> None:
    stats = await get(client, "/stats")
    assert {name: stats[name] for name in expected} == expected
    settled = ("unique_processed", "duplicate_dropped", "invalid", "filtered", "refused")
    assert stats["received_total"] == sum(stats[name] for name in settled)
    assert stats["queue_size_current"] == 0


async def test_each_event_is_stored_once_and_what_comes_again_is_told(client: Client) -> None:
    again, other = event("1"), event("1", payload={"user": "bob"})
    assert await send(client, event("1"), again, other, event("2", topic="")) == (
        207,
        [("stored", 1), ("duplicate", 1), ("conflict", 1), ("invalid", None)],
    )
    assert await send(client, again, event("2", "orders")) == (
        200,
        [("duplicate", 1), ("stored", 2)],
    )
    await check_stats(
        client, received_total=6, unique_processed=2, duplicate_dropped=3, conflicts=1, invalid=1
    )
    assert (await get(client, "/stats"))["processed_topics"] == ["logins", "orders"]


async def test_strict_submission_is_undone_as_a_whole(client: Client) -> None:
    await send(client, event("1"))
    clash = event("1", payload={})
    assert await send(client, event("2"), clash, prefer="handling=strict") == (
        409,
        [("refused", None), ("conflict", 1)],
    )
    assert await send(client, event("2")) == (200, [("stored", 2)])
    await check_stats(client, unique_processed=2, conflicts=1, refused=1)


async def test_events_are_read_back_and_followed(client: Client) -> None:
    async with EventSource(client) as source:
        await send(client, *(event(str(number)) for number in range(3)))
        assert [one.told["event_id"] for one in await source.take(3)] == ["0", "1", "2"]
    assert (await get(client, "/events/logins/1"))["payload"] == {"user": "ada"}
    assert await stored_ids(client) == ["0", "1", "2"]
    found = await get(client, "/events?order=desc&limit=2&field=/user&equals=ada")
    assert [one["event_id"] for one in found["events"]] == ["2", "1"]
    (topic,) = (await get(client, "/topics"))["topics"]
    assert (topic["topic"], topic["stored"]) == ("logins", 3)


async def test_service_goes_on_after_a_restart(start: Start) -> None:
    client = await start(PLAIN)
    await send(client, event("1"), event("1"))
    await client.close()
    client = await start(PLAIN)
    assert await send(client, event("1"), event("2")) == (200, [("duplicate", 1), ("stored", 2)])
    await check_stats(client, received_total=4, unique_processed=2, duplicate_dropped=2)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/events/logins/1/explain"),
        ("GET", "/quarantine"),
        ("DELETE", "/quarantine?after=0"),
        ("POST", "/quarantine/release?after=0"),
        ("GET", "/quarantine/1"),
        ("DELETE", "/quarantine/1"),
        ("POST", "/quarantine/1/release"),
    ],
)
async def test_call_that_needs_more_is_not_there(client: Client, method: str, path: str) -> None:
    await send(client, event("1"))
    async with client.request(method, path) as response:
        assert (response.status, response.content_type) == (404, PROBLEM)


async def test_description_leaves_out_what_is_not_there(client: Client) -> None:
    paths = (await get(client, "/openapi.json"))["paths"]
    assert "/events/{topic}/{event_id}" in paths
    assert [path for path in paths if "quarantine" in path or "explain" in path] == []


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [("respond-async", None), ("respond-async, handling=lenient", "handling=lenient")],
)
async def test_nobody_is_answered_before_the_events_are_stored(
    client: Client, prefer: str, applied: str | None
) -> None:
    async with client.post("/publish", json=event("1"), headers={"Prefer": prefer}) as response:
        assert response.status == 200
        assert response.headers.get("Preference-Applied") == applied
        assert [one["status"] for one in (await response.json())["results"]] == ["stored"]


@pytest.fixture
def invoke(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs a command where the plain store is installed."""
    monkeypatch.setattr(Plugins, "installed", lambda: PLAIN)
    handler = signal.getsignal(signal.SIGTERM)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--store", store_url])

    yield invoke
    signal.signal(signal.SIGTERM, handler)


def test_start_names_all_settings_that_ask_for_more(
    invoke: Any, store_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[topics.logins]\non_conflict = "quarantine"\n')
    flags = ["--on-invalid", "quarantine", "--indexed", "/user", "--config", str(file)]
    told = invoke("serve", *flags)
    assert told.exit_code == 2
    store = f"aggregator: store: a plain store in {store_url.removeprefix('plain:')}"
    assert told.output.splitlines() == [
        f"{store} keeps no quarantine, as on_invalid = quarantine needs",
        f"{store} keeps no quarantine, as on_conflict = quarantine needs",
        f"{store} indexes no fields, as indexed asks for",
    ]


def test_backup_says_that_there_is_none(invoke: Any, tmp_path: Path) -> None:
    told = invoke("backup", str(tmp_path / "copy"))
    assert told.exit_code == 2
    assert "no backup can be made of this one: a plain store in" in told.output
    assert not (tmp_path / "copy").exists()
