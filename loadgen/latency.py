"""How long requests took, kept in a histogram of three significant digits."""

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

LONGEST = 3_600_000_000  # an hour, in microseconds
PERCENTILES = (50.0, 90.0, 99.0, 99.9)


class Latency:
    def __init__(self) -> None:
        self._microseconds = HdrHistogram(1, LONGEST, 3)

    def record(self, seconds: float) -> None:
        self._microseconds.record_value(min(max(int(seconds * 1e6), 1), LONGEST))

    def milliseconds(self) -> dict[str, float]:
        """``{"p50": 1.2, …, "max": 9.8}``; empty when nothing was recorded."""
        if not self._microseconds.get_total_count():
            return {}
        found = {
            f"p{percentile:g}": self._microseconds.get_value_at_percentile(percentile) / 1000
            for percentile in PERCENTILES
        }
        return found | {"max": self._microseconds.get_max_value() / 1000}
