"""Who would belong here and cannot be had."""

from loadgen.bench.contestant import Contestant, Place
from loadgen.bench.errors import UnavailableError
from loadgen.bench.results import Effort, Round


class Rqlite(Contestant):
    name = "rqlite"
    group = "peers"
    title = "rqlite, 100 events a request"
    size = 100
    connections = 16
    promise = "not measured"
    note = "the Go module proxy did not give out its module when this was written"

    def prepare(self, place: Place) -> None:  # noqa: ARG002
        raise UnavailableError(self.note)

    def turn(self, place: Place, effort: Effort) -> Round:
        raise NotImplementedError
