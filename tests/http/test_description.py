"""The description of the API is true: of the routes, of what is taken, and of every answer."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import pytest
from aiohttp import ClientResponse
from bodies import get
from described import check, closed, operations, resolved
from marshmallow import Schema, fields
from openapi_spec_validator import validate

from added import with_stages
from aggregator.api.openapi import portable
from aggregator.api.operations import HEADERS
from aggregator.api.request.media_type import ACCEPTED, NDJSON, Format
from aggregator.api.stored_event import render_line
from aggregator.app import INTAKE
from aggregator.core.identity import PayloadKind, digest_of
from aggregator.event import Verdict
from aggregator.outcome import Outcome
from aggregator.stage import IntakeStage
from aggregator.store import StoredEvent
from calls import calls
from conftest import Client, Start
from events import event

CLOUD_EVENT = {"specversion": "1.0", "type": "logins", "id": "c", "source": "/a", "data": 1}


async def test_every_route_is_described_and_nothing_else(client: Client) -> None:
    described = operations(await get(client, "/openapi.json"))
    assert set(described) == calls(client.app.router.routes())


async def test_description_is_openapi_3_1(client: Client) -> None:
    told = await get(client, "/openapi.json")
    assert told["openapi"].startswith("3.1")
    validate(told)
    assert set(told["info"]) == {"title", "version", "description", "license"}


async def test_every_call_and_argument_is_told_in_words(client: Client) -> None:
    told = await get(client, "/openapi.json")
    operations = [one for path in told["paths"].values() for one in path.values()]
    assert all(one["summary"].endswith(".") for one in operations)
    arguments = [argument for one in operations for argument in one.get("parameters", ())]
    assert [argument["name"] for argument in arguments if "description" not in argument] == []
    names = [one["operationId"] for one in operations]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z][A-Za-z]+", name) for name in names)


async def test_bodies_are_described_by_what_stages_hold_them_to(start: Start) -> None:
    client = await start(max_events=77)
    bodies = (await get(client, "/openapi.json"))["paths"]["/publish"]["post"]["requestBody"]
    one, several = bodies["content"]["application/json"]["schema"]["oneOf"]
    plain, cloud_event = one["anyOf"]
    assert plain["$ref"].endswith("/Event")
    assert (several["items"], several["maxItems"]) == (one, 77)
    assert bodies["content"]["application/cloudevents+json"]["schema"] == cloud_event
    assert cloud_event["$ref"].endswith("/CloudEvent")


async def test_every_format_that_is_read_is_described(client: Client) -> None:
    bodies = (await get(client, "/openapi.json"))["paths"]["/publish"]["post"]["requestBody"]
    assert set(bodies["content"]) == {*ACCEPTED.split(", "), "*/*"}
    assert {form.value for form in Format} - {"any"} <= set(bodies["content"])


async def test_headers_that_make_an_event_are_described(client: Client) -> None:
    publish = (await get(client, "/openapi.json"))["paths"]["/publish"]["post"]
    named = {argument["name"] for argument in publish["parameters"]}
    assert {f"ce-{name}" for name in ("id", "source", "type", "specversion")} <= named
    assert {"Content-Encoding", "Prefer"} <= named


async def test_limit_is_described_for_every_form_that_takes_it(client: Client) -> None:
    events = (await get(client, "/openapi.json"))["paths"]["/events"]["get"]
    (limit,) = (one for one in events["parameters"] if one["name"] == "limit")
    assert limit["schema"]["maximum"] > 1000
    assert "1,000" in limit["description"]


async def test_bytes_are_described_as_openapi_3_1_does(client: Client) -> None:
    schemas = (await get(client, "/openapi.json"))["components"]["schemas"]
    for name, member in (
        ("CloudEvent", "data_base64"),
        ("StoredEvent", "payload_base64"),
        ("Quarantined", "body_base64"),
    ):
        told = schemas[name]["properties"][member]
        assert (told["contentEncoding"], "format" in told) == ("base64", False)


async def test_every_outcome_is_described_by_its_status(client: Client) -> None:
    schemas = (await get(client, "/openapi.json"))["components"]["schemas"]
    outcomes = [kind for kind in get_args(Verdict) if issubclass(kind, Outcome)]
    mapping = schemas["Result"]["discriminator"]["mapping"]
    assert set(mapping) == {outcome.status for outcome in outcomes}


async def test_without_such_a_stage_a_body_is_any_object(start: Start) -> None:
    client = await start(pipeline="| dedup persist")
    bodies = (await get(client, "/openapi.json"))["paths"]["/publish"]["post"]["requestBody"]
    one, _ = bodies["content"]["application/json"]["schema"]["oneOf"]
    assert one == {"type": "object"}


class BriefSchema(Schema):
    topic = fields.String(required=True)


class Brief(IntakeStage):
    """A stage of somebody else that has its own contract."""

    accepts = {"application/json": BriefSchema}  # noqa: RUF012

    async def process(self, events: Any) -> Any:
        return events


async def test_contracts_of_several_stages_all_count(start: Start) -> None:
    client = await start(
        with_stages(brief="test_description:Brief"), pipeline="validate brief | dedup persist"
    )
    bodies = (await get(client, "/openapi.json"))["paths"]["/publish"]["post"]["requestBody"]
    one, _ = bodies["content"]["application/json"]["schema"]["oneOf"]
    assert [part["$ref"].rpartition("/")[2] for part in one["anyOf"][0]["allOf"]] == [
        "Event",
        "Brief",
    ]


async def test_examples_are_taken(client: Client) -> None:
    bodies = (await get(client, "/openapi.json"))["paths"]["/publish"]["post"]["requestBody"]
    del bodies["content"]["*/*"]  # whose example would be the headers
    for media_type, body in bodies["content"].items():
        examples = [one["value"] for one in body.get("examples", {}).values()]
        for example in examples or [body["example"]]:
            sent = {"data": example} if isinstance(example, str) else {"json": example}
            headers = {"Content-Type": media_type}
            async with client.post("/publish", headers=headers, **sent) as response:
                assert response.status == 200, await response.text()


PATTERNS = {
    r"\A[a-z]+\Z": "^[a-z]+$",
    r"(?P<year>\d{4})": r"(?<year>\d{4})",
    r"[\"\s]\'": r"""["\s]'""",
    r"\\Z\.": r"\\Z\.",
    r"(?i:a)": None,
    r"(?P<a>b)(?P=a)": None,
}


@pytest.mark.parametrize(("pattern", "expected"), PATTERNS.items())
def test_patterns_are_told_in_the_dialect_of_json_schema(pattern: str, expected: str) -> None:
    assert portable(re.compile(pattern)) == expected


def test_pattern_that_depends_on_flags_is_not_told() -> None:
    assert portable(re.compile("a", re.IGNORECASE)) is None


async def test_who_has_the_description_is_not_sent_it_again(client: Client) -> None:
    async with client.get("/openapi.json") as response:
        tag = response.headers["ETag"]
    async with client.get("/openapi.json", headers={"If-None-Match": tag}) as response:
        assert (response.status, await response.read()) == (304, b"")
    async with client.get("/openapi.json", headers={"If-None-Match": '"other"'}) as response:
        assert response.status == 200


class Described:
    """A client that holds every answer to its description."""

    def __init__(self, client: Client, description: dict[str, Any]) -> None:
        self._client = client
        self._description = description
        self.operations = operations(description)
        self.seen: set[tuple[str, str]] = set()

    @classmethod
    async def by(cls, client: Client) -> "Described":
        """The client, and the description that it is sent itself."""
        return cls(client, closed(await get(client, "/openapi.json")))

    async def ask(self, call: str, status: int, target: str = "", **sent: Any) -> Any:
        """The answer, which must have that status."""
        method, path = call.split(" ")
        async with self._client.request(method, target or path, **sent) as response:
            said = await response.read()
            assert response.status == status, said
            self.seen.add((call, str(status)))
            described = self.operations[call]["responses"][str(status)]
            told = resolved(described, self._description)
            _check_headers(response, told)
            if "content" not in told:
                assert said == b""
                return None
            return await self._checked(response, told["content"])

    async def _checked(self, response: ClientResponse, content: dict[str, Any]) -> Any:
        """The answer, once it has been found to be no more and no less than is described."""
        assert response.content_type in content or "*/*" in content
        if not response.content_type.endswith("json") or response.content_type in NDJSON:
            return None
        answered = await response.json(content_type=None)
        check(answered, content[response.content_type]["schema"], self._description)
        return answered


def _check_headers(response: ClientResponse, told: dict[str, Any]) -> None:
    for name in set(HEADERS) & set(response.headers):
        assert name in told.get("headers", {}), name


SETTINGS = """
on_invalid = "quarantine"
key = "topic,event_id,source"
max_event = 2000
body_timeout = 0.2

[topics.kept]
on_conflict = "quarantine"

[topics.refused]
on_conflict = "reject"
"""
NOT_TRIED = {
    # Nothing removes events yet, so no place in the stream is too early.
    ("GET /events/stream", "410"),
    # With rates; see tokens/test_rates.py.
    ("POST /publish", "429"),
    # Without the extra; see deploy/test_metrics.py.
    ("GET /metrics", "404"),
}


async def _never_ending() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.Event().wait()


async def _publish(api: Described) -> None:
    call = "POST /publish"
    await api.ask(call, 200, json=event("1"))
    again = [event("1"), event("1", payload={}), event("2", source="")]
    await api.ask(call, 207, json=again)
    await api.ask(call, 200, json=event("1", source="another"))
    await api.ask(call, 422, json=event("2", source=""))
    strict = {"Prefer": "handling=strict"}
    await api.ask(call, 409, json=[event("3"), event("1", payload={})], headers=strict)
    await api.ask(call, 422, json=[event("3"), event("4", source="")], headers=strict)
    twins = [event("3"), event("3", payload={})]
    refused = await api.ask(call, 409, json=twins, headers=strict)
    assert refused["results"][1]["seq"] is None
    await api.ask(call, 200, json=event("1"), headers={"Prefer": "return=minimal"})
    await api.ask(call, 400, data=b"{", headers={"Content-Type": "application/json"})
    await api.ask(call, 408, data=_never_ending(), headers={"Content-Type": "application/json"})
    large = await api.ask(call, 413, json=event("1", payload={"long": "x" * 2000}))
    assert large["title"] == "Content Too Large", "whatever the version of Python calls it"
    await api.ask(call, 415, data=b"<a/>", headers={"Content-Type": "text/xml"})
    for topic in ("kept", "refused"):
        await api.ask(call, 200, json=event("1", topic))
        later = {"Prefer": "respond-async"}
        await api.ask(call, 202, json=event("1", topic, payload={}), headers=later)
    await api.ask(call, 409, json=event("1", "refused", payload={}))
    for form, body in (("", CLOUD_EVENT), ("-batch", [CLOUD_EVENT, {**CLOUD_EVENT, "data": 2}])):
        headers = {"Content-Type": f"application/cloudevents{form}+json"}
        await api.ask(call, 200, json=body, headers=headers)
    base64 = {
        "specversion": "1.0",
        "type": "logins",
        "id": "b",
        "source": "/a",
        "data_base64": "AA==",
    }
    headers = {"Content-Type": "application/cloudevents+json"}
    await api.ask(call, 200, json=base64, headers=headers)


async def _read(api: Described) -> None:
    page = await api.ask("GET /events", 200)
    assert {"payload_base64", "attributes"} <= set().union(*page["events"])
    await api.ask("GET /events", 200, "/events?limit=1")
    for form in (*NDJSON, "application/cloudevents-batch+json"):
        await api.ask("GET /events", 200, headers={"Accept": form})
    await api.ask("GET /events", 400, "/events?limit=0")
    await api.ask("GET /events", 406, headers={"Accept": "image/png"})
    one, path = "GET /events/{topic}/{event_id}", "/events/logins/c"
    await api.ask(one, 200, path)
    cloud = {"Accept": "application/cloudevents+json"}
    await api.ask(one, 200, path, headers=cloud)
    await api.ask(one, 304, path, headers={"If-None-Match": "*"})
    await api.ask(one, 300, "/events/logins/1")
    await api.ask(one, 400, f"{path}?seq=x")
    await api.ask(one, 404, "/events/logins/none")
    await api.ask(one, 406, path, headers={"Accept": "image/png"})
    explain = "GET /events/{topic}/{event_id}/explain"
    explained = await api.ask(explain, 200, "/events/logins/1/explain?source=tests")
    assert explained["conflicting"]
    await api.ask(explain, 300, "/events/logins/1/explain")
    await api.ask(explain, 400, f"{path}/explain?seq=x")
    await api.ask(explain, 404, "/events/logins/none/explain")
    await api.ask("GET /topics", 200)
    await api.ask("GET /topics", 200, "/topics?limit=1")
    await api.ask("GET /topics", 400, "/topics?limit=0")
    await api.ask("GET /events/stream", 400, "/events/stream?after=x")


async def _follow(client: Client, api: Described) -> None:
    async with client.get("/events/stream") as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
    api.seen.add(("GET /events/stream", "200"))


async def _mend(api: Described) -> None:
    """What is in quarantine is read, released and dropped."""
    page = await api.ask("GET /quarantine", 200)
    by_reason = {(one["reason"], one["topic"]): one["id"] for one in page["quarantined"]}
    invalid, kept, refused = (
        by_reason[key]
        for key in (("invalid", "logins"), ("conflict", "kept"), ("conflict", "refused"))
    )
    one = "/quarantine/{id}"
    await api.ask("GET /quarantine", 200, "/quarantine?limit=1")
    await api.ask("GET /quarantine", 400, "/quarantine?limit=0")
    await api.ask(f"GET {one}", 200, f"/quarantine/{invalid}")
    await api.ask(f"GET {one}", 404, "/quarantine/99999")
    release = f"POST {one}/release"
    await api.ask(release, 200, f"/quarantine/{kept}/release")
    await api.ask(release, 409, f"/quarantine/{refused}/release")
    await api.ask(release, 422, f"/quarantine/{invalid}/release")
    await api.ask(release, 404, "/quarantine/99999/release")
    some = "POST /quarantine/release"
    await api.ask(some, 200, f"{some[5:]}?topic=kept")
    await api.ask(some, 207, f"{some[5:]}?reason=conflict")
    await api.ask(some, 409, f"{some[5:]}?topic=refused&limit=1")
    await api.ask(some, 422, f"{some[5:]}?reason=invalid&limit=1")
    await api.ask(some, 400)
    await api.ask(f"DELETE {one}", 204, f"/quarantine/{invalid}")
    await api.ask(f"DELETE {one}", 404, f"/quarantine/{invalid}")
    await api.ask("DELETE /quarantine", 200, "/quarantine?after=0")
    await api.ask("DELETE /quarantine", 400)


async def _look_around(api: Described) -> None:
    for path in ("/stats", "/healthz", "/readyz", "/whoami", "/metrics"):
        await api.ask(f"GET {path}", 200)
    for call, path in (
        ("GET /openapi.json", "/openapi.json"),
        ("GET /docs", "/docs"),
        ("GET /docs/{asset}", "/docs/start.js"),
    ):
        await api.ask(call, 200, path)
        await api.ask(call, 304, path, headers={"If-None-Match": "*"})
    await api.ask("GET /docs/{asset}", 404, "/docs/other.js")


async def _come_from_elsewhere(api: Described) -> None:
    foreign = {"Origin": "https://elsewhere.example"}
    for call, told in api.operations.items():
        if "403" in told["responses"]:
            path = call.split(" ")[1].replace("{id}", "1")
            await api.ask(call, 403, path, headers=foreign)


async def _ask_for_another_host(api: Described) -> None:
    for call, told in api.operations.items():
        if "421" in told["responses"]:
            path = call.split(" ")[1].replace("{id}", "1")
            await api.ask(call, 421, path, headers={"Host": "elsewhere.example"})


async def test_every_answer_is_as_described(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "aggregator.toml"
    config.write_text(SETTINGS)
    client = await start(config=str(config), hosts="")
    api = await Described.by(client)
    await _publish(api)
    await _read(api)
    await _follow(client, api)
    await _mend(api)
    await _look_around(api)
    await _come_from_elsewhere(api)
    await _ask_for_another_host(api)
    described = {
        (call, status)
        for call, told in api.operations.items()
        for status in told["responses"]
        if status < "500"
    }
    assert described - api.seen - NOT_TRIED == {("GET /docs", "404")}, "see test_docs_page.py"


async def test_filtered_event_is_told_as_described(start: Start) -> None:
    client = await start(
        with_stages(odd="misbehaving:Filters"), pipeline="validate | dedup odd persist"
    )
    api = await Described.by(client)
    answer = await api.ask("POST /publish", 200, json=event("1", payload={"is": "bad"}))
    assert answer["filtered"] == 1


@pytest.mark.parametrize("payload", [b"{}", b'{"flipped":0}', None])
@pytest.mark.parametrize("form", PayloadKind)
async def test_event_is_described_whatever_is_left_of_it(
    client: Client, payload: bytes | None, form: PayloadKind
) -> None:
    description = closed(await get(client, "/openapi.json"))
    digest = digest_of("tests", b"{}", form)
    attributes = b'{"specversion":"1.0"}'
    stored = StoredEvent(
        1,
        0,
        "logins",
        "1",
        None,
        "tests",
        payload,
        b"",
        digest,
        payload_kind=form,
        attributes=attributes,
    )
    schema = description["components"]["schemas"]["StoredEvent"]
    check(json.loads(render_line(stored)), schema, description)


async def test_failures_are_as_described(start: Start) -> None:
    client = await start(
        with_stages(odd="misbehaving:Raises"), pipeline="validate | dedup odd persist"
    )
    api = await Described.by(client)
    await api.ask("POST /publish", 500, json=event("1", payload={"is": "bad"}))
    client.app[INTAKE].is_open = False
    await api.ask("POST /publish", 503, json=event("1"))
    await api.ask("GET /readyz", 503)
