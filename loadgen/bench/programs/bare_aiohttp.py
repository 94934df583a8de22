"""aiohttp and nothing else: parses each body and answers."""

import sys

from aiohttp import web

PARSED = web.AppKey("PARSED", list[int])


async def publish(request: web.Request) -> web.Response:
    await request.json()
    request.app[PARSED][0] += 1
    return web.json_response({})


async def stats(request: web.Request) -> web.Response:
    return web.json_response({"parsed": request.app[PARSED][0]})


def main() -> None:
    app = web.Application()
    app[PARSED] = [0]
    app.add_routes([web.post("/publish", publish), web.get("/stats", stats)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
