"""The service that is put to the proof: as ever, but that it kills itself where it is told to.

`python -m aggregator.proving.service ORDERS`, with the orders as JSON. It ends with whoever
started it: when its standard input does.
"""

import asyncio
import os
import sys
import threading

import msgspec

from aggregator import logs
from aggregator.app import STORE, create_app
from aggregator.configuration import load
from aggregator.errors import AggregatorError, SettingError
from aggregator.plugins import Plugins
from aggregator.proving.plan import Point
from aggregator.proving.trap import Trap, TrappedPlugins, answering
from aggregator.server import serve

EXIT_UNUSABLE = 2


class Orders(msgspec.Struct, frozen=True):
    """Settings, at which point to die when it is reached for the nth time, and whether to look
    first that the store is a new one.
    """

    settings: dict[str, str | int]
    point: Point = Point.ANY
    times: int = 0
    is_new: bool = False


def main() -> None:
    """Serve, as ordered."""
    orders = msgspec.json.decode(sys.argv[1], type=Orders)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logs.configure("info")
    try:
        sys.exit(asyncio.run(_serve(orders)))
    except AggregatorError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_UNUSABLE)


async def _serve(orders: Orders) -> int:
    trap = Trap(orders.point, orders.times)
    plugins = TrappedPlugins(Plugins.installed().found, trap)
    configuration = load(orders.settings, {}, plugins.problems)
    app = create_app(configuration, plugins)
    app.on_response_prepare.append(answering(trap))
    if orders.is_new and await app[STORE].recipe() is not None:
        raise SettingError(
            f"store: there is one already, which the proof would fill: {app[STORE].about()}"
        )
    return await serve(app, configuration.settings)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # not through its buffer, whose lock would hold up the exit
    os._exit(EXIT_UNUSABLE)


if __name__ == "__main__":
    main()
