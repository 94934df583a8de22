"""Contract suites for authors of plugins: derive a class, say how to make yours, run pytest.

    class TestMyStore(contract_of(MyStore)):
        @pytest.fixture
        def new_store(self, tmp_path):
            return lambda: MyStore(f"my://{tmp_path}/store")

    class TestMyStage(StageContract):
        @pytest.fixture
        def stage(self):
            return MyStage()

Needs pytest and pytest-asyncio in auto mode (`asyncio_mode = auto`).
"""

from aggregator.testing.making import make_entry, make_event, make_submission
from aggregator.testing.queues import QueueContract
from aggregator.testing.stages import StageContract
from aggregator.testing.stores import StoreContract, contract_of

__all__ = [
    "QueueContract",
    "StageContract",
    "StoreContract",
    "contract_of",
    "make_entry",
    "make_event",
    "make_submission",
]
