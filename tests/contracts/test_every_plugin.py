"""The contract suites, over every plugin that is installed: registering one tests it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from aggregator.core.identity import DEFAULT_KEY_SPEC
from aggregator.plugins import QUEUES, STAGES, STORES, Plugins
from aggregator.queue import Queue
from aggregator.stage import Stage
from aggregator.store import Store
from aggregator.testing import QueueContract, StageContract, StoreContract
from aggregator_memory.store import MemoryStore

PLUGINS = Plugins.installed()
STORE_URLS = {"memory": "memory:", "sqlite": "sqlite:///{folder}/aggregator.db"}
QUEUE_URLS = {"memory": "memory:"}


def named(group: str) -> list[str]:
    return [plugin.name for plugin in PLUGINS.found if plugin.group == group]


@pytest.mark.parametrize("scheme", named(STORES))
class TestStore(StoreContract):
    @pytest.fixture
    def new_store(self, scheme: str, tmp_path: Path) -> Callable[[], Store]:
        self.is_durable = scheme != "memory"
        kind = PLUGINS.find(STORES, scheme).load(Store)  # type: ignore[type-abstract]
        url = STORE_URLS[scheme].format(folder=tmp_path)
        return lambda: kind(url)


@pytest.mark.parametrize("scheme", named(QUEUES))
class TestQueue(QueueContract):
    @pytest.fixture
    def new_queue(self, scheme: str) -> Callable[[int], Queue]:
        kind = PLUGINS.find(QUEUES, scheme).load(Queue)  # type: ignore[type-abstract]
        return lambda max_events: kind(QUEUE_URLS[scheme], max_events)


@pytest.mark.parametrize("name", named(STAGES))
class TestStage(StageContract):
    @pytest.fixture
    def stage(self, name: str) -> Stage:
        return PLUGINS.find(STAGES, name).load(Stage)()

    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        store = MemoryStore("memory:")
        await store.open(DEFAULT_KEY_SPEC)
        yield store
        await store.close()
