"""No number beyond a double is passed at a glance, wherever it stands; a hash is no number."""

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aggregator.api.request import strict_json

_numbers = st.from_regex(
    r"\A-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,4})?\Z"
) | st.sampled_from(["1e400", "-1.5E+999", "1" * 199, "1" * 309, "0.0e-999", "0e0309"])
_strings = st.text('0123456789eE+-.,:[] {}"\\', max_size=12).map(msgspec.json.encode)
_scalars = _numbers.map(str.encode) | _strings | st.sampled_from([b"true", b"null"])
_blanks = st.sampled_from([b"", b" ", b"\t", b"\r\n"])


def _array(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    parts = st.lists(st.tuples(_blanks, inner, _blanks).map(b"".join), min_size=1, max_size=3)
    return parts.map(lambda found: b"[%b]" % b",".join(found))


def _object(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    parts = st.tuples(_blanks, inner)
    return parts.map(lambda found: b'{"a":%b%b,"e400":1}' % found)


_values = st.recursive(_scalars, lambda inner: _array(inner) | _object(inner), max_leaves=6)


def _is_surely_taken(values: list[bytes]) -> bool:
    text = b"[%b]" % b",".join(values)
    return strict_json.is_surely_taken(text, values, 0)


@settings(deadline=None, max_examples=1000)
@given(st.lists(_values, min_size=1, max_size=4))
@example([b"1e400"])
@example([b'"a"', b"1e400"])
@example([b'"1e400"', b"[1e400]"])
@example([b'"12e4567 1e4000e400"', b"0.1e999"])
@example([b'"%b"' % (b"1e400" * 1001), b'{"a":-1.0E+400}'])
def test_what_is_passed_has_no_fault(values: list[bytes]) -> None:
    faults = [fault for value in values for fault in strict_json.faults(value)]
    assert not (faults and _is_surely_taken(values))


def test_ids_in_hexadecimal_are_not_looked_at_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_json, "_HAS_NO_LARGE", None)
    ids = [b"12e45678-1e40-4e99-9e123-00123e4567ab", b"1e400", b"00-00e1234e1234567-01"]
    assert _is_surely_taken([b'{"a":"%b","b":["%b"],"c":-1.5e-12}' % (one, one) for one in ids])


def test_text_that_looks_like_a_number_is_looked_at_closely_and_passed() -> None:
    assert _is_surely_taken([b'"it costs 1e400"', b'["1,1e400"]', b'"%b"' % (b"a1e400" * 2000)])
