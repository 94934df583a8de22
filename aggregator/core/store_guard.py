"""Whatever the calls of a store raise is one of our errors: mostly a StoreError.

A driver's errors often share no base, and context managers raise others again on a connection that
is gone. What nobody foresaw would end the worker, or be blamed on a stage.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from types import TracebackType
from typing import Any, TypeVar

from aggregator.errors import AggregatorError, StoreError

R = TypeVar("R")

_NO_CALLS = frozenset({"about"})  # answers at once, from what it knows
_WITH_DEFAULT = frozenset({"changed"})  # calls that a store may leave as they are


def guard(kind: type) -> None:
    """Guard what the class itself defines of the calls that its bases, the contract, ask for."""
    for name in _asked_for(kind) & vars(kind).keys():
        call = vars(kind)[name]
        if not _is_abstract(call):
            setattr(kind, name, _guarded(call))


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


def _guarded(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            returned = call(*args, **kwargs)
        except AggregatorError:
            raise
        except Exception as error:
            raise _store_error(error) from error
        if isinstance(returned, AbstractAsyncContextManager):
            return _GuardedContext(returned)
        if isinstance(returned, asyncio.Future) and _has_succeeded(returned):
            return returned  # known at once: a batch that need not wait for the store does not
        return _awaited(returned)

    return guarded


def _has_succeeded(call: "asyncio.Future[Any]") -> bool:
    return call.done() and not call.cancelled() and call.exception() is None


async def _awaited(call: Awaitable[R]) -> R:
    try:
        return await call
    except AggregatorError:
        raise
    except Exception as error:
        raise _store_error(error) from error


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
        except AggregatorError:
            raise
        except Exception as raised:
            if raised is error:
                raise
            raise _store_error(raised) from raised


def _store_error(error: Exception) -> StoreError:
    return StoreError(f"{type(error).__name__}: {error}")
