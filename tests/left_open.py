"""A pytest plugin: a store that a failing test leaves open fails no other one, nor keeps pytest."""

import aiosqlite
import pytest

_opened: list[aiosqlite.Connection] = []
_left: list[aiosqlite.Connection] = []
_connect = aiosqlite.connect


def pytest_configure() -> None:
    """Watch connections from now on. The thread of one that nobody closes is not waited for."""
    aiosqlite.connect = _watched  # type: ignore[assignment]


def _watched(*arguments: object, **settings: object) -> aiosqlite.Connection:
    made = _connect(*arguments, **settings)  # type: ignore[arg-type]
    made._thread.daemon = True
    _opened.append(made)
    return made


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep those of a test that failed: to be let go unclosed would be a warning in another one.

    In a test that passed it is a warning, which makes the next one fail: a store is left open.
    """
    if report.failed:
        _left.extend(one for one in _opened if one._connection is not None)
    if report.failed or report.when == "teardown":
        _opened.clear()
