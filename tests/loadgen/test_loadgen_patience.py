import pytest

from aggregator.client import Unavailable, UnexpectedAnswer
from aggregator.client.client import retry_after_seconds
from loadgen.publisher import LONGEST_PAUSE, SHORTEST_PAUSE, Patience


def unavailable(retry_after: float | None = None) -> Unavailable:
    return Unavailable("full", "503", status=503, retry_after=retry_after)


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        ("3", 3.0),
        ("0", SHORTEST_PAUSE),
        ("86400", LONGEST_PAUSE),
        (None, True),
        ("Fri, 31 Dec 2026 23:59:59 GMT", True),
        ("-1", True),
    ],
)
def test_retry_after_is_respected_within_bounds(header: str | None, pause: float | bool):
    assert Patience()(unavailable(retry_after_seconds(header))) == pause


def test_full_service_is_forgiven_any_number_of_times():
    patience = Patience()

    assert all(patience(unavailable()) for _ in range(100))


def test_broken_contract_is_never_forgiven():
    assert Patience()(UnexpectedAnswer("404")) is False
