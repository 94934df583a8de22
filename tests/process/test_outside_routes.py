"""Routes from somebody else's package, really installed and really served."""

from pathlib import Path

import stranger

from blocks import blocks
from events import event
from running import Service, aggregator

PAGE = Path(__file__).parents[2] / "docs" / "adding-routes.md"


def test_routes_of_the_docs_work_as_they_are_written(service: Service, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (python,), (setup,) = blocks(PAGE.read_text(), "python"), blocks(PAGE.read_text(), "ini")
    (source / "kept.py").write_text(python)
    (source / "setup.cfg").write_text(setup)
    (source / "pyproject.toml").write_text(stranger.PYPROJECT)
    environ = {"PYTHONPATH": str(stranger.pip_install(source, tmp_path / "installed"))}
    service.start(environ=environ)
    assert service.call("/kept") == (200, {"events": 0})
    service.publish([event("1"), event("2"), event("1")])
    assert service.call("/kept") == (200, {"events": 2})
    described = service.call("/openapi.json")[1]
    assert described["paths"]["/kept"]["get"]["summary"] == "The number of events that are kept."
    assert described["components"]["schemas"]["Kept"]["required"] == ["events"]
    shown = aggregator(tmp_path, "plugins", environ=environ).stdout
    line = next(line for line in shown.splitlines() if line.split()[:1] == ["kept"])
    assert line.split(maxsplit=2) == ["kept", "kept:KeptRoutes", "aggregator-kept 1.0"]
