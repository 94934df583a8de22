"""What the docs show of lines and CloudEvents is run."""

import json
import re
import subprocess
from pathlib import Path

from running import Service

_DOCS = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text()


def _statuses(service: Service, section: str) -> list[list[str]]:
    """What each block of the section is answered."""
    part = _DOCS.split(f"### {section}\n")[1].split("\n##")[0]
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```", part, re.DOTALL | re.MULTILINE):
        command = block.replace("http://127.0.0.1:8080", service.url)
        said = subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout
        found.append([result["status"] for result in json.loads(said)["results"]])
    return found


def test_examples_of_the_docs_are_answered_as_they_say(service: Service) -> None:
    service.start()
    assert _statuses(service, "Lines") == [["stored", "stored"]]
    cloud_events = _statuses(service, "CloudEvents")
    assert cloud_events == [["stored"], ["duplicate", "stored"], ["duplicate"]]
