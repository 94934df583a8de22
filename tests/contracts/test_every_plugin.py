"""The contract suites, over every plugin that is installed: registering one tests it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from aggregator.plugins import QUEUES, STAGES, STORES, Plugins
from aggregator.queue import Queue
from aggregator.stage import Stage
from aggregator.store import Store
from aggregator.testing import QueueContract, StageContract, contract_of

PLUGINS = Plugins.installed()
STORE_URLS = {"memory": "memory:", "sqlite": "sqlite:///{folder}/aggregator.db"}
QUEUE_URLS = {"memory": "memory:"}


def ours(group: str) -> list[str]:
    """The names of our own plugins: how to make a stranger's is not known here."""
    return [
        plugin.name
        for plugin in PLUGINS.found
        if plugin.group == group and plugin.package.startswith("event-aggregator ")
    ]


def suite(scheme: str) -> type:
    """The contract suite for the store of that scheme."""
    kind = PLUGINS.find(STORES, scheme).load(Store)  # type: ignore[type-abstract]

    class Suite(contract_of(kind)):  # type: ignore[misc]
        is_durable = scheme != "memory"

        @pytest.fixture
        def new_store(self, tmp_path: Path) -> Callable[[], Store]:
            url = STORE_URLS[scheme].format(folder=tmp_path)
            return lambda: kind(url)

    return Suite


TestMemoryStore, TestSqliteStore = suite("memory"), suite("sqlite")


@pytest.mark.parametrize(("group", "urls"), [(STORES, STORE_URLS), (QUEUES, QUEUE_URLS)])
def test_every_store_and_queue_of_ours_has_a_suite_here(group: str, urls: dict[str, str]) -> None:
    assert sorted(urls) == ours(group)


@pytest.mark.parametrize("scheme", QUEUE_URLS)
class TestQueue(QueueContract):
    @pytest.fixture
    def new_queue(self, scheme: str) -> Callable[[int], Queue]:
        kind = PLUGINS.find(QUEUES, scheme).load(Queue)  # type: ignore[type-abstract]
        return lambda max_events: kind(QUEUE_URLS[scheme], max_events)


@pytest.mark.parametrize("name", ours(STAGES))
class TestStage(StageContract):
    @pytest.fixture
    def stage(self, name: str) -> Stage:
        return PLUGINS.find(STAGES, name).load(Stage)()
