"""Writes the package of a new stage: one that works, is tested, and can be installed."""

import importlib.util
import keyword
import re
import shutil
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import NamedTuple

from aggregator.authoring.submissions import SAMPLE
from aggregator.errors import SettingError
from aggregator.plugins import STAGES, Plugins

_NAME = re.compile("[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_LONGEST = 40  # characters
_TEMPLATES = files("aggregator.authoring") / "templates"


class Names(NamedTuple):
    """What a package is called, and what is in it."""

    package: str
    module: str
    class_name: str
    stage: str
    pipeline: str
    """One to try it in, from its file."""
    installed_pipeline: str


def write(name: str, folder: Path, plugins: Plugins, *, is_intake: bool) -> Names:
    """Write the package below the folder. Raises SettingError, and leaves all as it was then."""
    names = _names(name, is_intake)
    kind = "intake" if is_intake else "batch"
    written = {
        "pyproject.toml": _filled("pyproject.toml", names),
        "README.md": _filled("README.md", names),
        f"{names.module}.py": _filled(f"{kind}.py", names),
        f"test_{names.stage}.py": _filled(f"test_{kind}.py", names),
        "events.ndjson": SAMPLE.decode(),
    }
    _check(names, plugins)
    package = folder / names.package
    try:
        package.mkdir()
    except FileExistsError as error:
        raise SettingError(f"{package} is there already; nothing is changed") from error
    except OSError as error:
        raise SettingError(f"cannot write {package}: {error.strerror}") from error
    try:
        for file, text in written.items():
            (package / file).write_text(text, encoding="utf-8")
    except OSError as error:
        shutil.rmtree(package, ignore_errors=True)
        raise SettingError(f"cannot write {package}: {error.strerror}") from error
    return names


def _names(name: str, is_intake: bool) -> Names:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise SettingError(
            f"{name!r} is no name for a stage: write lower-case letters and digits, with single "
            f"dashes between words, {_LONGEST} characters at most, as in drop-small"
        )
    stage = name.replace("-", "_")
    class_name = "".join(word.capitalize() for word in stage.split("_"))
    module = f"aggregator_{stage}"
    order = "validate {} | dedup persist" if is_intake else "validate | dedup {} persist"
    tried = order.format(f"./{module}.py:{class_name}")
    package = f"aggregator-{name.replace('_', '-')}"
    return Names(package, module, class_name, stage, tried, order.format(stage))


def _check(names: Names, plugins: Plugins) -> None:
    if keyword.iskeyword(names.class_name):
        raise SettingError(f"{names.class_name} is a word of Python: take another name")
    if any(plugin.group == STAGES and plugin.name == names.stage for plugin in plugins.found):
        raise SettingError(f"{names.stage} is installed already: take another name")
    if importlib.util.find_spec(names.module):
        raise SettingError(f"{names.module} is a module already: take another name")
    for template in _TEMPLATES.iterdir():
        if re.search(rf"\b{names.class_name}\b", template.read_text(encoding="utf-8")):
            raise SettingError(
                f"{names.class_name} is the name of something that stages use: take another name"
            )


def _filled(name: str, names: Names) -> str:
    template = (_TEMPLATES / f"{name}.txt").read_text(encoding="utf-8")
    return Template(template).substitute(names._asdict())
