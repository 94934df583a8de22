"""The calls that a running app answers."""

from collections.abc import Iterable

from aiohttp import web


def calls(routes: Iterable[web.AbstractRoute]) -> set[str]:
    """The routes as method and path; HEAD goes with GET."""
    return {
        f"{route.method} {route.resource.canonical}"
        for route in routes
        if route.resource and route.method != "HEAD"
    }
