"""Tokens by themselves, the file that keeps them, and when it is read again."""

import asyncio
import json
import logging
import os
import stat
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from msgspec.structs import replace

from aggregator.core.tokens import Scope, Secret, Token, TokenIndex, Tokens, new_secret, rotated
from aggregator.errors import InvalidToken, SettingError
from aggregator.token_file import TokenFile, edit, read
from conftest import Start

NOW = datetime(2026, 1, 31, tzinfo=UTC)
HOUR = timedelta(hours=1)


def made(name: str = "a", **members: object) -> tuple[Token, str]:
    secret, text = new_secret()
    return Token(name, [Scope.PUBLISH], [secret], **members), text  # type: ignore[arg-type]


def test_token_is_found_by_its_text_alone() -> None:
    (first, text), (second, other) = made("a"), made("b")
    index = TokenIndex([first, second])
    assert index.find(text) == (first, None)
    assert index.find(other) == (second, None)
    assert text not in Tokens([first, second]).encode().decode()
    assert text.split("_")[2] not in Tokens([first, second]).encode().decode()


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        (lambda text: "", "no token"),
        (lambda text: text[:-1], "no token"),
        (lambda text: f"{text}x", "no token"),
        (lambda text: text.replace("agg_", "AGG_"), "no token"),
        (lambda text: f"{text}\n", "no token"),
        (lambda text: text[:20] + ("a" if text[20] != "a" else "b") + text[21:], "typo"),
        (lambda text: new_secret()[1], "not known"),
    ],
)
def test_what_is_no_token_of_the_file_is_told_apart(spoilt: object, words: str) -> None:
    token, text = made()
    with pytest.raises(InvalidToken, match=words):
        TokenIndex([token]).find(spoilt(text))  # type: ignore[operator]


def test_right_id_with_another_secret_lets_nobody_in() -> None:
    token, _ = made()
    secret, text = new_secret()
    stolen = replace(token, secrets=[replace(token.secrets[0], id=secret.id)])
    with pytest.raises(InvalidToken, match="not known"):
        TokenIndex([stolen]).find(text)


@pytest.mark.parametrize("whose", ["token", "secret"])
def test_token_ends_when_it_says(whose: str) -> None:
    token, text = made()
    if whose == "token":
        token = replace(token, expires=NOW)
    else:
        token = replace(token, secrets=[replace(token.secrets[0], expires=NOW)])
    index = TokenIndex([token])
    assert index.find(text, NOW - HOUR) == (token, NOW)
    with pytest.raises(InvalidToken, match=r"expired, at 2026-01-31T00:00:00\+00:00"):
        index.find(text, NOW)


def test_rotated_token_has_two_secrets_for_a_while_and_never_more_than_are_needed() -> None:
    token, old = made()
    secret, new = new_secret()
    soon = datetime.now(UTC) + HOUR
    both = rotated(token, secret, soon)
    index = TokenIndex([both])
    assert index.find(old) == (both, soon)
    assert index.find(new) == (both, None)
    with pytest.raises(InvalidToken):
        index.find(old, soon)
    third, _ = new_secret()
    at_once = rotated(both, third, datetime.now(UTC))
    assert at_once.secrets == [third]


@pytest.mark.parametrize(
    ("patterns", "topic", "is_covered"),
    [
        (("*",), "orders.new", True),
        (("orders.*",), "orders.new", True),
        (("orders.*",), "orders.", True),
        (("orders.*",), "orders", False),
        (("orders.*",), "ordersx", False),
        (("orders",), "orders", True),
        (("orders",), "orders.new", False),
        (("a", "b*"), "bc", True),
        (("Orders",), "orders", False),
    ],
)
def test_pattern_is_a_name_or_a_prefix(
    patterns: tuple[str, ...], topic: str, is_covered: bool
) -> None:
    token, _ = made(topics=patterns)
    assert token.covers(topic) is is_covered


def whole(**members: object) -> bytes:
    token, _ = made()
    secret = {"id": token.secrets[0].id, "sha256": token.secrets[0].sha256}
    one = {"name": "a", "scopes": ["read"], "secrets": [secret], **members}
    return json.dumps({"tokens": [one], "version": 1}).encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (whole(scopes=["reed"]), r"'reed' - at `\$.tokens\[0\].scopes\[0\]`"),
        (whole(scopes=[]), "length"),
        (whole(secrets=[]), "length"),
        (whole(topics=[]), "length"),
        (whole(topics=["a*b"]), "pattern of topics"),
        (whole(topics=[""]), "pattern of topics"),
        (whole(name="a b"), "name"),
        (whole(name="a\n"), "name"),
        (whole(expires="2026-01-31T00:00:00"), "timezone"),
        (whole(scope="read"), "unknown field `scope`"),
        (whole().replace(b'"version": 1', b'"version": 2'), "version"),
    ],
)
def test_bad_file_says_what_is_wrong_where(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_bytes(content)
    with pytest.raises(SettingError, match=words):
        read(path)


def test_nothing_may_stand_in_a_file_twice(tmp_path: Path) -> None:
    token, _ = made()
    for twice, words in (
        ([token, token], "name a"),
        ([token, replace(token, name="b")], "id of a secret"),
    ):
        with pytest.raises(ValueError, match=words):
            Tokens.decode(Tokens(twice).encode())


def test_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="aggregator token new NAME"):
        TokenFile(tmp_path / "tokens.json")


def test_file_is_for_its_owner_alone_and_stays_as_the_operator_has_set_it(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    edit(path, lambda tokens: tokens.with_token(made()[0]))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    edit(path, lambda tokens: tokens.with_token(made("b")[0]))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [token.name for token in read(path).tokens] == ["a", "b"]
    assert [one.name for one in tmp_path.iterdir()] == ["tokens.json"]


def test_failed_change_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    edit(path, lambda tokens: tokens.with_token(made()[0]))
    before = path.read_bytes()

    def fail(_: Tokens) -> Tokens:
        raise SettingError("no")

    with pytest.raises(SettingError):
        edit(path, fail)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["tokens.json"]


def test_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "tokens.json", tmp_path / "link.json"
    edit(path, lambda tokens: tokens)
    link.symlink_to(path)
    edit(link, lambda tokens: tokens.with_token(made()[0]))
    assert link.is_symlink()
    assert len(read(path).tokens) == 1


def test_changed_file_is_read_again_and_a_bad_one_keeps_the_old_tokens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens.json"
    (first, text), (second, other) = made("a"), made("b")
    edit(path, lambda tokens: tokens.with_token(first))
    file = TokenFile(path)
    index = file.index
    file.refresh()
    assert file.index is index, "nothing has changed"
    edit(path, lambda tokens: tokens.without("a").with_token(second))
    file.refresh()
    assert file.index.find(other)[0] == second
    with pytest.raises(InvalidToken):
        file.index.find(text)
    assert "tokens new: b; tokens gone: a" in caplog.text
    for spoil in (lambda: path.write_text("{"), path.unlink):
        caplog.clear()
        spoil()
        file.refresh()
        file.refresh()
        assert file.index.find(other)[0] == second
        assert len(errors := _errors(caplog)) == 1, "it is said once"
        assert errors[0].startswith("the tokens in force stay: ")
    edit(path, lambda tokens: tokens.with_token(replace(first, topics=("x",))))
    file.refresh()
    assert file.index.find(text)[0].topics == ("x",)


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]


def test_no_change_of_the_file_goes_unseen(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    edit(path, lambda tokens: tokens.with_token(made("a")[0]))
    file = TokenFile(path)
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"b"'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copy that keeps times
    file.refresh()
    assert file.tokens.named("b")


def test_file_that_could_not_be_read_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokens.json"
    edit(path, lambda tokens: tokens.with_token(made("a")[0]))
    file = TokenFile(path)
    edit(path, lambda tokens: tokens.without("a"))

    def fail(_: Path) -> None:
        raise SettingError("tokens: cannot read it: Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("aggregator.token_file.read", fail)
        file.refresh()
        file.refresh()
        assert len(_errors(caplog)) == 1, "it is said once"
        file.read_again()
        file.refresh()
        assert len(_errors(caplog)) == 2, "and to whoever asks, again"
    file.refresh()
    assert not file.tokens.tokens


async def test_fault_does_not_end_the_looking(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokens.json"
    edit(path, lambda tokens: tokens.with_token(made("a")[0]))
    monkeypatch.setattr("aggregator.app._LOOKED_AT", 0.01)
    seen: list[int] = []

    def fail(_: TokenFile) -> None:
        seen.append(1)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(TokenFile, "refresh", fail)
    await start(tokens=str(path))
    while len(seen) < 3:
        await asyncio.sleep(0.01)
    assert len(_errors(caplog)) == 1


def test_pipe_in_place_of_the_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    os.mkfifo(path)
    with pytest.raises(SettingError, match="no ordinary file"):
        read(path)


def test_many_tokens_are_read_soon() -> None:
    """In a time that grows with their number, not with its square, which would be minutes."""
    some = [replace(made()[0], name=f"t{number}") for number in range(20_000)]
    assert len(Tokens.decode(Tokens(some).encode()).tokens) == 20_000


def test_end_is_told_with_its_offset() -> None:
    there = datetime(2026, 1, 31, tzinfo=timezone(5 * HOUR))
    token, text = made(expires=there)
    with pytest.raises(InvalidToken, match=r"2026-01-31T00:00:00\+05:00"):
        TokenIndex([token]).find(text, NOW)


def test_secret_is_no_part_of_what_is_kept() -> None:
    kept, text = new_secret()
    assert isinstance(kept, Secret)
    assert text.split("_")[2] not in repr(kept)
