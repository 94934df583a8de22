"""The store that others are held against keeps the contract: that of every store, no mixin's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from aggregator.testing import contract_of
from plain_store import PlainStore


class TestPlainStore(contract_of(PlainStore)):  # type: ignore[misc]
    @pytest.fixture
    def new_store(self, tmp_path: Path) -> Callable[[], PlainStore]:
        return lambda: PlainStore(f"plain:{tmp_path}/plain.db")
