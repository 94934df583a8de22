"""Routes that a package adds are served, described and bounded as the service's own are."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from bodies import PROBLEM, get
from described import operations, resolved
from msgspec import Struct, json
from openapi_spec_validator import validate
from yarl import URL

from added import with_plugin
from aggregator.api import middleware
from aggregator.app import create_app
from aggregator.config import load
from aggregator.core.fault_log import Seldom
from aggregator.errors import Gone, SettingError
from aggregator.plugins import ROUTES, Plugins
from aggregator.route import Route, RouteContext, Routes
from aggregator_memory.store import MemoryStore
from conftest import Client, Start
from events import event


class Added(Struct):
    """What is added."""

    newest: int


class Status(Struct):
    """Has the name of another answer."""

    is_added: bool


def _answer(schema: type[Struct]) -> dict[str, Any]:
    return {"description": "It.", "content": {"application/json": {"schema": schema}}}


class Adding(Routes):
    """Routes of somebody else."""

    def routes(self) -> Sequence[Route]:
        answers = {"200": _answer(Added)}
        operation = {"operationId": "readAdded", "tags": ["added"], "responses": answers}
        return [
            Route("GET", "/added/{name:[a-z]+}", self.read, operation),
            Route("POST", "/added/{name:[a-z]+}", self.fail),
            Route("GET", "/added", self.fail, {"responses": {"200": _answer(Status)}}),
            Route("GET", "/memory", self.read, needs=MemoryStore),
        ]

    async def read(self, request: web.Request) -> web.StreamResponse:
        """What was added.

        In full.
        """
        async with self.context.store(request) as store:
            newest = (await store.span()).newest
        answer = web.Response(body=json.encode(Added(newest)), content_type="application/json")
        return await self.context.send(request, answer)

    async def fail(self, request: web.Request) -> web.StreamResponse:
        """Fails."""
        raise Gone(f"There is no {request.match_info['name']}.")


class Taking(Routes):
    def routes(self) -> Sequence[Route]:
        return [Route("GET", "/events/{topic:.+}/{event_id:.+}", self.read)]

    async def read(self, _: web.Request) -> web.StreamResponse:
        """Never read."""
        raise AssertionError


class Failing(Taking):
    def __init__(self, context: RouteContext) -> None:
        super().__init__(context)
        raise LookupError("what it looks for is away")


class Unfinished(Routes):
    pass


class Aside(Taking):
    def routes(self) -> Sequence[Route]:
        return [Route("GET", "aside", self.read)]


class Indescribable(Taking):
    def routes(self) -> Sequence[Route]:
        return [Route("GET", "/aside", self.read, {"responses": {"200": object()}})]


class Hanging(Routes):
    """Its handlers keep what they are lent, or answer nothing."""

    kept = 0
    """How often something was kept."""

    def routes(self) -> Sequence[Route]:
        return [
            Route("GET", "/hangs", self.hang),
            Route("GET", "/nothing", self.nothing),
            Route("GET", "/fails/{what}", self.fail),
            Route("GET", "/odd", self.odd),
        ]

    async def hang(self, request: web.Request) -> web.StreamResponse:
        async with self.context.store(request):
            Hanging.kept += 1
            await asyncio.Event().wait()
        return web.Response()

    async def fail(self, request: web.Request) -> web.StreamResponse:
        raise RuntimeError(request.match_info["what"])

    async def odd(self, _: web.Request) -> web.StreamResponse:
        """Answer with a status that HTTP does not know."""
        return web.Response(status=599)

    async def nothing(self, _: web.Request) -> Any:
        """Answer with no response."""


def _with_routes(*names: str) -> Plugins:
    added = [with_plugin(ROUTES, name, f"test_added_routes:{name}") for name in names]
    return Plugins([*Plugins.installed().found, *added])


@pytest.fixture
async def client(start: Start) -> Client:
    return await start(_with_routes("Adding"))


async def test_added_route_reads_the_store(client: Client) -> None:
    async with client.post("/publish", json=[event("1"), event("2")]) as response:
        assert response.status == 200
    assert await get(client, "/added/any") == {"newest": 2}


async def test_added_route_answers_as_every_other_does(client: Client) -> None:
    async with client.head("/added/any") as response:
        assert (response.status, response.content_type) == (200, "application/json")
    async with client.options("/added/any") as response:
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    async with client.put("/added/any") as response:
        assert (response.status, response.content_type) == (405, PROBLEM)
    async with client.post("/added/any") as response:
        assert (response.status, response.content_type) == (410, PROBLEM)
        assert "There is no any." in await response.text()
    async with client.post("/added/any", headers={"Origin": "https://a.example"}) as response:
        assert response.status == 403


async def test_added_route_is_described(client: Client) -> None:
    description = await get(client, "/openapi.json")
    operation = operations(description)["GET /added/{name}"]
    assert (operation["summary"], operation["description"]) == ("What was added.", "In full.")
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/Added"}
    added = description["components"]["schemas"]["Added"]
    assert added["properties"] == {"newest": {"type": "integer"}}
    assert {"name": "added"} in description["tags"]


async def test_answers_of_one_name_are_described_apart(client: Client) -> None:
    description = await get(client, "/openapi.json")
    described = operations(description)
    members = []
    for call in ("GET /added", "GET /healthz"):
        answer = described[call]["responses"]["200"]["content"]["application/json"]["schema"]
        members.append(set(resolved(answer, description)["properties"]))
    assert members == [{"is_added"}, {"status"}]
    validate(description)


async def test_route_is_there_only_where_the_store_has_what_it_needs(
    client: Client, store_url: str
) -> None:
    is_there = store_url == "memory:"
    async with client.get("/memory") as response:
        assert response.status == (200 if is_there else 404)
    described = operations(await get(client, "/openapi.json"))
    assert ("GET /memory" in described) is is_there


async def test_handlers_that_hang_cost_nobody_else_the_store(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hanging, "kept", 0)
    client = await start(_with_routes("Hanging"), answer_timeout=0.2)
    hanging = [asyncio.create_task(_status(client, "/hangs")) for _ in range(6)]
    while not Hanging.kept:
        await asyncio.sleep(0)
    assert (await get(client, "/events"))["events"] == []
    told = await asyncio.wait_for(asyncio.gather(*hanging), 10)
    assert set(told) <= {(500, PROBLEM), (503, PROBLEM)}, "it hangs, or its turn never came"
    assert (500, PROBLEM) in told
    assert await _status(client, "/hangs") == (500, PROBLEM)


async def test_handler_that_answers_with_nothing_has_failed(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "_seldom", Seldom())
    client = await start(_with_routes("Hanging"))
    assert await _status(client, "/nothing") == (500, PROBLEM)
    assert "GET /nothing failed" in caplog.text
    assert "answered with None, which is no response" in caplog.text


async def test_status_that_http_does_not_know_is_answered_and_counted(start: Start) -> None:
    client = await start(_with_routes("Hanging"))
    async with client.get("/odd") as answer:
        assert answer.status == 599
    async with client.get("/metrics") as answer:
        assert 'aggregator_rejected_total{code="599",reason="other"} 1.0' in await answer.text()


async def test_handler_that_fails_is_told_once_in_lines_that_are_ours(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "_seldom", Seldom())
    client = await start(_with_routes("Hanging"))
    for number in range(50):
        target = URL(f"/fails/{number}%0aERROR%20forged%1b", encoded=True)
        async with client.get(target) as response:
            assert (response.status, response.content_type) == (500, PROBLEM)
    (told,) = (one.getMessage() for one in caplog.records if one.levelname == "ERROR")
    first, *others = told.split("\n")
    assert first == "GET /fails/0\\nERROR forged\\x1b failed"
    assert any("in fail" in line for line in others)
    assert all(line.startswith("    ") for line in others), told


async def _status(client: Client, path: str) -> tuple[int, str]:
    async with client.get(path) as response:
        return response.status, response.content_type


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Taking", ("GET /events/{topic}/{event_id} is there already",)),
        ("Failing", ("LookupError", "what it looks for is away")),
        ("Unfinished", ("TypeError", "routes")),
        ("Aside", ("the path 'aside' should begin with /",)),
        ("Indescribable", ("TypeError", "object")),
    ],
)
def test_routes_that_cannot_be_added_stop_the_start(name: str, told: tuple[str, ...]) -> None:
    with pytest.raises(SettingError) as refused:
        create_app(load({"store": "memory:"}, {}), _with_routes(name))
    for word in (f"aggregator.routes: {name} = ", "tests 0", *told):
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("target", "told"),
    [("test_added_routes:gone", "gone"), ("test_added_routes:Added", "not a class derived")],
)
def test_what_adds_no_routes_is_a_problem_of_the_settings(target: str, told: str) -> None:
    plugins = Plugins([*Plugins.installed().found, with_plugin(ROUTES, "odd", target)])
    (problem,) = plugins.problems(load({"store": "memory:"}, {}))
    assert told in problem
    assert "odd" in problem


def test_name_that_two_packages_claim_is_a_problem_of_the_settings() -> None:
    configuration: Any = load({"store": "memory:"}, {})
    (problem,) = _with_routes("Adding", "Adding").problems(configuration)
    assert "claimed by" in problem
