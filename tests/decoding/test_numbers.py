"""Numbers are compared exactly, whichever way they are spelled, in linear time."""

import sys

import pytest

from aggregator.core.json_values import JsonValue, canonical_number

FAR = "9" * 5_000
SAME = [
    ("1e-1999999999999999997", "10e-1999999999999999998"),
    ("1e1000000000000000000", "0.1e1000000000000000001"),
    ("1000e999999999999999996", "1e999999999999999999"),
    ("0e-1999999999999999999999", "0"),
    (f"1e{FAR}", "0.1e1" + "0" * 5_000),
    (f"-1e-{FAR}", "-10e-1" + "0" * 5_000),
    ("1e-0" + "0" * 5_000 + "7", "1e-7"),
    ("1e00000000000000000000", "1"),
]
OTHER = [
    ("1e-1999999999999999997", "1e-1999999999999999998"),
    (f"1e{FAR}", "1e1" + "0" * 5_000),
    (f"1e{FAR}", f"1e-{FAR}"),
    (f"1e{FAR}", f"-1e{FAR}"),
]


def _is_same(one: str, other: str) -> bool:
    first, second = (JsonValue(f'{{"a":[{number},true]}}'.encode()) for number in (one, other))
    assert first.is_same(second) == second.is_same(first) == (not first.differences(second, 1))
    return first.is_same(second)


@pytest.mark.parametrize(("one", "other"), SAME, ids=range(len(SAME)))
def test_two_spellings_of_one_number(one: str, other: str) -> None:
    assert _is_same(one, other)
    assert canonical_number(one) == canonical_number(other)


@pytest.mark.parametrize(("one", "other"), OTHER, ids=range(len(OTHER)))
def test_two_numbers(one: str, other: str) -> None:
    assert not _is_same(one, other)
    assert canonical_number(one) != canonical_number(other)


def _lines(payload: bytes, other: bytes) -> int:
    """How many lines of our code run to compare them."""
    count = 0

    def trace(frame: object, event: str, _: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        one = JsonValue(payload)
        one.is_same(JsonValue(other))
        one.differences(JsonValue(other), 20)
    finally:
        sys.settrace(before)
    return count


def _numbers(count: int, end: str) -> bytes:
    numbers = ",".join(["1e1999999999999999999", "0.1", "true"] * count)
    return f'{{"a":[{numbers},{end}]}}'.encode()


def test_twice_the_numbers_take_twice_the_steps() -> None:
    few, many = (_lines(_numbers(count, "1"), _numbers(count, "2")) for count in (500, 1_000))
    assert many < 2.5 * few
