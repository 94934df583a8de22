"""Names that no process ever gives twice, nor two of them."""

import itertools
import os

_PROCESS = os.urandom(10).hex()
_numbers = itertools.count()


def name() -> str:
    """One of 32 hexadecimal digits: those of this process, and how many it gave before."""
    return f"{_PROCESS}{next(_numbers):012x}"
