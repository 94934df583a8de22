"""Whatever the calls of a store raise is a StoreError, but for what the contract names."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

import pytest

from aggregator.errors import KeyHeld, NotFound, SettingError, StoreError, StoreFault, TryAgain
from aggregator.event import Event
from aggregator.store import Content, KeyOwner
from aggregator_memory.store import Committed, MemoryStore, MemoryTransaction
from foreign import InterfaceError


class Raising(MemoryTransaction):
    """Raises in every call what it was given."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(Committed())
        self._error = error

    def claim(self, keys: Sequence[bytes]) -> Awaitable[list[KeyOwner | None]]:
        failed: asyncio.Future[list[KeyOwner | None]] = asyncio.get_running_loop().create_future()
        failed.set_exception(self._error)
        return failed

    async def contents(self, seqs: Sequence[int]) -> list[Content]:
        raise self._error

    def append(self, events: Sequence[Event]) -> Awaitable[list[int]]:
        raise self._error

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            raise self._error


class RaisingStore(MemoryStore):
    def __init__(self, error: BaseException) -> None:
        super().__init__("memory:")
        self._error = error

    async def open(self, key_spec: str, replaces: str | None = None) -> None:
        raise self._error

    async def changed(self, after: int) -> int:
        raise self._error


class Mixin:
    async def claim(self, keys: Sequence[bytes]) -> list[KeyOwner | None]:
        raise InterfaceError("of a mixin")


class Mixed(Mixin, MemoryTransaction):  # type: ignore[misc]
    pass


FOREIGN = [InterfaceError("secret"), SettingError("secret"), NotFound("secret")]


@pytest.mark.parametrize("error", FOREIGN, ids=repr)
@pytest.mark.parametrize("call", ["claim", "contents", "append"])
async def test_what_no_contract_knows_is_a_fault_of_the_store_and_told_to_the_log_alone(
    error: Exception, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StoreFault, match=type(error).__name__) as raised:
        await getattr(Raising(error), call)([])
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is error
    assert caplog.text.count("Traceback") == 1


@pytest.mark.parametrize("error", [StoreError("disk full"), TryAgain("deadlock")], ids=repr)
@pytest.mark.parametrize("call", ["claim", "contents", "append"])
async def test_what_the_contract_names_is_passed_on(error: Exception, call: str) -> None:
    with pytest.raises(type(error)) as raised:
        await getattr(Raising(error), call)([])
    assert raised.value is error


async def test_some_errors_are_of_some_calls_only() -> None:
    held, setting = KeyHeld("held"), SettingError("locked")
    with pytest.raises(KeyHeld):
        await Raising(held).append([])
    with pytest.raises(StoreFault):
        await Raising(held).claim([])
    with pytest.raises(SettingError):
        await RaisingStore(setting).open("")
    with pytest.raises(StoreFault):
        await RaisingStore(setting).changed(0)


async def test_what_the_block_raises_is_passed_on_and_what_its_end_raises_is_not() -> None:
    async with MemoryStore("memory:").transaction() as tx:
        with pytest.raises(NotFound):
            async with tx.savepoint():
                raise NotFound
    with pytest.raises(StoreFault):
        async with Raising(KeyHeld("too late")).savepoint():
            pass


@pytest.mark.parametrize("call", ["claim", "contents"])
async def test_call_that_was_cancelled_within_the_store_is_a_fault_of_the_store(call: str) -> None:
    with pytest.raises(StoreFault):
        await getattr(Raising(asyncio.CancelledError()), call)([])


async def test_caller_who_was_cancelled_is_cancelled() -> None:
    class Waits(MemoryTransaction):
        async def contents(self, seqs: Sequence[int]) -> list[Content]:
            await asyncio.Event().wait()
            return []

    task: asyncio.Task[Any] = asyncio.create_task(Waits(Committed()).contents([]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def _logged(call: Any) -> Any:
    @wraps(call)
    def logged(self: Any, keys: Sequence[bytes]) -> Any:
        raise InterfaceError("of a decorator")

    return logged


class Decorated(MemoryTransaction):
    claim = _logged(MemoryTransaction.claim)


async def test_call_that_is_decorated_is_guarded_too() -> None:
    with pytest.raises(StoreFault, match="InterfaceError"):
        await Decorated(Committed()).claim([])


async def test_call_of_a_mixin_is_guarded_too() -> None:
    with pytest.raises(StoreFault, match="InterfaceError"):
        await Mixed(Committed()).claim([])
