"""What can keep a contestant from being measured.

BenchError
├── UnavailableError  it cannot be had on this machine; said beforehand
└── RoundError        a round went wrong, and says nothing about speed
"""

from http.client import HTTPException
from subprocess import SubprocessError


class BenchError(Exception):
    """Base of all; its message is for the reader of the results."""


class UnavailableError(BenchError):
    pass


class RoundError(BenchError):
    pass


TROUBLE = (BenchError, OSError, ValueError, LookupError, HTTPException, SubprocessError)
"""How a turn can end where whoever is measured misbehaves; the others go on."""
