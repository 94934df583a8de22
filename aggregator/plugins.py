"""Finds what is installed in each slot: stages, stores, queues and routes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, entry_points
from typing import Any, Protocol, TypeVar

from marshmallow import ValidationError

from aggregator import __version__
from aggregator.config import Configuration, Settings
from aggregator.core.policy import OnConflict
from aggregator.core.redact import redact
from aggregator.errors import AggregatorError, SettingError
from aggregator.pipeline.runner import NamedStage, PipelineSpec, order_faults
from aggregator.queue import Queue
from aggregator.route import Route, RouteContext, Routes
from aggregator.stage import BatchStage, IntakeStage, Stage
from aggregator.store import IndexesFields, KeepsQuarantine, OpensReadOnly, Store

T = TypeVar("T", Stage, Store, Queue, Routes)

STAGES = "aggregator.stages"
STORES = "aggregator.stores"
QUEUES = "aggregator.queues"
ROUTES = "aggregator.routes"
_DISTRIBUTION = "event-aggregator"
GROUPS = (STAGES, STORES, QUEUES, ROUTES)


class Loadable(Protocol):
    """What an entry point does: it loads the class that it names."""

    def load(self) -> Any:
        """The class. May raise anything."""


@dataclass(frozen=True)
class Plugin:
    """A class in a slot, and the package that put it there."""

    group: str
    name: str
    target: str
    package: str
    entry: Loadable

    @property
    def is_ours(self) -> bool:
        """Whether it was installed with the service, and so was tested with it."""
        return self.package == f"{_DISTRIBUTION} {__version__}"

    def load(self, contract: type[T]) -> type[T]:
        """The class. Raises SettingError with everything one needs to mend it."""
        try:
            loaded = self.entry.load()
        except (Exception, SystemExit) as error:  # a module may end what imports it
            raise SettingError(
                f"{self} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        if not (isinstance(loaded, type) and issubclass(loaded, contract)):
            raise SettingError(f"{self} is not a class derived from {contract.__name__}")
        return loaded

    def __str__(self) -> str:
        return f"{self.group}: {self.name} = {self.target} (from {self.package})"


class Plugins:
    """Everything that is installed, ours like a stranger's."""

    def __init__(self, found: Iterable[Plugin]) -> None:
        self.found = sorted(found, key=lambda plugin: (plugin.group, plugin.name))

    @classmethod
    def installed(cls) -> "Plugins":
        """What the packages of this environment have registered. Loads none of it."""
        found = entry_points()
        entries = [entry for group in GROUPS for entry in found.select(group=group)]
        # Once each: to know its name and version, all of its metadata is parsed.
        packages = {dist: _package(dist) for dist in {entry.dist for entry in entries}}
        return cls(
            Plugin(entry.group, entry.name, entry.value, packages[entry.dist], entry)
            for entry in entries
        )

    def problems(self, configuration: Configuration) -> list[str]:
        """Everything that would keep these settings from being used."""
        settings = configuration.settings
        found = []
        for attempt in (
            lambda: self.stages(PipelineSpec.parse(settings.pipeline), configuration.stages),
            lambda: check_abilities(self.store(settings), configuration),
            lambda: self.queue(settings),
            self._routes,
        ):
            try:
                attempt()
            except SettingError as error:
                found.append(str(error))
        return found

    def stages(
        self, order: PipelineSpec, tables: Mapping[str, Mapping[str, Any]]
    ) -> tuple[list[NamedStage], list[NamedStage]]:
        """The stages left and right of the bar, made with their tables.

        Raises SettingError, a line a fault.
        """
        faults: list[SettingError] = []

        def made(names: Sequence[str], side: type[Stage]) -> Iterator[NamedStage]:
            for name in names:
                try:
                    yield self._stage(name, side, tables)
                except SettingError as error:
                    faults.append(error)

        intake = list(made(order.intake, IntakeStage))
        batch = list(made(order.batch, BatchStage))
        if len(batch) == len(order.batch):
            faults += map(SettingError, order_faults(batch))
        faults += (
            SettingError(f"stages.{name}: {name} is not in the pipeline ({order})")
            for name in sorted(set(tables) - set(order.intake + order.batch))
        )
        if faults:
            raise SettingError("\n".join(map(str, faults))) from faults[0]
        return intake, batch

    def store(self, settings: Settings) -> Store:
        """The store behind the URL, not opened yet. Raises SettingError."""
        return self._by_scheme(STORES, settings.store, Store)(  # type: ignore[type-abstract]
            settings.store
        )

    def queue(self, settings: Settings) -> Queue:
        """The queue behind the URL, not opened yet. Raises SettingError."""
        kind = self._by_scheme(QUEUES, settings.queue, Queue)  # type: ignore[type-abstract]
        return kind(settings.queue, settings.queue_events)

    def add_routes(
        self, context: RouteContext, add: Callable[[Plugin, Sequence[Route]], None]
    ) -> None:
        """Make the routes of every package, and add them. Raises SettingError."""
        for plugin, kind in self._routes():
            try:
                add(plugin, kind(context).routes())
            except Exception as error:
                raise SettingError(
                    f"{plugin} cannot be added: {type(error).__name__}: {error}"
                ) from error

    def find(self, group: str, name: str) -> Plugin:
        """The plugin of that name. Raises SettingError if there is none, or more than one."""
        slot = [plugin for plugin in self.found if plugin.group == group]
        matching = [plugin for plugin in slot if plugin.name == name]
        if not matching:
            installed = ", ".join(plugin.name for plugin in slot) or "nothing"
            told = f"{group}: there is no {name!r}; installed: {installed}"
            if group == STAGES and ".py" in name:
                told += ". Files are for `aggregator try`; `aggregator new-stage` writes a package"
            raise SettingError(told)
        if len(matching) > 1:
            packages = " and ".join(plugin.package for plugin in matching)
            raise SettingError(f"{group}: {name!r} is claimed by {packages}; uninstall one")
        return matching[0]

    def _stage(
        self,
        name: str,
        side: type[Stage],
        tables: Mapping[str, Mapping[str, Any]],
    ) -> NamedStage:
        plugin = self.find(STAGES, name)
        kind = plugin.load(Stage)
        if not issubclass(kind, side):
            place = "left" if side is BatchStage else "right"
            raise SettingError(f"pipeline: {name} belongs {place} of the bar")
        made = _make(name, kind, tables.get(name, {}))
        return NamedStage(name, made, is_watched=not plugin.is_ours)

    def _routes(self) -> list[tuple[Plugin, type[Routes]]]:
        """What adds routes: everything in the slot, under whatever name."""
        names = dict.fromkeys(plugin.name for plugin in self.found if plugin.group == ROUTES)
        found = [self.find(ROUTES, name) for name in names]
        return [(plugin, plugin.load(Routes)) for plugin in found]  # type: ignore[type-abstract]

    def _by_scheme(self, group: str, url: str, contract: type[T]) -> type[T]:
        scheme, colon, _ = url.partition(":")
        if not colon:
            slot = group.rpartition(".")[2].removesuffix("s")
            usual = Settings().store if group == STORES else Settings().queue
            raise SettingError(f"{slot}: {redact(slot, url)!r} is no URL; try {usual!r}")
        return self.find(group, scheme).load(contract)


def _package(dist: Distribution | None) -> str:
    return f"{dist.name} {dist.version}" if dist else "an unknown package"


def _make(name: str, kind: type[Stage], table: Mapping[str, Any]) -> Stage:
    if table and kind.schema is None:
        raise SettingError(f"stages.{name}: {name} has no settings")
    try:
        arguments: dict[str, Any] = kind.schema().load(dict(table)) if kind.schema else {}
        return kind(**arguments)
    except ValidationError as error:
        said = error.normalized_messages()  # type: ignore[no-untyped-call]
        faults = (f"stages.{name}{_member(key)}: {_words(why)}" for key, why in said.items())
        raise SettingError("\n".join(faults)) from error
    except AggregatorError:
        raise
    except (Exception, SystemExit) as error:
        raise SettingError(f"{name} cannot be made: {type(error).__name__}: {error}") from error


def _member(key: object) -> str:
    return "" if key == "_schema" else f".{key}"


def _words(why: object) -> str:
    return " ".join(map(str, why)) if isinstance(why, list) else str(why)


def check_abilities(store: Store, configuration: Configuration) -> None:
    """Raise SettingError, a line for each setting that asks for what the store cannot do."""
    settings = configuration.settings
    policies = [
        settings.on_conflict,
        *(t.get("on_conflict") for t in configuration.topics.values()),
    ]
    wanted = {
        f"on_invalid = {settings.on_invalid}": settings.on_invalid == "quarantine",
        "on_conflict = quarantine": OnConflict.QUARANTINE.value in policies,
    }
    lacking = []
    if not isinstance(store, KeepsQuarantine):
        needing = [setting for setting, is_wanted in wanted.items() if is_wanted]
        lacking += [f"keeps no quarantine, as {setting} needs" for setting in needing]
    if configuration.indexed and not isinstance(store, IndexesFields):
        lacking.append("indexes no fields, as indexed asks for")
    if settings.read_only and not isinstance(store, OpensReadOnly):
        lacking.append("cannot be opened to read alone, as read_only asks for")
    if lacking:
        raise SettingError("\n".join(f"store: {store.about()} {what}" for what in lacking))
