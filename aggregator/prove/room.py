"""Whether the disk is full: what the service does then is no breach of a promise."""

import os
import tempfile
from pathlib import Path

from aggregator.errors import SettingError

_NEEDED = 1_048_576  # bytes


def check(folder: Path) -> None:
    """Raise SettingError if nothing can be written there any more."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_NEEDED))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SettingError(
            f"nothing is proved, the disk is full or fails: {error.strerror}, in {folder.parent}"
        ) from error
