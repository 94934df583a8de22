"""How long requests took; every time is kept, so the percentiles are exact."""

import math

PERCENTILES = (50.0, 90.0, 99.0, 99.9)


class Latency:
    """The times of all requests of a run."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def record(self, seconds: float) -> None:
        """Add the time of one request."""
        self._seconds.append(seconds)

    def milliseconds(self) -> dict[str, float]:
        """``{"p50": 1.2, …, "max": 9.8}``, by nearest rank; empty when nothing was recorded."""
        if not self._seconds:
            return {}
        ordered = sorted(self._seconds)
        found = {f"p{percentile:g}": _at(ordered, percentile) for percentile in PERCENTILES}
        return found | {"max": ordered[-1] * 1000}


def _at(ordered: list[float], percentile: float) -> float:
    return ordered[math.ceil(len(ordered) * percentile / 100) - 1] * 1000
