"""What the service logs and how, and what it leaves out."""

import logging
import re
import sys
from datetime import datetime
from typing import Any

import msgspec

from aggregator.core.fault_log import CONTROLS, Seldom, traceback_of
from aggregator.core.metrics import Metrics

ACCESS = logging.getLogger("aggregator.access")
"""A line for each request, by setting."""

_NOISY = ("aiosqlite", "asyncio", "aiohttp")
"""Whose details would bury ours, and may quote what is stored."""

_CONTROLS = {code: shown for code, shown in CONTROLS.items() if code != ord("\n")}
_UNINDENTED = re.compile(r"\n(?! {4})")
_LEVELS = ("info", "warning", "error", "critical")

_USUAL = frozenset(vars(logging.makeLogRecord({})))  # members of every record


def configure(level: str, form: str = "text", *, access: bool = False) -> None:
    """Log to standard error, from this level on; may be called again."""
    root = logging.getLogger()
    if not any(isinstance(handler.formatter, _Formatter) for handler in root.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(TextFormatter())
        root.addHandler(handler)
        logging.getLogger("aiohttp.server").addFilter(_is_ours)
        logging.getLogger("asyncio").addFilter(_is_not_too_often)
    for one in root.handlers:
        if isinstance(one.formatter, _Formatter):
            one.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(root.level, logging.INFO))
    ACCESS.setLevel(logging.INFO if access else logging.CRITICAL)


class _Formatter(logging.Formatter):
    """Times have the offset of the machine, so that logs of several can be laid together."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """In ISO 8601, to the millisecond."""
        return datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Its traceback, of bounded length: what it quotes may be anybody's."""
        return traceback_of(ei[1]).removeprefix("\n")


class TextFormatter(_Formatter):
    """A line for people; what else there is to a message stands below, indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line: no message, whoever wrote it, can begin one that looks like ours."""
        record.exc_text = None  # another handler may have kept it, as it likes it
        return _UNINDENTED.sub("\n    ", super().format(record).translate(_CONTROLS))


class JsonFormatter(_Formatter):
    """An object a line for programs, with what else a message was given as members."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told: dict[str, Any] = {
            "time": self.formatTime(record).replace(" ", "T"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1]:
            told["exception"] = self.formatException(record.exc_info)
        taken = _USUAL | told.keys()
        given = {name: value for name, value in vars(record).items() if name not in taken}
        return msgspec.json.encode(_plain(told | given)).decode()


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    """Anybody's values: what is no JSON is shown as text."""
    return {
        _text(name): value if _is_plain(value) else _text(value) for name, value in told.items()
    }


def _is_plain(value: object) -> bool:
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return value is None or type(value) in (bool, float)


def _text(value: object) -> str:
    return str(value).encode(errors="backslashreplace").decode()


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
        metrics.log_messages.update(dict.fromkeys(_LEVELS, 0))

    def emit(self, record: logging.LogRecord) -> None:
        """Count it."""
        self._metrics.log_messages[record.levelname.lower()] += 1
