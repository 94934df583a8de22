"""What stages have asked to be done after the commit: called, timed and, where it fails, told."""

import logging
import time
from collections.abc import Coroutine, Sequence

from aggregator.core.fault_log import Seldom, traceback_of
from aggregator.transaction import EFFECTS_LIMIT, Effect

log = logging.getLogger(__name__)


class EffectRunner:
    """Calls effects in order; none of them can fail the batch, which is committed."""

    def __init__(self) -> None:
        self._seldom = Seldom()

    def run(self, effects: Sequence[Effect]) -> None:
        """Call them, and warn of the stages whose effects kept everybody waiting."""
        taken: dict[str, float] = {}
        for effect in effects:
            begun = time.perf_counter()
            self._call(effect)
            spent = time.perf_counter() - begun
            taken[effect.stage] = taken.get(effect.stage, 0.0) + spent
        for stage, seconds in taken.items():
            if seconds > EFFECTS_LIMIT and (more := self._seldom.told(f"slow {stage}")) is not None:
                log.warning(
                    "after a commit everybody waited %.1f s for effects of the stage %s, "
                    "which may take %g s in all%s",
                    *(seconds, stage, EFFECTS_LIMIT, more),
                )

    def _call(self, effect: Effect) -> None:
        try:
            _check_result(effect.call())
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001, as that of a cancelled task; it fails no batch
            if (more := self._seldom.told(f"failed {effect.stage}")) is not None:
                log.error(
                    "after a commit an effect of the stage %s failed; the events are stored%s%s",
                    *(effect.stage, more, traceback_of(error)),
                    extra={"error": error},
                )


def _check_result(returned: object) -> None:
    """Raise TypeError for a coroutine: what it should have done is not done. A task goes on."""
    if isinstance(returned, Coroutine):
        returned.close()  # or Python warns of it at some later time
        raise TypeError("it returned a coroutine, which nobody awaits")
