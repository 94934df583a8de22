"""Where in an author's own files a fault was made."""

import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from aggregator.pipeline.runner import NamedStage


class OwnFiles:
    """The files of the authors whose stages are tried: all that lie beside those stages."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._roots = {folder.resolve() for folder in folders}

    @classmethod
    def of(cls, stages: Iterable[NamedStage]) -> "OwnFiles":
        """Those of these stages."""
        found = {_file_of(named) for named in stages}
        # Beside a module that is installed by itself lie those of everybody else.
        return cls(
            file if file.parent.name.endswith("-packages") else file.parent for file in found
        )

    def lines_of(self, error: BaseException) -> str:
        """The traceback of the error, cut to the author's own lines; empty if there are none.

        Where it was raised in place of another one, that of the first which has such lines.
        """
        for link in _chain(error):
            if isinstance(link, SyntaxError) and self._are_own(Path(link.filename or "")):
                return _shown(traceback.format_exception_only(link)[:-1])
            frames = [frame for frame, _ in traceback.walk_tb(link.__traceback__)]
            if lines := self._cut(frames, traceback.extract_tb(link.__traceback__)):
                return lines
        return ""

    def lines_at(self, frame: FrameType) -> str:
        """The author's own lines that are running there."""
        frames = [found for found, _ in traceback.walk_stack(frame)]
        return self._cut(frames[::-1], traceback.extract_stack(frame))

    def _cut(self, frames: Sequence[FrameType], summaries: Sequence[traceback.FrameSummary]) -> str:
        own = [
            summary
            for frame, summary in zip(frames, summaries, strict=True)
            if self._are_own(Path(summary.filename)) and not _is_ours(frame.f_globals)
        ]
        return _shown(traceback.StackSummary.from_list(own).format())

    def _are_own(self, file: Path) -> bool:
        return any(
            file.is_relative_to(root) and "site-packages" not in file.relative_to(root).parts
            for root in self._roots
        )


def definition(named: NamedStage) -> str:
    """The line where the stage's `process` begins."""
    code = type(named.stage).process.__code__  # type: ignore[attr-defined]
    summary = traceback.FrameSummary(code.co_filename, code.co_firstlineno, code.co_name)
    return _shown(traceback.StackSummary.from_list([summary]).format())


def _is_ours(names: dict[str, object]) -> bool:
    """Whether a frame is the service's own, which may lie in the author's folder: a checkout."""
    return str(names.get("__name__", "")).partition(".")[0] == "aggregator"


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _file_of(named: NamedStage) -> Path:
    module = sys.modules[type(named.stage).__module__]
    return Path(module.__file__ or "").resolve()


def _shown(lines: Iterable[str]) -> str:
    """The lines as text, with paths below this folder shortened."""
    return "".join(lines).rstrip("\n").replace(f'"{Path.cwd()}/', '"')
