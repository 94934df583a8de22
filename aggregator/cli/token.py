"""`aggregator token`: makes tokens, lists, rotates and revokes them, and asks what one is for."""

import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec

from aggregator.cli.asking import ask
from aggregator.cli.options import fail, load_or_fail, with_settings
from aggregator.core.timestamp import try_parse
from aggregator.core.tokens import Scope, Token, Tokens, new_secret, rotated
from aggregator.errors import AggregatorError, SettingError
from aggregator.token_file import edit, read

TOKEN = "AGGREGATOR_TOKEN"  # noqa: S105, the name of a variable
"""The variable of the environment that has the token of a client."""

_SPAN = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Span(click.ParamType[timedelta]):
    """A length of time: 90d, 24h, 30m or 10s."""

    name = "span"

    def convert(self, value: Any, *_: Any) -> timedelta:
        """Read it, or fail."""
        match = _SPAN.fullmatch(str(value))
        if not match:
            self.fail(f"{value!r} is no length of time: write 90d, 24h, 30m or 10s.")
        return timedelta(**{_UNITS[match[2]]: int(match[1])})


class Moment(click.ParamType[datetime]):
    """A time, or how long from now."""

    name = "moment"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        """Read it, or fail."""
        text = str(value)
        if _SPAN.fullmatch(text):
            return _now() + Span().convert(text, param, ctx)
        microseconds = try_parse(text)
        if microseconds is None:
            self.fail(f"{text!r} is no time: write 2027-01-31T12:00:00Z, or 90d for so long.")
        return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


@click.group(name="token")
def command() -> None:
    """Make tokens, list, rotate and revoke them.

    They stand in the file that the setting `tokens` names, as hashes. The service reads it again
    when it changes. With tokens in force, each call but that for its health asks for one.

    \b
    Example:
      aggregator token new web --scope publish --tokens tokens.json
      aggregator serve --tokens tokens.json

    \b
    Exit status, of each:
      0  it is done
      1  the service did not say what the token is for (whoami)
      2  it cannot be done; why is said
    """


@command.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([str(scope) for scope in Scope]),
    multiple=True,
    required=True,
    help="What it is for. May be given several times.",
)
@click.option(
    "--topics",
    multiple=True,
    metavar="PATTERN",
    help="A topic, or a prefix and a *. May be given several times. Default: all",
)
@click.option("--source", metavar="TEXT", help="The only source that its events may have.")
@click.option("--rate", type=click.FloatRange(0), metavar="N", help="Most events a second.")
@click.option("--rate-bytes", type=click.FloatRange(0), metavar="N", help="Most bytes a second.")
@click.option(
    "--burst",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="So many seconds of its rates may come at once.",
)
@click.option("--expires", type=Moment(), metavar="WHEN", help="A time, or 90d for so long.")
@with_settings("tokens")
def new(name: str, expires: datetime | None, **flags: Any) -> None:
    """Make a token, and print it. It is shown this once, and kept nowhere.

    \b
    Example:
      aggregator token new web --scope publish --topics 'orders.*' --expires 365d
      aggregator token new reports --scope read --scope metrics
      aggregator token new acme --scope publish --topics acme.* --source acme

    \b
    Exit status:
      0  it is made
      2  it cannot be; why is said
    """
    secret, text = new_secret()
    members = {
        "name": name,
        "scopes": list(dict.fromkeys(flags.pop("scopes"))),
        "secrets": [msgspec.to_builtins(secret)],
        "source": flags.pop("source"),
        "expires": expires,
        "rate_events": flags.pop("rate"),
        "rate_bytes": flags.pop("rate_bytes"),
        "burst": flags.pop("burst"),
    }
    if topics := flags.pop("topics"):
        members["topics"] = list(dict.fromkeys(topics))

    def add(tokens: Tokens) -> Tokens:
        if tokens.named(name):
            raise SettingError(f"tokens: there is one named {name}: rotate or revoke it")
        return tokens.with_token(_converted(members))

    _edit(flags, add)
    _show(text, "keep it now: it is shown this once")


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@with_settings("tokens")
def list_(as_json: bool, **flags: Any) -> None:
    """List the tokens, and what each is for.

    \b
    Example:
      aggregator token list

    \b
    Exit status:
      0  they are listed
      2  they cannot be; why is said
    """
    try:
        found = read(_path(flags)).tokens
    except AggregatorError as error:
        fail(error)
    if as_json:
        for_all = [_as_json(token) for token in found]
        click.echo(json.dumps({"tokens": for_all}, indent=2, ensure_ascii=False))
        return
    rows = [("NAME", "SCOPES", "TOPICS", "SOURCE", "EXPIRES"), *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


@command.command()
@click.argument("name")
@click.option(
    "--overlap",
    type=Span(),
    default="24h",
    show_default=True,
    metavar="SPAN",
    help="How long the old one may be used on.",
)
@with_settings("tokens")
def rotate(name: str, overlap: timedelta, **flags: Any) -> None:
    """Give a token a new secret, and print it. The old one may be used on for a while.

    \b
    Example:
      aggregator token rotate web --overlap 24h
      aggregator token rotate web --overlap 0s    (the old one has leaked)

    \b
    Exit status:
      0  it is done
      2  it cannot be; why is said
    """
    secret, text = new_secret()
    until = _now() + overlap

    def exchange(tokens: Tokens) -> Tokens:
        return tokens.with_token(rotated(_named(tokens, name), secret, until))

    _edit(flags, exchange)
    _show(text, f"keep it now: it is shown this once; the old one ends at {_time(until)}")


@command.command()
@click.argument("name")
@with_settings("tokens")
def revoke(name: str, **flags: Any) -> None:
    """Revoke a token, with all its secrets.

    \b
    Example:
      aggregator token revoke web

    \b
    Exit status:
      0  it is gone; the service sees it within seconds
      2  it cannot be; why is said
    """

    def remove(tokens: Tokens) -> Tokens:
        return tokens.without(_named(tokens, name).name)

    _edit(flags, remove)
    click.echo(f"{name} is revoked", err=True)


@command.command()
@click.option("--url", metavar="URL", help="Of the service. Default: what the settings say.")
@with_settings("host", "port", "tls_cert", "tls_key")
def whoami(url: str | None, **flags: Any) -> None:
    """Ask a service what a token is for: that in AGGREGATOR_TOKEN.

    \b
    Example:
      AGGREGATOR_TOKEN=agg_… aggregator token whoami --url http://127.0.0.1:8080

    \b
    Exit status:
      0  it says what it is for
      1  it does not: it is not known there, or nobody answers
      2  there are faults in the settings
    """
    token = os.environ.get(TOKEN, "").strip()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    ask(url, flags, "/whoami", headers)


def _path(flags: dict[str, Any]) -> Path:
    """The file of tokens. Raises SettingError where no setting names it."""
    if path := load_or_fail(flags).settings.tokens:
        return Path(path)
    raise SettingError("tokens: name the file: --tokens FILE, or AGGREGATOR_TOKENS")


def _edit(flags: dict[str, Any], change: Any) -> None:
    try:
        edit(_path(flags), change)
    except AggregatorError as error:
        fail(error)


def _show(text: str, hint: str) -> None:
    """The token alone on standard output, so that it can be piped; the rest beside."""
    click.echo(text)
    click.echo(hint, err=True)


def _named(tokens: Tokens, name: str) -> Token:
    """Raises SettingError."""
    if token := tokens.named(name):
        return token
    names = ", ".join(one.name for one in tokens.tokens) or "none"
    raise SettingError(f"tokens: there is none named {name}; there are: {names}")


def _converted(members: dict[str, Any]) -> Token:
    """Raises SettingError."""
    try:
        return msgspec.convert(members, Token)
    except ValueError as error:
        raise SettingError(f"tokens: {error}") from error


def _row(token: Token) -> tuple[str, ...]:
    ends = [token.end_of(secret) for secret in token.secrets]
    return (
        token.name,
        ", ".join(token.scopes),
        ", ".join(token.topics),
        token.source or "any",
        ", ".join("never" if end is None else _time(end) for end in ends),
    )


def _as_json(token: Token) -> dict[str, Any]:
    """What may be shown of it: all but the hashes."""
    members: dict[str, Any] = msgspec.to_builtins(msgspec.structs.asdict(token))
    ends = [token.end_of(secret) for secret in token.secrets]
    members["secrets"] = [
        {"id": secret.id, "expires": end and _time(end)}
        for secret, end in zip(token.secrets, ends, strict=True)
    ]
    return members


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
