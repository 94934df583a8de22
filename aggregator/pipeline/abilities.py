"""A store's transaction, as one that can do what its store says it can."""

from aggregator.errors import StoreFault
from aggregator.store import HistoryTransaction, QuarantineTransaction, StoreTransaction


def as_history(tx: StoreTransaction) -> HistoryTransaction:
    """The transaction of a store that keeps a history. Raises StoreFault where it cannot."""
    if not isinstance(tx, HistoryTransaction):
        raise _fault(tx, HistoryTransaction)
    return tx


def as_quarantine(tx: StoreTransaction) -> QuarantineTransaction:
    """The transaction of a store that keeps a quarantine. Raises StoreFault where it cannot."""
    if not isinstance(tx, QuarantineTransaction):
        raise _fault(tx, QuarantineTransaction)
    return tx


def _fault(tx: StoreTransaction, kind: type) -> StoreFault:
    return StoreFault(f"{type(tx).__name__} should be a {kind.__name__}, as its store says")
