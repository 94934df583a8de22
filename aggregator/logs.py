"""What the service logs, and what it leaves out."""

import logging
import sys
import time

_SELDOM = 60.0  # seconds


def configure(level: str) -> None:
    """Log to standard error, from this level on."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger().setLevel(level.upper())
    logging.getLogger("aiohttp.server").addFilter(_is_ours)
    logging.getLogger("asyncio").addFilter(_full)


def _is_ours(record: logging.LogRecord) -> bool:
    """False for what is no HTTP: anybody can send that, and it is answered 400."""
    # aiohttp logged this, so it is there; most commands log and never need it.
    from aiohttp.http_exceptions import HttpProcessingError  # noqa: PLC0415

    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


class Seldom:
    """Lets one message through a minute that would else come thousands of times a second."""

    def __init__(self, message: str) -> None:
        self._message = message
        self._next = 0.0

    def __call__(self, record: logging.LogRecord) -> bool:
        """Whether to log the record; without its traceback."""
        if self._message not in record.getMessage():
            return True
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _SELDOM
        record.exc_info = None
        return True


_full = Seldom("socket.accept() out of system resource")
