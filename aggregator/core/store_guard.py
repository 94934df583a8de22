"""Whatever the calls of a store raise is a StoreError, but for what its contract names.

A driver's errors often share no base, and context managers raise others again on a connection that
is gone. What nobody foresaw would end the worker, or be blamed on a stage.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar

from aggregator.errors import KeyHeld, SettingError, StoreError, StoreFault

log = logging.getLogger(__name__)

R = TypeVar("R")

Errors = tuple[type[Exception], ...]

_NO_CALLS = frozenset({"about", "measure"})  # answer at once, from what they know
_WITH_DEFAULT = frozenset(
    {"changed", "contents", "accept_missing_log"}
)  # that may stay as they are
_ALLOWED: dict[str, Errors] = {
    "append": (KeyHeld,),
    **dict.fromkeys(
        (
            *("key_spec", "open", "open_read_only", "reopen", "index", "backup", "check"),
            "accept_missing_log",
        ),
        (SettingError,),
    ),
}
"""What a call may raise beside StoreError."""


def guard(kind: type) -> None:
    """Guard the calls of the contract that the class has, wherever it has them from."""
    for name in _asked_for(kind):
        call = next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)
        if call and not (_is_abstract(call) or getattr(call, "guards", None) is call):
            setattr(kind, name, _guarded(call, (StoreError, *_ALLOWED.get(name, ()))))


def _asked_for(kind: type) -> set[str]:
    names = {
        name
        for base in kind.__mro__[1:]
        for name, member in vars(base).items()
        if _is_abstract(member)
    }
    return (names | _WITH_DEFAULT) - _NO_CALLS


def _is_abstract(member: object) -> bool:
    return bool(getattr(member, "__isabstractmethod__", False))


def _guarded(call: Callable[..., Any], allowed: Errors) -> Callable[..., Any]:
    @wraps(call)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            returned = call(*args, **kwargs)
        except allowed:
            raise
        except Exception as error:
            raise _fault(error) from error
        if isinstance(returned, AbstractAsyncContextManager):
            return _GuardedContext(returned)
        if isinstance(returned, asyncio.Future) and _has_succeeded(returned):
            return returned  # done already: awaiting it need not yield to the event loop
        return _awaited(returned, allowed)

    guarded.guards = guarded  # type: ignore[attr-defined]  # a decorator would copy a plain mark
    return guarded


def _has_succeeded(call: "asyncio.Future[Any]") -> bool:
    return call.done() and not call.cancelled() and call.exception() is None


async def _awaited(call: Awaitable[R], allowed: Errors = (StoreError,)) -> R:
    try:
        return await call
    except allowed:
        raise
    except (Exception, asyncio.CancelledError) as error:
        if _is_cancelled(error):
            raise
        raise _fault(error) from error


class _GuardedContext(AbstractAsyncContextManager[Any]):
    """A transaction or a savepoint; what its block raises is passed on as it is."""

    def __init__(self, context: AbstractAsyncContextManager[Any]) -> None:
        self._context = context

    async def __aenter__(self) -> Any:
        return await _awaited(self._context.__aenter__())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            return await self._context.__aexit__(kind, error, traceback)
        except StoreError:
            raise
        except (Exception, asyncio.CancelledError) as raised:
            if raised is error or _is_cancelled(raised):
                raise
            raise _fault(raised) from raised


def _is_cancelled(error: BaseException) -> bool:
    """Whether the caller was cancelled, and not something that the store waits for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and bool(task and task.cancelling())


def _fault(error: BaseException) -> StoreFault:
    """What it says may be of nobody's business outside: that is for the log."""
    name = type(error).__name__
    log.error("the store raised %s: %s", name, error, exc_info=error)
    return StoreFault(f"the store raised {name}; the log of the service says more")
