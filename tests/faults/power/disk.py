"""What a disk holds after a power cut: what was synced, and of the rest whatever survives.

- A sync that succeeded makes durable what was done to its file before it began.
- What was not synced survives or does not, each sector for itself, in any order.
- A name belongs to its folder: a file was made or removed for good once the folder is synced.
- A sync that failed drops what it covered. The kernel marks such pages as clean: no later sync
  writes them, and yet every process reads them for as long as the machine runs ("Can Applications
  Recover from fsync Failures?", https://www.usenix.org/conference/atc20/presentation/rebello).
  Nothing but writing the same bytes again brings them to the disk.
- Names are not dropped: a file system keeps them in a journal, and takes no more writes at all once
  that fails. They go on waiting for a sync that succeeds.
"""

from collections.abc import Iterator

from power.changes import Changes, Survives
from power.file import File
from power.steps import Create, Remove, Step, Sync, Truncate, Write


class Folder:
    """The names in one folder."""

    def __init__(self) -> None:
        self.names: dict[str, Node] = {}
        self._durable: dict[str, Node] = {}
        self._changes: Changes[tuple[str, Node | None]] = Changes()

    def name(self, number: int, name: str, node: "Node | None") -> None:
        """Give a name to this, or to nothing, as change `number`."""
        self._changes.add(number, "name", (name, node))
        _name(self.names, name, node)

    def sync(self, began: int, succeeded: bool) -> None:
        """What was named before it began is durable, if it succeeded."""
        if succeeded:
            for name, node in self._changes.settle(began):
                _name(self._durable, name, node)

    def left(self, survives: Survives) -> "dict[str, Node]":
        """What is found after a power cut."""
        left = dict(self._durable)
        for name, node in self._changes.left(survives):
            _name(left, name, node)
        return left


Node = File | Folder


class Disk:
    """A tree of files, empty at first."""

    def __init__(self) -> None:
        self._root = Folder()

    def apply(self, step: Step) -> None:
        """Do what the process did."""
        match step:
            case Create(at=number, path=path, is_folder=is_folder):
                folder, name = self._place(path)
                if name not in folder.names:
                    folder.name(number, name, Folder() if is_folder else File())
            case Remove(at=number, path=path):
                folder, name = self._place(path)
                folder.name(number, name, None)
            case Write(at=number, path=path, offset=offset, content=content):
                self._file(path).write(number, offset, content)
            case Truncate(at=number, path=path, size=size):
                self._file(path).resize(number, size)
            case Sync(path=path, began=began, succeeded=succeeded):
                self._node(path).sync(began, succeeded)

    def read(self) -> dict[str, bytes]:
        """The files as every process reads them while the machine runs."""
        return {path: bytes(file.content) for path, file in _files(self._root, None)}

    def left(self, survives: Survives) -> dict[str, bytes]:
        """The files as they are found after a power cut."""
        return {path: file.left(survives) for path, file in _files(self._root, survives)}

    def _node(self, path: str) -> Node:
        node: Node = self._root
        for name in filter(None, path.split("/")):
            assert isinstance(node, Folder), path
            node = node.names[name]
        return node

    def _file(self, path: str) -> File:
        node = self._node(path)
        assert isinstance(node, File), path
        return node

    def _place(self, path: str) -> tuple[Folder, str]:
        place, _, name = path.rpartition("/")
        folder = self._node(place)
        assert isinstance(folder, Folder), path
        return folder, name


def _name(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _files(
    folder: Folder, survives: Survives | None, place: str = ""
) -> Iterator[tuple[str, File]]:
    names = folder.names if survives is None else folder.left(survives)
    for name, node in names.items():
        if isinstance(node, File):
            yield place + name, node
        else:
            yield from _files(node, survives, f"{place}{name}/")
