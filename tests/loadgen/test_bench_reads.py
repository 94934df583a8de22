"""Reads are followed to their end, and what came is counted."""

import asyncio
from functools import partial

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadgen.bench.errors import RoundError
from loadgen.bench.reads import LINES, PAGES, SEQ, Asked, take_read

EVENTS = 2500
EVENT = '{"seq":1}'


async def events(request: web.Request) -> web.Response:
    """A page of 1,000, or all as lines; a page without events has a next one too."""
    if "bad" in request.query:
        raise web.HTTPBadRequest
    if request.headers["Accept"] == LINES:
        return web.Response(text=f"{EVENT}\n" * EVENTS)
    after = int(request.query.get("after", "-1"))
    if after < 0:
        return web.Response(text='{"events": []}', headers={"Link": '<?after=0>; rel="next"'})
    coming = min(1000, EVENTS - after)
    reached = after + coming
    link = {"Link": f'<?after={reached}>; rel="next"'} if reached < EVENTS else {}
    return web.Response(text=f'{{"events": [{",".join([EVENT] * coming)}]}}', headers=link)


async def take(path: str, asked: Asked) -> tuple[int, int]:
    app = web.Application()
    app.router.add_get("/events", events)
    async with TestServer(app) as running:
        assert running.port
        requests, came, seconds = await asyncio.to_thread(
            partial(take_read, running.port, path, asked)
        )
    assert seconds > 0
    return requests, came


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Asked("", "", PAGES), (4, EVENTS)),
        (Asked("", "", PAGES, is_whole=False), (1, 0)),
        (Asked("", "", LINES), (1, EVENTS)),
    ],
)
async def test_pages_are_followed_to_the_last_and_lines_are_one_answer(
    asked: Asked, expected: tuple[int, int]
) -> None:
    assert await take("/events", asked) == expected


async def test_event_that_comes_in_two_pieces_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for piece in range(len(SEQ), 2 * len(EVENT)):
        monkeypatch.setattr("loadgen.bench.reads.PIECE", piece)
        assert await take("/events", Asked("", "", LINES)) == (1, EVENTS)


async def test_refused_read_is_no_measurement() -> None:
    with pytest.raises(RoundError, match="400"):
        await take("/events?bad", Asked("", ""))
