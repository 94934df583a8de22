"""A PostgreSQL of its own, and a front that inserts each request's events in one statement."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
from aiohttp import web

POOL: web.AppKey[Any] = web.AppKey("POOL")
CONNECTIONS = 16
NAMES = ("topic", "event_id", "timestamp", "source")
TABLE = """
CREATE TABLE events (
    topic text NOT NULL, event_id text NOT NULL, timestamp text NOT NULL, source text NOT NULL,
    payload text NOT NULL, PRIMARY KEY (topic, event_id)
)"""
INSERT = """
INSERT INTO events SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
ON CONFLICT DO NOTHING RETURNING topic, event_id"""


class Postgres:
    """In the working directory; as nobody where we are root, for it refuses to run as root."""

    def __init__(self, home: Path) -> None:
        self._bin = home / "bin"
        self._data = Path.cwd() / "postgres"
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            self.port = listening.getsockname()[1]

    def start(self) -> None:
        self._data.mkdir(mode=0o700)
        if self._as:
            shutil.chown(self._data, "nobody", "nogroup")
        made = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale")
        subprocess.run(
            [self._bin / "initdb", "-D", self._data, *made],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            **self._as,
        )
        settings = (f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=")
        flags = [word for setting in settings for word in ("-c", setting)]
        command: list[str | Path] = [self._bin / "postgres", "-D", self._data, *flags]
        self._process = subprocess.Popen(command, cwd="/", **self._as)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait()


async def connected(port: int) -> Any:
    """A pool, once the server takes connections."""
    for _ in range(600):
        try:
            return await asyncpg.create_pool(
                host="127.0.0.1",
                port=port,
                user="postgres",
                min_size=CONNECTIONS,
                max_size=CONNECTIONS,
            )
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.05)
    raise TimeoutError("PostgreSQL does not take connections")


async def opened(app: web.Application) -> AsyncIterator[None]:
    postgres = Postgres(Path(sys.argv[2]))
    postgres.start()
    try:
        async with await connected(postgres.port) as pool:
            assert await pool.fetchval("SHOW synchronous_commit") == "on"
            assert await pool.fetchval("SHOW fsync") == "on"
            await pool.execute(TABLE)
            app[POOL] = pool
            yield
    finally:
        postgres.stop()


async def publish(request: web.Request) -> web.Response:
    events = await request.json()
    columns = [[event[name] for event in events] for name in NAMES]
    columns.append([json.dumps(event["payload"]) for event in events])
    stored = {tuple(row) for row in await request.app[POOL].fetch(INSERT, *columns)}
    keys = zip(*columns[:2], strict=True)
    statuses = ["stored" if key in stored else "duplicate" for key in keys]
    return web.json_response({"statuses": statuses})


async def stats(request: web.Request) -> web.Response:
    stored = await request.app[POOL].fetchval("SELECT count(*) FROM events")
    return web.json_response({"stored": stored})


def main() -> None:
    app = web.Application()
    app.cleanup_ctx.append(opened)
    app.add_routes([web.post("/publish", publish), web.get("/stats", stats)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
