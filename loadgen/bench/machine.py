"""What it was measured on."""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

SYNCS = 200
ASKING = """
import importlib.metadata, json, platform, sqlite3, sysconfig
names = ("event-aggregator", "aiohttp", "aiosqlite", "msgspec", "marshmallow")
options = sysconfig.get_config_var("CONFIG_ARGS") or ""
pgo = "with PGO" if "--enable-optimizations" in options else "without PGO"
lto = "with LTO" if "--with-lto" in options else "without LTO"
python = f"{platform.python_version()} ({platform.python_compiler()}, configured {pgo}, {lto})"
found = {"Python": python, "SQLite": sqlite3.sqlite_version}
print(json.dumps(found | {name: importlib.metadata.version(name) for name in names}))
"""


def machine(folder: Path) -> dict[str, str]:
    facts = {
        "processor": f"{os.cpu_count()} × {_processor()}",
        "system": f"{_system()}, kernel {platform.release()}, {platform.machine()}",
        "load before": ", ".join(f"{load:.2f}" for load in os.getloadavg()),
        "disk": f"{_disk(folder)}; writing and syncing 4 KiB takes {sync(folder):.2f} ms (median)",
    }
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return facts | {"memory": f"{pages / 2**30:.1f} GiB"}


def versions(python: str) -> dict[str, str]:
    """Of what is measured, asked of its own Python, and of what measures."""
    asked = subprocess.run([python, "-c", ASKING], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(asked.stdout)
    return found | {"commit": _commit(python), "load": _wrk()}


def sync(folder: Path) -> float:
    """Milliseconds that a small write takes until it is on the disk."""
    path = folder / "sync"
    took = []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno()) if sys.platform == "linux" else os.fsync(file.fileno())
            took.append(time.perf_counter() - began)
    path.unlink()
    return statistics.median(took) * 1000


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _disk(folder: Path) -> str:
    """The file system of the folder; its name as mounted where that can be read."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown file system"
    lines = [line.split()[:3] for line in mounts.read_text().splitlines()]
    at = str(folder.resolve())
    under = [one for one in lines if at.startswith(one[1].rstrip("/") + "/") or one[1] == "/"]
    device, _, kind = max(under, key=lambda one: len(one[1]))
    return f"{kind} on {device}"


def _commit(python: str) -> str:
    """Of the checkout whose Python it is."""
    home = Path(python).parent.parent.parent
    asked = subprocess.run(
        ["git", "-C", str(home), "describe", "--always", "--dirty"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"


def _wrk() -> str:
    if not shutil.which("wrk"):
        return "a publisher of ours: wrk is not installed"
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout  # noqa: S607
    return said.partition(" Copyright")[0].strip()
