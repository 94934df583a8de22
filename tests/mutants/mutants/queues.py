"""Queues that are those in memory but for one mistake."""

import msgspec

from aggregator.event import Submission
from aggregator_memory.queue import MemoryQueue

TURN = 15


class Mutant(MemoryQueue):
    def __init__(self, url: str, max_events: int) -> None:
        super().__init__("memory:", max_events)
        self.number = 0

    def is_its_turn(self) -> bool:
        self.number += 1
        return self.number == TURN


class GivesTwice(Mutant):
    """`gives-twice:` delivers one submission again, as a broker does that has lost the receipt."""

    async def take(self, most: int) -> list[Submission]:
        batch = await super().take(most)
        if batch and self.is_its_turn():
            copy = msgspec.msgpack.encode(batch[0])
            batch.append(msgspec.msgpack.decode(copy, type=Submission))
        return batch


class KeepsRoom(MemoryQueue):
    """`keeps-room:` never gives back the room of what has failed."""

    def __init__(self, _: str, max_events: int) -> None:
        super().__init__("memory:", max_events)

    async def failed(self, _: list[Submission]) -> None:
        pass


class Loses(Mutant):
    """`loses:` forgets one submission between taking it and giving it."""

    async def take(self, most: int) -> list[Submission]:
        batch = await super().take(most)
        if batch and self.is_its_turn():
            return batch[1:] or await self.take(most)
        return batch
