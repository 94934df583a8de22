"""What the service logs, and what it leaves out."""

import logging
import sys

from aggregator.core.fault_log import Seldom
from aggregator.core.metrics import Metrics


def configure(level: str) -> None:
    """Log to standard error, from this level on."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger().setLevel(level.upper())
    logging.getLogger("aiohttp.server").addFilter(_is_ours)
    logging.getLogger("asyncio").addFilter(_is_not_too_often)


def _is_ours(record: logging.LogRecord) -> bool:
    """False for what is no HTTP: anybody can send that, and it is answered 400."""
    # aiohttp logged this, so it is there; most commands log and never need it.
    from aiohttp.http_exceptions import HttpProcessingError  # noqa: PLC0415

    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _is_not_too_often(record: logging.LogRecord) -> bool:
    """Whether to log it: what comes for each connection while files run out, once in a while."""
    if _NO_FILES not in record.getMessage():
        return True
    record.exc_info = None
    return _seldom.told(_NO_FILES) is not None


_NO_FILES = "socket.accept() out of system resource"
_seldom = Seldom()


class CountingHandler(logging.Handler):
    """Counts messages by level, and does nothing else."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def emit(self, record: logging.LogRecord) -> None:
        """Count it."""
        self._metrics.log_messages[record.levelname.lower()] += 1
