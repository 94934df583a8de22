"""What each token may do: every call with every scope, and events one by one."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tokened import Tokened, make, start_with

from aggregator.app import TOKENS
from aggregator.core.tokens import Scope
from aggregator.token_file import edit
from calls import calls
from conftest import Client, Start, starting
from events import event

OPEN = {"GET /healthz", "GET /readyz", "GET /openapi.json", "GET /docs", "GET /docs/{asset}"}
ALL = {str(scope): ((scope,), {}) for scope in Scope}
BY_SCOPE = {
    "POST /publish": "publish",
    "GET /events": "read",
    "GET /events/stream": "read",
    "GET /events/{topic}/{event_id}": "read",
    "GET /events/{topic}/{event_id}/explain": "read",
    "GET /topics": "read",
    "GET /stats": "read",
    "GET /quarantine": "quarantine",
    "DELETE /quarantine": "quarantine",
    "POST /quarantine/release": "quarantine",
    "GET /quarantine/{id}": "quarantine",
    "DELETE /quarantine/{id}": "quarantine",
    "POST /quarantine/{id}/release": "quarantine",
    "GET /metrics": "metrics",
}
"""The scope that each call asks for."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of tokens."""
    return tmp_path / "tokens.json"


async def test_every_call_is_open_to_its_scope_alone(start: Start, path: Path) -> None:
    app, tokens = await start_with(start, path, ALL)
    every = calls(app.client.app.router.routes())
    assert every == OPEN | BY_SCOPE.keys() | {"GET /whoami"}
    for call in sorted(every):
        method, template = call.split()
        target = template.replace("{topic}", "t").replace("{event_id}", "1").replace("{id}", "1")
        target = target.replace("{asset}", "start.js").replace("/stream", "/stream?after=x")
        if (template == "/quarantine" and method == "DELETE") or target.endswith("/release"):
            target += "?after=0"
        wanted = BY_SCOPE.get(call)
        nobody = await app.ask(None, target, method)
        assert (nobody.status == 401) is (call not in OPEN), call
        if nobody.status == 401:
            assert nobody.headers["WWW-Authenticate"] == 'Bearer realm="aggregator"'
        for name, token in tokens.items():
            answer = await app.ask(token, target, method)
            is_refused = wanted not in (None, name)
            assert (answer.status == 403) is is_refused, (call, name)
            assert answer.status != 401
            if is_refused:
                assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
                assert name in answer.body["detail"]
                assert wanted in answer.body["detail"]


async def test_head_asks_for_what_get_asks_for(start: Start, path: Path) -> None:
    app, tokens = await start_with(start, path, ALL)
    for target in ("/events", "/stats", "/topics", "/events/stream"):
        assert (await app.ask(None, target, "HEAD")).status == 401
        assert (await app.ask(tokens["publish"], target, "HEAD")).status == 403
        assert (await app.ask(tokens["read"], target, "HEAD")).status == 200


async def test_preflight_asks_for_no_token(start: Start, path: Path) -> None:
    app, _ = await start_with(start, path, ALL, cors_origins="https://page.example")
    asked = {
        "Origin": "https://page.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = await app.ask(None, "/publish", "OPTIONS", headers=asked)
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization"


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ("Basic YTpi", ""),
        ("Bearer", 'error="invalid_token"'),
        ("Bearer x", 'error="invalid_token"'),
        ("bearer agg_" + "x" * 10, 'error="invalid_token"'),
        ("Bearer \xff", 'error="invalid_token"'),
    ],
)
async def test_what_is_no_token_is_401_and_says_so(
    start: Start, path: Path, header: str, error: str
) -> None:
    app, _ = await start_with(start, path, ALL)
    answer = await app.ask(None, "/events", headers={"Authorization": header})
    assert answer.status == 401
    said = answer.headers["WWW-Authenticate"]
    assert said.startswith('Bearer realm="aggregator"')
    assert said.partition(", ")[2] == error


async def test_two_tokens_in_one_request_are_none(start: Start, path: Path) -> None:
    app, tokens = await start_with(start, path, ALL)
    both = [("Authorization", f"Bearer {tokens['read']}")] * 2
    async with app.client.get("/events", headers=both) as answer:
        assert answer.status == 401


async def test_without_a_file_everybody_may_do_everything(client: Client) -> None:
    async with client.post("/publish", json=event()) as answer:
        assert answer.status == 200
    async with client.get("/whoami") as answer:
        assert await answer.json() == {
            "name": None,
            "scopes": [str(scope) for scope in Scope],
            "topics": ["*"],
            "source": None,
            "expires": None,
        }


async def test_token_tells_what_it_is_for(start: Start, path: Path) -> None:
    pinned = {"topics": ("a", "b.*"), "source": "x"}
    app, tokens = await start_with(start, path, {"web": ((Scope.PUBLISH,), pinned)})
    answer = await app.ask(tokens["web"], "/whoami")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.body == {
        "name": "web",
        "scopes": ["publish"],
        "topics": ["a", "b.*"],
        "source": "x",
        "expires": None,
    }


async def test_event_of_a_forbidden_topic_or_source_is_refused_by_itself(
    start: Start, path: Path
) -> None:
    pinned = {"topics": ("orders.*",), "source": "web"}
    app, tokens = await start_with(
        start, path, {"web": ((Scope.PUBLISH,), pinned), "all": ((Scope.READ,), {})}
    )
    batch = [
        event("1", "orders.new", source="web"),
        event("2", "logins", source="web"),
        event("3", "orders.new", source="other"),
        {"topic": "logins", "event_id": 5},
        {"topic": "orders.new", "event_id": 6},
    ]
    answer = await app.publish(tokens["web"], batch)
    assert answer.status == 207
    told = [result["status"] for result in answer.body["results"]]
    assert told == ["stored", "refused", "refused", "refused", "invalid"]
    reasons = [result.get("reason") for result in answer.body["results"]]
    assert reasons[1] == reasons[3] == "The token web is not for the topic 'logins'."
    assert reasons[2] == "The token web is not for the source 'other'."
    assert answer.body["refused"] == 3
    assert answer.body["received"] == 5
    stats = (await app.ask(tokens["all"], "/stats")).body
    assert (stats["received_total"], stats["refused"], stats["unique_processed"]) == (5, 3, 1)


@pytest.mark.parametrize("prefer", ["", "handling=strict", "respond-async"])
async def test_where_no_event_may_pass_it_is_403_and_nothing_is_counted(
    start: Start, path: Path, prefer: str
) -> None:
    app, tokens = await start_with(
        start, path, {"web": ((Scope.PUBLISH,), {"topics": ("a",)}), "all": ((Scope.READ,), {})}
    )
    some = [event("1", "b"), event("2", "a")] if prefer else [event("1", "b"), event("2", "c")]
    answer = await app.publish(tokens["web"], some, prefer)
    assert answer.status == 403
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
    stats = (await app.ask(tokens["all"], "/stats")).body
    assert stats["received_total"] == stats["failed_async"] == stats["quarantined"] == 0


async def test_whoever_may_not_read_is_told_the_status_and_no_more(
    start: Start, path: Path
) -> None:
    app, tokens = await start_with(
        start,
        path,
        {
            "blind": ((Scope.PUBLISH,), {}),
            "pinned": ((Scope.PUBLISH,), {"source": "tests"}),
            "elsewhere": ((Scope.PUBLISH, Scope.READ), {"topics": ("logins", "x")}),
        },
    )
    first = await app.publish(tokens["blind"], event())
    assert first.body["results"][0]["seq"] == 1
    again, other = event(), event(payload={"user": "bob"})
    for name, members in (("blind", set()), ("pinned", {"seq", "received_at"})):
        answer = await app.publish(tokens[name], [again, other])
        assert [set(one) for one in answer.body["results"]] == [
            {"index", "topic", "event_id", "status"} | members,
            {"index", "topic", "event_id", "status"},
        ]
    seen = await app.publish(tokens["elsewhere"], [again, other])
    assert [one["seq"] for one in seen.body["results"]] == [1, 1]
    assert seen.body["results"][1]["differences"] == ["/payload/user"]


PAYLOADS = st.sampled_from([{}, {"n": 1}, {"n": 2}])
CONTENTS = st.fixed_dictionaries({"source": st.sampled_from(["a", "b"]), "payload": PAYLOADS})


@settings(max_examples=25, deadline=None)
@given(
    stored=st.lists(CONTENTS, min_size=2, max_size=2),
    others=st.lists(CONTENTS, min_size=2, max_size=2),
    sent=st.lists(PAYLOADS, min_size=2, max_size=2),
)
async def test_answers_to_a_pinned_publisher_do_not_depend_on_what_others_have_stored(
    stored: list[dict[str, Any]], others: list[dict[str, Any]], sent: list[dict[str, Any]]
) -> None:
    assert await _told_after(stored, sent) == await _told_after(others, sent)


async def _told_after(contents: list[dict[str, Any]], sent: list[dict[str, Any]]) -> Any:
    """What the pinned one is told, once others have stored these under the same keys."""

    with tempfile.TemporaryDirectory() as folder:
        async with starting("memory:") as start:
            app, tokens = await start_with(
                start,
                Path(folder) / "tokens.json",
                {
                    "others": ((Scope.PUBLISH,), {}),
                    "own": ((Scope.PUBLISH,), {"source": "own"}),
                },
            )
            theirs = [event(str(number), **one) for number, one in enumerate(contents)]
            await app.publish(tokens["others"], theirs)
            own = [event(str(number), source="own", payload=one) for number, one in enumerate(sent)]
            own += [event("new", source="own", payload=one) for one in sent]
            answer = await app.publish(tokens["own"], own)
            for result in answer.body["results"]:
                result.pop("received_at", None)
            return answer.status, answer.body


async def test_reader_of_some_topics_sees_nothing_of_others(start: Start, path: Path) -> None:
    app, tokens = await start_with(
        start,
        path,
        {
            "all": ((Scope.PUBLISH, Scope.READ), {}),
            "some": ((Scope.READ, Scope.QUARANTINE), {"topics": ("orders.*", "logins")}),
        },
        on_invalid="quarantine",
    )
    topics = ["orders.a", "secret", "logins", "orders.b", "orders"]
    await app.publish(tokens["all"], [event(topic, topic) for topic in topics])
    await app.publish(tokens["all"], [event("", topic) for topic in topics] + [{"topic": 5}])
    some = tokens["some"]
    mine = ["orders.a", "logins", "orders.b"]
    for target in ("/events", "/events?limit=2", "/events?order=desc&limit=1"):
        assert sorted(await _paged(app, some, target, "events")) == sorted(mine), target
    assert await _paged(app, some, "/topics?limit=1", "topics") == sorted(mine)
    assert await _paged(app, some, "/quarantine?limit=2", "quarantined") == mine
    lines = await app.ask(some, "/events", headers={"Accept": "application/x-ndjson"})
    assert [topic for topic in topics if f'"{topic}"' in lines.body] == mine
    stats = (await app.ask(some, "/stats")).body
    assert stats["processed_topics"] == sorted(mine)
    assert (stats["unique_processed"], stats["processed_topics_total"]) == (3, 3)
    assert "received_total" not in stats
    for target in (
        "/events?topic=secret",
        "/events/stream?topic=secret",
        "/events/secret/secret",
        "/events/secret/secret/explain",
        "/events/secret/no-such",
    ):
        assert (await app.ask(some, target)).status == 403, target
    assert (await app.ask(some, "/events/orders.a/orders.a")).status == 200


@pytest.mark.parametrize(
    "asked",
    [
        "source=acme",
        "field=/a&equals=1",
        "since=2026-01-01T00:00:00Z",
        "until=2026-01-01T00:00:00Z",
        "received_since=2026-01-01T00:00:00Z",
        "received_until=2026-01-01T00:00:00Z",
    ],
)
async def test_whoever_may_not_read_all_cannot_ask_what_others_have(
    start: Start, path: Path, asked: str
) -> None:
    """Where the page ends would tell that something has matched, and as which seq."""
    app, tokens = await start_with(
        start, path, {"all": ((Scope.READ,), {}), "some": ((Scope.READ,), {"topics": ("a*",)})}
    )
    for target in ("/events", "/events/stream"):
        answer = await app.ask(tokens["some"], f"{target}?after=0&{asked}", "HEAD")
        assert answer.status == 403, target
        for token, more in ((tokens["some"], "&topic=ab"), (tokens["all"], "")):
            answer = await app.ask(token, f"{target}?after=0&{asked}{more}", "HEAD")
            assert answer.status == 200, (target, more)
    lines = {"Accept": "application/x-ndjson"}
    answer = await app.ask(tokens["some"], f"/events?{asked}", headers=lines)
    assert answer.status == 403
    assert "name one of its topics" in answer.body["detail"]


async def test_page_of_topics_tells_no_other_name(start: Start, path: Path) -> None:
    app, tokens = await start_with(
        start,
        path,
        {"all": ((Scope.PUBLISH,), {}), "some": ((Scope.READ,), {"topics": ("b*", "d")})},
    )
    await app.publish(tokens["all"], [event("1", topic) for topic in ("a", "b1", "b2", "c", "d")])
    for after, names, more in (
        ("", ["b1", "b2"], "b2"),
        ("b1", ["b2", "d"], None),
        ("a", ["b1", "b2"], "b2"),
    ):
        answer = await app.ask(tokens["some"], f"/topics?limit=2&after={after}")
        assert [topic["topic"] for topic in answer.body["topics"]] == names
        assert answer.body["next"] == more
        assert ("Link" in answer.headers) is (more is not None)


async def test_where_a_kept_event_conflicts_is_told_to_readers_alone(
    start: Start, path: Path
) -> None:
    kinds = {
        "all": ((Scope.PUBLISH, Scope.QUARANTINE, Scope.READ), {}),
        "blind": ((Scope.PUBLISH, Scope.QUARANTINE), {}),
    }
    app, tokens = await start_with(start, path, kinds, on_conflict="quarantine")
    await app.publish(tokens["all"], {**event("1", "a"), "payload": {"secret": 1}})
    await app.publish(tokens["blind"], {**event("1", "a"), "payload": {}})
    for target in ("/quarantine", "/quarantine/1"):
        told = str((await app.ask(tokens["all"], target)).body)
        assert "secret" in told
        assert "event 1" in told
        cut = str((await app.ask(tokens["blind"], target)).body)
        assert "Another content is stored under its key." in cut
        assert "secret" not in cut
        assert "event 1" not in cut


async def test_entries_in_quarantine_on_other_topics_are_not_there(
    start: Start, path: Path
) -> None:
    app, tokens = await start_with(
        start,
        path,
        {
            "all": ((Scope.PUBLISH, Scope.QUARANTINE), {}),
            "some": ((Scope.QUARANTINE,), {"topics": ("a",)}),
        },
        on_invalid="quarantine",
    )
    await app.publish(tokens["all"], [event("", "a"), event("", "b")])
    assert (await app.ask(tokens["some"], "/quarantine/2")).status == 404
    assert (await app.ask(tokens["some"], "/quarantine/2", "DELETE")).status == 404
    assert (await app.ask(tokens["some"], "/quarantine/2/release", "POST")).status == 404
    dropped = await app.ask(tokens["some"], "/quarantine?after=0", "DELETE")
    assert dropped.body["dropped"] == 1
    left = await app.ask(tokens["all"], "/quarantine")
    assert [one["topic"] for one in left.body["quarantined"]] == ["b"]


async def _paged(app: Tokened, token: str, target: str, member: str) -> list[str]:
    """The topics in all pages."""
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        more = f"{'&' if '?' in target else '?'}after={after}" if after else ""
        page = (await app.ask(token, target + more)).body
        found += [one["topic"] for one in page[member]]
        after = page["next"]
    return found


async def test_stream_tells_what_the_token_may_read_and_ends_when_it_does(
    start: Start, path: Path
) -> None:
    app, tokens = await start_with(
        start,
        path,
        {"all": ((Scope.PUBLISH,), {}), "some": ((Scope.READ,), {"topics": ("a",)})},
        heartbeat=0.05,
    )
    await app.publish(tokens["all"], [event("1", "a"), event("2", "b"), event("3", "a")])
    headers = {"Authorization": f"Bearer {tokens['some']}"}
    async with app.client.get("/events/stream?after=0", headers=headers) as answer:
        said = b""
        while b'"event_id":"3"' not in said:
            said += await answer.content.readany()
        assert b'"event_id":"2"' not in said
        edit(path, lambda kept: kept.without("some"))
        app.client.app[TOKENS].refresh()
        said = await asyncio.wait_for(answer.content.read(), 10)
        assert said.rstrip().endswith(b"The token some has expired, or is another one now.")


async def test_changed_token_ends_what_its_old_rights_began(start: Start, path: Path) -> None:
    app, tokens = await start_with(start, path, {"some": ((Scope.READ,), {})}, heartbeat=0.05)
    headers = {"Authorization": f"Bearer {tokens['some']}"}
    async with app.client.get("/events/stream", headers=headers) as answer:
        edit(path, lambda kept: kept.with_token(_narrowed(kept.tokens[0])))
        app.client.app[TOKENS].refresh()
        assert b"cut-off" in await asyncio.wait_for(answer.content.read(), 10)


def _narrowed(token: Any) -> Any:
    return replace(token, topics=("a",))


async def test_service_reads_a_changed_file_by_itself(start: Start, path: Path) -> None:
    app, _ = await start_with(start, path, ALL)
    late = make(path, "late", Scope.READ)
    async with asyncio.timeout(10):
        while (await app.ask(late, "/events")).status != 200:
            await asyncio.sleep(0.05)


async def test_two_tokens_from_one_address_are_two_clients(start: Start, path: Path) -> None:
    app, tokens = await start_with(
        start, path, {"a": ((Scope.READ,), {}), "b": ((Scope.READ,), {})}, streams=4
    )
    opened = []
    try:
        for name in ("a", "a", "a", "b"):
            headers = {"Authorization": f"Bearer {tokens[name]}"}
            answer = await app.client.get("/events/stream", headers=headers)
            opened.append(answer)
            assert answer.status == 200, name
        assert (await app.ask(tokens["a"], "/events/stream")).status == 503
    finally:
        for answer in opened:
            answer.close()


async def test_description_tells_of_tokens_where_they_are_in_force(
    start: Start, path: Path
) -> None:
    app, _ = await start_with(start, path, ALL)
    told = (await app.ask(None, "/openapi.json")).body
    assert told["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for call, scope in BY_SCOPE.items():
        method, target = call.split()
        operation = told["paths"][target][method.lower()]
        assert operation["security"] == [{"token": [scope]}]
        assert {"401", "403"} <= operation["responses"].keys()
    for call in OPEN:
        method, target = call.split()
        assert "security" not in told["paths"][target][method.lower()]
