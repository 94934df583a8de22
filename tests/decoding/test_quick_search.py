"""The quick test of bytes never says no where the payload has the value."""

import json
import random

import pytest

from aggregator.core import json_values

NAMES = ["a", "b", "0", "1", "é", "a/b", 'q"', "\\", "\ud800", ""]
NUMBERS = ["0", "-0", "0.0", "10", "1e1", "1.0E+1", "100e-1", "-12.50", "-0.125e2", "7", "1e400"]
STRINGS = [*NAMES, "10", "true", "x" * 40, "\n", "\x7f", "😀"]


def _made_up(chance: random.Random, depth: int = 0) -> str:
    """JSON with strings escaped or not, numbers in many spellings, and names that come twice."""
    kind = chance.randrange(6 if depth < 3 else 4)
    if kind == 0:
        return chance.choice(NUMBERS)
    if kind == 1:
        return chance.choice(["true", "false", "null"])
    if kind in (2, 3):
        return _text(chance, chance.choice(STRINGS))
    parts = [_made_up(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind == 4:
        return "[" + ", ".join(parts) + "]"
    return "{" + ",".join(f"{_text(chance, chance.choice(NAMES))} :{part}" for part in parts) + "}"


def _text(chance: random.Random, text: str) -> str:
    if chance.random() < 0.1:
        return '"' + "".join(f"\\u{ord(one):04x}" for one in text if ord(one) < 2**16) + '"'
    return json.dumps(text, ensure_ascii=chance.random() < 0.3)


@pytest.mark.parametrize("seed", range(5))
def test_value_that_is_there_passes(seed: int) -> None:
    chance = random.Random(seed)
    passed = total = 0
    payloads = [_made_up(chance).encode(errors="surrogatepass") for _ in range(300)]
    around = b"".join(payloads)
    wanted = {json_values.scalar_of(text) for text in NUMBERS} | {b"b0", b"b1"}
    wanted |= {b"s" + text.encode(errors="surrogatepass") for text in STRINGS}
    pairs = (tuple(chance.choices(NAMES, k=2)) for _ in range(8))
    for tokens in [(), *((one,) for one in NAMES), *pairs]:
        found = [json_values.scalar(payload, tokens) for payload in payloads]
        for value in wanted:
            test = json_values.may_have(tokens, value)
            for payload, there in zip(payloads, found, strict=True):
                is_passed = test(payload)
                assert is_passed or there != value, (tokens, value, payload)
                passed, total = passed + is_passed, total + 1
            assert test(around) or value not in found
    assert passed < total / 2, "it is of use"


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ("abc", b'{"f":"ab"}'),
        ("abc", b'{"g":"abc"}'),
        ("abc", b'{"f":"abcd"}'),
        ("true", b'{"f":false}'),
        ("120", b'{"f":1.3e2}'),
    ],
)
def test_what_cannot_have_it_is_passed_over(text: str, payload: bytes) -> None:
    assert not json_values.may_have(("f",), json_values.scalar_of(text))(payload)
