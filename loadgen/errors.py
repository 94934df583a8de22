"""What can end a run early.

LoadgenError
├── UnavailableError  one try failed; the next may not
├── GaveUpError       every try failed, for too long
├── ContractError     an answer that the contract does not know
└── NeverReadyError   nothing was sent: the service was not ready in time
"""


class LoadgenError(Exception):
    """Base of all; its message is for the user."""


class UnavailableError(LoadgenError):
    """One try failed. ``reason`` is short enough to count by."""

    def __init__(self, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class GaveUpError(LoadgenError):
    pass


class ContractError(LoadgenError):
    pass


class NeverReadyError(LoadgenError):
    pass
