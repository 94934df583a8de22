"""The official SDKs send CloudEvents that are taken, the same event in whichever mode."""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from clouds import kept

from aggregator.core.identity import PayloadKind
from conftest import Client
from running import Service

_JAVASCRIPT = "cloudevents@10.0.0"
_SENDER = Path(__file__).with_name("send.cjs")
_PATIENCE = 60.0


@pytest.fixture(scope="session")
def node_modules(request: pytest.FixtureRequest) -> Path:
    """The SDK for JavaScript, installed once and kept."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node or npm is not installed")
    assert request.config.cache
    folder = request.config.cache.mkdir(_JAVASCRIPT)
    if not (folder / "installed").exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, _JAVASCRIPT]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
        if done.returncode:
            pytest.skip(f"npm cannot install {_JAVASCRIPT}: {done.stderr[-500:]}")
        (folder / "installed").touch()
    return folder / "node_modules"


def test_events_of_the_javascript_sdk_are_the_same_in_every_mode(
    service: Service, node_modules: Path
) -> None:
    service.start()
    said = subprocess.run(
        ["node", _SENDER, service.url],
        env={**os.environ, "NODE_PATH": str(node_modules)},
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=True,
    )
    *answers, batch = json.loads(said.stdout)
    assert answers == [["stored"], ["duplicate"]] * 6
    assert batch == ["duplicate"] * 6


CONTENTS: dict[str, tuple[dict[str, Any], Any, PayloadKind, bytes]] = {
    "object": (
        {"datacontenttype": "application/json"},
        {"a": [1.5]},
        PayloadKind.JSON,
        b'{"a": [1.5]}',
    ),
    "object of no type": ({}, {"a": 1}, PayloadKind.JSON, b'{"a": 1}'),
    "text": ({"datacontenttype": "text/plain"}, "\u00e9", PayloadKind.JSON, '"\u00e9"'.encode()),
    "bytes": (
        {"datacontenttype": "application/octet-stream"},
        b"\0\xff",
        PayloadKind.BYTES,
        b"\0\xff",
    ),
    "nothing": ({"subject": "\u20ac 100% \"a\""}, None, PayloadKind.NOTHING, b""),
    "extensions": ({"flag": True, "number": 7, "text": "a b"}, [1], PayloadKind.JSON, b"[1]"),
}  # fmt: skip


@pytest.mark.parametrize(("more", "data", "form", "payload"), CONTENTS.values(), ids=CONTENTS)
async def test_event_of_the_python_sdk_is_the_same_in_either_mode(
    client: Client, more: dict[str, Any], data: Any, form: PayloadKind, payload: bytes
) -> None:
    about = {"specversion": "1.0", "type": "logins", "source": "/python", "id": "1"}
    time = datetime(2026, 1, 31, 12, tzinfo=UTC)
    event = CloudEvent({**about, "time": time, **more}, data)
    statuses = []
    for sent in (to_binary_event(event), to_structured_event(event)):
        async with client.post(
            "/publish", data=sent.body, headers=sent.headers, skip_auto_headers=["Content-Type"]
        ) as response:
            statuses.append((await response.json())["results"][0]["status"])
    assert statuses == ["stored", "duplicate"]
    found = await kept(client)
    assert (found.payload_kind, found.payload or b"", found.source) == (form, payload, "/python")
    assert found.timestamp == "2026-01-31T12:00:00Z"
    assert json.loads(found.attributes).get("subject") == more.get("subject")
