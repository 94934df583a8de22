"""What can go wrong, as a tree; `api/middleware.py` turns each into its HTTP status.

AggregatorError
├── SettingError          a setting or plugin that cannot be used: stops the start
│   └── KeySpecDiffers    the keys in the store are made of something else
├── RequestError          the request as a whole is refused
│   ├── Unparsable        400
│   ├── Unauthorized      401
│   │   └── InvalidToken
│   ├── Forbidden         403
│   │   └── InsufficientScope
│   ├── NotFound          404
│   ├── NotAcceptable     406
│   ├── TooSlow           408
│   ├── Gone              410
│   ├── TooLarge          413
│   ├── RateExceeded      429
│   └── Unsupported       415
│       └── UnsupportedCoding
├── Unavailable           503: try again later
│   ├── QueueFull         nothing of the submission was taken
│   └── StoreError        the store failed; the fate of what was under way is unknown
│       ├── StoreFault    the store raised what its contract does not know
│       └── TryAgain      the transaction was rolled back; the same one may succeed now
└── StageFault            500: a stage broke its contract
    └── KeyHeld           an event was appended under a key that another event holds

A duplicate or an invalid event is no error: see `outcome.py`.
"""


class AggregatorError(Exception):
    """The base of all of them. The message tells its reader what to do."""


class SettingError(AggregatorError):
    """A setting, a plugin or a store that the service cannot start with."""


class KeySpecDiffers(SettingError):
    """The keys in the store are made of something else than the settings say."""

    def __init__(self, kept: str, wanted: str) -> None:
        super().__init__(
            f"key: the keys in the store are made of {kept!r}, not of {wanted!r}: every stored "
            "event would be new again. `aggregator change-key` says what that means, and does it"
        )
        self.kept = kept


class RequestError(AggregatorError):
    """The request as a whole is refused; nothing of it was stored or counted."""


class Unparsable(RequestError):
    """The body or a query argument cannot be read as what it claims to be."""


class Unauthorized(RequestError):
    """The request has no token, and needs one."""


class InvalidToken(Unauthorized):
    """The request's token lets nobody in: it is none, is not known, or has expired."""


class Forbidden(RequestError):
    """A page of an origin that is not listed would change something."""


class InsufficientScope(Forbidden):
    """The request's token is not for this call, topic or source."""


class NotFound(RequestError):
    """Nothing is stored there."""


class NotAcceptable(RequestError):
    """There is nothing in a form that the request accepts."""


class Gone(RequestError):
    """It was there, and is kept no more."""


class TooSlow(RequestError):
    """The body did not arrive in time."""


class TooLarge(RequestError):
    """The request goes over a limit; the message names the limit's setting."""


class RateExceeded(RequestError):
    """The client publishes more than its rate allows; nothing of the request was taken."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which the same request will be taken, if nothing else comes."""


class Unsupported(RequestError):
    """The body's media type or charset is not one the service reads."""


class UnsupportedCoding(Unsupported):
    """The body is compressed in a way that the service does not read."""


class Unavailable(AggregatorError):
    """The service cannot take this now; the same request may be sent again."""


class QueueFull(Unavailable):
    """The bound on what may be under way is reached; nothing of the submission was taken."""


class StoreError(Unavailable):
    """The store failed. What was under way may or may not be stored; a retry tells."""


class StoreFault(StoreError):
    """The store raised what its contract does not know: an error of its driver, or a mistake."""


class TryAgain(StoreError):
    """The store has rolled the transaction back, after a deadlock say: run it again."""


class StageFault(AggregatorError):
    """A stage raised, hung, or broke its contract; the message begins with its name."""


class KeyHeld(StageFault):
    """An event was appended under a key that is held: no stage had claimed it."""
