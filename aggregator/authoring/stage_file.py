"""Stages that come from a file of their author, beside those that are installed.

A file stands in a pipeline as `./sample.py:Sample`, or as `./sample.py` where it holds one stage.
It becomes a plugin like any other, so that it is found, checked and made by the same code.
"""

import importlib.util
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from aggregator.errors import SettingError
from aggregator.plugins import STAGES, Plugin, Plugins
from aggregator.stage import IntakeStage, Stage

_WORD = re.compile(r"[^\s|]+")
_FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<name>\w+))?")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True)
class StageFile:
    """A stage in a file; it loads as an entry point does."""

    path: Path
    class_name: str | None

    @property
    def name(self) -> str:
        """What a pipeline calls it, after its class: `DropSmall` is `drop_small`.

        After the file while no class is named and none can be found.
        """
        class_name = self.class_name
        if not class_name:
            with suppress(Exception, SystemExit):  # it is told when the plugin is loaded
                class_name = getattr(self.load(), "__name__", None)
        if class_name:
            return _HUMP.sub("_", class_name).lower()
        return re.sub(r"[^\w-]", "_", self.path.stem)

    @property
    def plugin(self) -> Plugin:
        """The stage as it would be if it were installed."""
        target = str(self.path) + (f":{self.class_name}" if self.class_name else "")
        return Plugin(STAGES, self.name, target, "a file", self)

    def load(self) -> object:
        """The class. Raises AttributeError if it is not there, and whatever the file raises."""
        module = _module(self.path)
        if self.class_name and hasattr(module, self.class_name):
            return getattr(module, self.class_name)
        found = _stages_of(module)
        if not self.class_name and len(found) == 1:
            return found[0]
        if not found and not self.class_name:
            raise AttributeError("no class in it is derived from BatchStage or IntakeStage")
        wanted = f"there is no {self.class_name}" if self.class_name else "say which stage is meant"
        there = ", ".join(kind.__name__ for kind in found) or "none"
        raise AttributeError(f"{wanted}; stages in the file: {there}")


def files_in(pipeline: str) -> dict[str, StageFile]:
    """The words of a pipeline that are files, by word."""
    found = ((word, _FILE.fullmatch(word)) for word in _WORD.findall(pipeline))
    return {word: StageFile(Path(file["path"]), file["name"]) for word, file in found if file}


def resolve(pipeline: str, installed: Plugins) -> tuple[str, Plugins]:
    """The pipeline with a name for each file, and the plugins that its names mean then.

    A file hides what is installed under its name. A stage alone is put where most of its kind
    stand. Raises SettingError.
    """
    files = files_in(pipeline)
    words = dict.fromkeys(_WORD.findall(pipeline))
    names = {word: file.name for word, file in files.items()}
    meant: dict[str, str] = {}
    for word in words:
        name = names.get(word, word)
        if meant.setdefault(name, word) != word:
            raise SettingError(
                f"pipeline: {meant[name]} and {word} are both named {name}; rename a class"
            )
    named = _WORD.sub(lambda word: names.get(word[0], word[0]), pipeline)
    stages = {names[word]: file.plugin for word, file in files.items()}
    others = [one for one in installed.found if one.group != STAGES or one.name not in stages]
    plugins = Plugins([*others, *stages.values()])
    if "|" not in named and len(words) == 1:
        named = _around(next(iter(meant)), plugins)
    return named, plugins


def _around(name: str, plugins: Plugins) -> str:
    kind = plugins.find(STAGES, name).load(Stage)
    if issubclass(kind, IntakeStage):
        return f"validate {name} | dedup persist"
    return f"validate | dedup {name} persist"


def _module(path: Path) -> ModuleType:
    """The module in the file, run once, with its folder on `sys.path` as Python has it."""
    path = path.resolve()
    # Not its own name alone: a file may be called as a module that is imported already.
    name = f"{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _stages_of(module: ModuleType) -> list[type[Stage]]:
    """The stages that the module itself defines."""
    return [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Stage) and kind.__module__ == module.__name__
    ]
