"""`aggregator health` tells whether the service can store."""

import os
import subprocess
import sys

from running import Service


def health(**environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "aggregator", "health"],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_health_is_0_while_ready_and_1_when_not(service: Service) -> None:
    port = service.start().rpartition(":")[2]
    asked = health(AGGREGATOR_PORT=port)
    assert (asked.returncode, asked.stdout.strip()) == (0, '{"status":"ready"}')
    service.kill()
    asked = health(AGGREGATOR_PORT=port)
    assert asked.returncode == 1
    assert "refused" in asked.stderr
    assert "Traceback" not in asked.stderr


def test_health_asks_directly_whatever_proxy_is_set(service: Service) -> None:
    port = service.start().rpartition(":")[2]
    assert health(AGGREGATOR_PORT=port, http_proxy="http://127.0.0.1:1").returncode == 0
