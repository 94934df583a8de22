"""What a publisher says is what the server saw, whichever publisher it is."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadgen.bench import load
from loadgen.bench.body import Shape, one, read_bodies, write_bodies
from loadgen.bench.errors import RoundError
from loadgen.bench.load import Target, has_wrk, publish, publish_at

BODIES = 200
PUBLISHERS = [
    pytest.param(True, marks=pytest.mark.skipif(not has_wrk(), reason="wrk is not installed")),
    False,
]


class Server:
    """Keeps every body; may be slow, refuse, or answer in chunks."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.pause = 0.0
        self.status = 200
        self.is_chunked = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        await asyncio.sleep(self.pause)
        response = web.Response(status=self.status, text="answered")
        if self.is_chunked:
            response.enable_chunked_encoding()
        return response


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    return write_bodies(tmp_path / "bodies", Shape(1, one), BODIES)


async def serving(server: Server, use: Callable[[Target], load.Sent]) -> load.Sent:
    app = web.Application()
    app.router.add_post("/publish", server.answer)
    async with TestServer(app) as running:
        assert running.port
        target = Target(running.port, "/publish", "application/json")
        return await asyncio.to_thread(use, target)


@pytest.mark.parametrize("wrk", PUBLISHERS)
@pytest.mark.parametrize("chunked", [False, True])
async def test_every_body_is_sent_once_and_answered(
    bodies: Path, wrk: bool, chunked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "has_wrk", lambda: wrk)
    server = Server()
    server.is_chunked = chunked
    sent = await serving(server, lambda target: publish(target, bodies, 4, 30.0))
    assert sent.requests == BODIES
    assert sent.seconds > 0
    assert sorted(server.bodies) == sorted(read_bodies(bodies))


@pytest.mark.parametrize("wrk", PUBLISHERS)
async def test_when_time_is_up_all_that_was_sent_is_answered(
    bodies: Path, wrk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "has_wrk", lambda: wrk)
    server = Server()
    server.pause = 0.1
    sent = await serving(server, lambda target: publish(target, bodies, 2, 0.5))
    assert 2 <= sent.requests < BODIES
    assert len(server.bodies) == sent.requests


@pytest.mark.parametrize("wrk", PUBLISHERS)
async def test_refused_requests_are_no_measurement(
    bodies: Path, wrk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "has_wrk", lambda: wrk)
    server = Server()
    server.status = 503
    with pytest.raises(RoundError, match="200 were refused"):
        await serving(server, lambda target: publish(target, bodies, 4, 30.0))


async def test_latency_is_counted_from_when_a_request_was_due(bodies: Path) -> None:
    """One connection, 20 ms an answer, a request due every millisecond: each waits for the last."""
    server = Server()
    server.pause = 0.02
    sent = await serving(server, lambda target: publish_at(1000.0, target, bodies, 1, 0.04))
    assert sent.requests == len(server.bodies) == 40
    assert sent.latency["max"] >= 40 * 20 - 40
    assert sent.latency["p50"] >= 20 * 20 - 40


async def test_a_schedule_ends_with_its_bodies(bodies: Path) -> None:
    server = Server()
    sent = await serving(server, lambda target: publish_at(2000.0, target, bodies, 8, 60.0))
    assert sent.requests == len(server.bodies) == BODIES
