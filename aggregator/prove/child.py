"""The service under test, which kills itself at the failpoint that it is told.

`python -m aggregator.prove.child OPTIONS`, with the options as JSON. It ends when its standard
input is closed, so that it never outlives the prover.
"""

import asyncio
import os
import sys
import threading

import msgspec
from aiohttp import web

from aggregator import logs
from aggregator.app import BUDGETS, STORE, create_app
from aggregator.config import Settings, load
from aggregator.errors import AggregatorError, SettingError
from aggregator.plugins import Plugins
from aggregator.prove.failpoints import Failpoint, FailpointPlugins, Point, before_answer
from aggregator.prove.faults import HELD, Chances, Faults
from aggregator.server import serve

EXIT_UNUSABLE = 2


class ChildOptions(msgspec.Struct, frozen=True):
    """The settings, and the failpoint: its point, how often it is reached, and a delay."""

    settings: dict[str, str | int]
    point: Point = Point.ANY
    times: int = 0
    seconds: float = 0.0
    is_new: bool = False
    """Whether to refuse a store that exists already."""
    chances: Chances = Chances()
    """How likely what fails."""


def main() -> None:
    """Serve until stopped or killed."""
    options = msgspec.json.decode(sys.argv[1], type=ChildOptions)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logs.configure("info")
    failpoint = Failpoint(options.point, options.times, options.seconds)
    try:
        faults = Faults(options.chances)
        plugins = FailpointPlugins(Plugins.installed().found, failpoint, faults)
        configuration = load(options.settings, {}, plugins.problems)
        app = create_app(configuration, plugins)
        app.router.add_get(HELD, _held)
        app.on_response_prepare.append(before_answer(failpoint))
        sys.exit(asyncio.run(_serve(app, configuration.settings, is_new=options.is_new)))
    except AggregatorError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_UNUSABLE)


async def _serve(app: web.Application, settings: Settings, *, is_new: bool) -> int:
    if is_new and await app[STORE].key_spec() is not None:
        raise SettingError(
            f"store: there is one already, which the proof would fill: {app[STORE].about()}"
        )
    return await serve(app, settings)


async def _held(request: web.Request) -> web.Response:
    *returned, _, _ = request.app[BUDGETS]  # but for the places of readers and connections
    return web.json_response(sum(budget.held for budget in returned))


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # not through its buffer, whose lock would hold up the exit
    os._exit(EXIT_UNUSABLE)


if __name__ == "__main__":
    main()
