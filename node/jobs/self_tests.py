"""When a model host asks its models their known answers: before the first run, and again when a day has passed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from models.errors import ModelNotFound, SelfTestFailed
from node import log

if TYPE_CHECKING:
    from models.model import Model
    from models.registry import Registry

_LOG = log.logger("self-test")
PERIOD_SECONDS = 24 * 3600.0


class SelfTests:
    """Remembers when each model last answered right in this process.

    Parameters
    ----------
    clock : callable
        Monotonic seconds.

    Attributes
    ----------
    state : dict
        Model → ``passed`` (it answered right when asked last) and ``fell_back`` (on the CPU, where the GPU answered wrong).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._passed: dict[str, float] = {}
        self.state: dict[str, dict[str, bool]] = {}

    def require(self, registry: Registry, model_id: str) -> None:
        """Have a model, and those it is made of, answer right, or move it to the processor, or refuse it.

        A graph that answers wrong on a GPU is asked again on the CPU, and stays there when that answers right: the
        result then names the provider that ran.

        Raises
        ------
        SelfTestFailed
            It answers wrong on the CPU, too.
        ModelError
            It cannot be loaded.
        """
        for model in _whole(registry, model_id):
            last = self._passed.get(model.digest)
            if last is None or self._clock() - last >= PERIOD_SECONDS:
                self._test(model)
                self._passed[model.digest] = self._clock()

    def _test(self, model: Model) -> None:
        state = self.state.setdefault(model.card.id, {"passed": False, "fell_back": False})
        state["passed"] = False
        self._ask(model, state)
        state["passed"] = True

    def _ask(self, model: Model, state: dict[str, bool]) -> None:
        try:
            model.self_test()
        except SelfTestFailed as error:
            log.say(_LOG, 40, "a model answers wrong", model=model.card.id, error=str(error))
            if not model.fall_back_to_cpu():
                raise
            state["fell_back"] = True
            model.self_test()
            log.say(_LOG, 40, "the model runs on the CPU from now on", model=model.card.id)


def _whole(registry: Registry, model_id: str) -> Iterator[Model]:
    model = registry.get(model_id)
    yield model
    for name in model.needs:
        try:
            yield registry.get(name)
        except ModelNotFound:
            # The run itself refuses, with the chain's own words.
            continue
