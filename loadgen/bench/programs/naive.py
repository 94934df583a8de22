"""POST /publish, a queue, one consumer, one commit an event."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator

import aiosqlite
from aiohttp import web

Waiting = tuple[tuple[str, ...], "asyncio.Future[bool]"]
DB = web.AppKey("DB", aiosqlite.Connection)
QUEUE = web.AppKey("QUEUE", asyncio.Queue[Waiting])
TABLE = """
CREATE TABLE IF NOT EXISTS events (
    topic TEXT NOT NULL, event_id TEXT NOT NULL, timestamp TEXT NOT NULL, source TEXT NOT NULL,
    payload TEXT NOT NULL, UNIQUE (topic, event_id)
)"""
INSERT = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)"


async def consume(db: aiosqlite.Connection, queue: asyncio.Queue[Waiting]) -> None:
    while True:
        row, stored = await queue.get()
        cursor = await db.execute(INSERT, row)
        await db.commit()
        stored.set_result(cursor.rowcount == 1)


async def publish(request: web.Request) -> web.Response:
    event = await request.json()
    text = [event[name] for name in ("topic", "event_id", "timestamp", "source")]
    stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    request.app[QUEUE].put_nowait(((*text, json.dumps(event["payload"])), stored))
    return web.json_response({"status": "stored" if await stored else "duplicate"})


async def stats(request: web.Request) -> web.Response:
    async with request.app[DB].execute("SELECT count(*) FROM events") as cursor:
        (row,) = await cursor.fetchall()
    return web.json_response({"stored": row[0]})


async def opened(app: web.Application) -> AsyncIterator[None]:
    async with aiosqlite.connect(sys.argv[2]) as db:
        await db.execute("PRAGMA journal_mode=WAL")
        await db.execute(TABLE)
        app[DB], app[QUEUE] = db, asyncio.Queue()
        consumer = asyncio.create_task(consume(db, app[QUEUE]))
        yield
        consumer.cancel()


def main() -> None:
    app = web.Application()
    app.cleanup_ctx.append(opened)
    app.add_routes([web.post("/publish", publish), web.get("/stats", stats)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
