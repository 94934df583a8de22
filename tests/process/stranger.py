"""A distribution of somebody else's, with stages of its own, installed as pip does it."""

import subprocess
import sys
from pathlib import Path

SETUP = """
[metadata]
name = strangers-stages
version = 4.2

[options]
packages = strangers
install_requires = event-aggregator

[options.entry_points]
aggregator.stages =
    sample = strangers.sample:Sample
    moody = strangers.moody:Moody
    gone = strangers.gone:Gone
    function = strangers.moody:no_stage
"""

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
"""

SAMPLE = """
from zlib import crc32

from marshmallow import Schema, fields, validate

from aggregator.outcome import Filtered
from aggregator.stage import BatchStage


class Table(Schema):
    percent = fields.Integer(required=True, strict=True, validate=validate.Range(0, 100))


class Sample(BatchStage):
    schema = Table

    def __init__(self, percent):
        self.percent = percent

    async def process(self, events, tx):
        going = [event for event in events if crc32(event.event_id.encode()) % 100 < self.percent]
        for event in events:
            if not any(event is other for other in going):
                event.settle(Filtered("sampled out"))
        return going
"""

MOODY = '''
import asyncio
import contextlib
import time

import msgspec

from aggregator.errors import Unavailable
from aggregator.stage import BatchStage


class Moody(BatchStage):
    """Does what an event's topic asks for."""

    async def process(self, events, tx):
        for event in events:
            if conduct := getattr(self, event.topic, None):
                await conduct(events, tx)
        return events

    async def hangs(self, events, tx):
        await asyncio.sleep(3600)

    async def blocks(self, events, tx):
        time.sleep(3600)

    async def clings(self, events, tx):
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    async def cancels(self, events, tx):
        task = asyncio.create_task(asyncio.sleep(3600))
        task.cancel()
        await task

    async def exits(self, events, tx):
        raise SystemExit(0)

    async def declines(self, events, tx):
        raise Unavailable("what I look things up in is away")

    async def lingers(self, events, tx):
        ghost = msgspec.structs.replace(events[0], event_id="ghost", key=bytes(16))
        tx.after_commit(lambda: self.haunt(tx, ghost))

    def haunt(self, tx, ghost):
        self.task = asyncio.create_task(tx.append([ghost]))


def no_stage():
    pass
'''

GONE = "import a_library_that_is_not_there\n"


def install(folder: Path) -> Path:
    """Write the distribution, and have pip install it; the place where it is installed."""
    source = folder / "source"
    package = source / "strangers"
    package.mkdir(parents=True)
    (source / "setup.cfg").write_text(SETUP)
    (source / "pyproject.toml").write_text(PYPROJECT)
    (package / "__init__.py").touch()
    (package / "sample.py").write_text(SAMPLE)
    (package / "moody.py").write_text(MOODY)
    (package / "gone.py").write_text(GONE)
    return pip_install(source, folder / "installed")


def pip_install(source: Path, target: Path) -> Path:
    """Have pip install a distribution into a folder, without asking any index."""
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-build-isolation", "--no-index"),
            *("--target", str(target), str(source)),
        ],
        check=True,
        capture_output=True,
    )
    return target
