"""What can end a run early, beside the errors of the client.

LoadgenError
├── GaveUp      every try failed, for too long
└── NeverReady  nothing was sent: the service was not ready in time
"""


class LoadgenError(Exception):
    """Base of all; its message is for the user."""


class GaveUp(LoadgenError):
    """Every try failed, for too long."""


class NeverReady(LoadgenError):
    """Nothing was sent: the service was not ready in time."""
