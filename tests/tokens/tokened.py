"""An app with tokens in force, and the tokens."""

from pathlib import Path
from typing import Any, NamedTuple

from aggregator.core.tokens import Scope, Token, new_secret
from aggregator.token_file import edit
from conftest import Client, Start


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: Any
    headers: Any


class Tokened:
    """The app, asked with one token or another."""

    def __init__(self, client: Client, path: Path) -> None:
        self.client = client
        self.path = path

    def make(self, name: str, *scopes: Scope, **members: Any) -> str:
        """Make a token; it is in force once the file was read again."""
        return make(self.path, name, *scopes, **members)

    async def ask(self, token: str | None, path: str, method: str = "GET", **more: Any) -> Answer:
        """What is answered to the holder of that token."""
        headers = {**more.pop("headers", {})}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        async with self.client.request(method, path, headers=headers, **more) as answer:
            is_json = answer.content_type.endswith(("/json", "+json"))
            body = await answer.json(content_type=None) if is_json else await answer.text()
            return Answer(answer.status, body, answer.headers)

    async def publish(self, token: str | None, events: Any, prefer: str = "") -> Answer:
        """Publish with that token."""
        headers = {"Prefer": prefer} if prefer else {}
        return await self.ask(token, "/publish", "POST", json=events, headers=headers)


def make(path: Path, name: str, *scopes: Scope, **members: Any) -> str:
    """Put a token into the file; its text."""
    secret, text = new_secret()
    edit(path, lambda tokens: tokens.with_token(Token(name, [*scopes], [secret], **members)))
    return text


Kinds = dict[str, tuple[tuple[Scope, ...], dict[str, Any]]]
"""Scopes of tokens, and what else they are for, by name."""


async def start_with(
    start: Start,
    path: Path,
    tokens: Kinds,
    **flags: Any,
) -> tuple[Tokened, dict[str, str]]:
    """Start the app with these tokens, by name; the app and the text of each."""
    texts = {name: make(path, name, *scopes, **more) for name, (scopes, more) in tokens.items()}
    return Tokened(await start(tokens=str(path), **flags), path), texts
