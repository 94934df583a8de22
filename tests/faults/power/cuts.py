"""Power cuts at chosen moments: what each leaves on the disk, and what was answered by then."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from random import Random

from power.changes import Survives
from power.disk import Disk
from power.steps import Answer, Step

Key = tuple[str, str]
"""Topic and event_id."""


@dataclass
class Answered:
    """What publishers have been told."""

    seqs: dict[Key, int] = field(default_factory=dict)
    """Of what is stored, whether told the first time or again."""
    duplicates: int = 0
    invalid: int = 0

    @classmethod
    def after(cls, steps: Iterable[Step]) -> "Answered":
        """What all of the answers among the steps told."""
        answered = cls()
        for step in steps:
            answered.note(step)
        return answered

    def copy(self) -> "Answered":
        """As it is now."""
        return replace(self, seqs=dict(self.seqs))

    def note(self, step: Step) -> None:
        """One more step, which may be an answer."""
        if not isinstance(step, Answer):
            return
        for result in step.content.get("results", ()):
            match result["status"]:
                case "stored":
                    self.seqs[result["topic"], result["event_id"]] = result["seq"]
                case "duplicate":
                    self.seqs[result["topic"], result["event_id"]] = result["seq"]
                    self.duplicates += 1
                case "invalid":
                    self.invalid += 1


@dataclass(frozen=True)
class Cut:
    """The files as the next start finds them, and what must be true of them."""

    moment: str
    kind: str
    files: dict[str, bytes]
    answered: Answered

    def __str__(self) -> str:
        return f"power cut {self.moment}; of what was not synced, {self.kind} survives"

    @property
    def digest(self) -> bytes:
        """Equal for equal files."""
        together = blake2b()
        for path, content in sorted(self.files.items()):
            together.update(b"%d %d %s" % (len(path), len(content), path.encode()))
            together.update(content)
        return together.digest()


def moments(steps: Sequence[Step], count: int, random: Random) -> set[int]:
    """That many steps to cut after: two thirds of them answers, as far as there are so many."""
    answers = [place for place, step in enumerate(steps) if isinstance(step, Answer)]
    others = [place for place, step in enumerate(steps) if not isinstance(step, Answer)]
    chosen = random.sample(answers, min(len(answers), 2 * count // 3))
    return {*chosen, *random.sample(others, min(len(others), count - len(chosen)))}


def cuts(steps: Sequence[Step], chosen: Collection[int], random: Random) -> Iterator[Cut]:
    """The cuts after the chosen steps, of each kind, in order."""
    disk, answered = Disk(), Answered()
    for place, step in enumerate(steps):
        disk.apply(step)
        answered.note(step)
        if place in chosen:
            moment = f"after step {place} of {len(steps)} ({type(step).__name__})"
            for kind, survives in _kinds(random):
                yield Cut(moment, kind, disk.left(survives), answered.copy())


def _kinds(random: Random) -> Iterator[tuple[str, Survives]]:
    yield "nothing", lambda number, part: False
    yield "everything", lambda number, part: True
    if random.random() < 0.5:
        yield "any write, as a whole,", _any(random, lambda number, part: number)
    else:
        yield "any sector", _any(random, lambda number, part: (number, part))


def _any(random: Random, together: Callable[[int, object], object]) -> Survives:
    """Some survive, and some do not: what stands and falls together is decided once."""
    reservation = random.random()
    decided: defaultdict[object, bool] = defaultdict(lambda: random.random() < reservation)
    return lambda number, part: decided[together(number, part)]
