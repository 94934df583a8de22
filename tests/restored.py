"""A copy of a store, put in its place, is the store as it was at the copy's moment."""

import os
import subprocess
import sys
from pathlib import Path

from blocks import blocks
from events import event
from running import LIMIT, Service

Keys = dict[tuple[str, str], int]
"""The seq of each event, by topic and event_id."""


BLOCKS = blocks((Path(__file__).parent.parent / "docs" / "backup.md").read_text(), "sh")
BACKUP, RESTORE, _ = BLOCKS


def run_block(block: str, folder: Path, environ: dict[str, str] | None = None) -> str:
    """Do in the folder what the docs say; what was printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-e", "-c", block],
        cwd=folder,
        env={**os.environ, "PATH": path, **(environ or {})},
        stdout=subprocess.PIPE,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    return done.stdout


def check_restored(
    folder: Path, copy: Path, before: Keys, all_seqs: Keys, environ: dict[str, str] | None = None
) -> int:
    """Start a service on the copy, and send it all again; how many events were in the copy.

    `before` are the events that were answered before the copy was begun, `all_seqs` all that the
    original store holds.
    """
    (folder / "data").mkdir(parents=True)
    copy.rename(folder / "data" / "aggregator.db")
    with Service(folder) as service:
        service.start(environ=environ)
        found = {(one["topic"], one["event_id"]): one["seq"] for one in service.stored()}
        last = max(found.values())
        assert before.items() <= found.items(), "what was answered before the copy is not in it"
        assert found == {key: seq for key, seq in all_seqs.items() if seq <= last}
        _check_numbers(service, len(found))
        _send_again(service, found, all_seqs)
        _check_numbers(service, len(all_seqs))
        assert service.stop() == 0
    return len(found)


def _send_again(service: Service, found: Keys, all_seqs: Keys) -> None:
    """What is there is a duplicate with its seq, all else is stored, and the seqs go on."""
    sent = list(all_seqs)
    new = []
    for start in range(0, len(sent), 1000):
        some = sent[start : start + 1000]
        status, told = service.publish([event(name, topic) for topic, name in some])
        assert status == 200
        for key, result in zip(some, told["results"], strict=True):
            if key in found:
                assert (result["status"], result["seq"]) == ("duplicate", found[key])
            else:
                assert result["status"] == "stored"
                new.append(result["seq"])
    last = max(found.values())
    assert new == list(range(last + 1, last + 1 + len(new)))


def _check_numbers(service: Service, stored: int) -> None:
    stats = service.call("/stats")[1]
    outcomes = ("unique_processed", "duplicate_dropped", "invalid", "filtered", "refused")
    assert stats["received_total"] == sum(stats[name] for name in outcomes)
    assert stats["unique_processed"] == stored
