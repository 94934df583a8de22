"""The wall clock as one process sees it, which tests put forward and back while it runs."""

from pathlib import Path

import pytest

DAY = 86_400  # seconds
YEAR = 365 * DAY
_LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"


class WallClock:
    """libfaketime in front of the C library; only CLOCK_REALTIME moves, as when somebody sets it.

    https://github.com/wolfcw/libfaketime
    """

    def __init__(self, folder: Path) -> None:
        """Skips the test where libfaketime is not installed."""
        self._offset = folder / "offset"
        found = sorted(Path("/").glob(_LIBRARIES.removeprefix("/")))
        if not found:
            pytest.skip("libfaketime is not installed (Debian package faketime)")
        self.environ = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",  # the name of old releases; that of new ones:
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # With this workaround, threads wake each other up to half a second late.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
            "NO_FAKE_STAT": "1",
        }
        self.set(0)

    def set(self, seconds: int) -> None:
        """From now on it is so much ahead of this machine's clock, or behind."""
        unseen = self._offset.with_suffix(".new")
        unseen.write_text(f"{seconds:+d}\n")
        unseen.replace(self._offset)
