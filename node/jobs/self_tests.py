"""When a model host asks its models their known answers: before the first run, and again when a day has passed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from models.errors import InferenceFailed, ModelError, OutputNotFinite, SelfTestFailed
from models.lineage import lineage
from models.placement import Left
from models.room_on_device import where_there_is_room
from models.session import CPU
from node import log

if TYPE_CHECKING:
    from models.model import Model
    from models.registry import Registry

_LOG = log.logger("self-test")
PERIOD_SECONDS = 24 * 3600.0
_WRONG = (SelfTestFailed, OutputNotFinite, InferenceFailed)


class SelfTests:
    """Remembers when each model last answered right in this process, and whether a device has answered wrong.

    Parameters
    ----------
    clock : callable
        Monotonic seconds.

    Attributes
    ----------
    state : dict
        Model → ``passed`` (it answered right when asked last), ``fell_back`` (on the CPU, where the GPU answered wrong) and
        ``no_room`` (on the CPU, where the GPU had too little memory).

    Notes
    -----
    A model that is read anew, as all are when a folder of models changes, is asked anew, and so is one that has come to another
    device, or back to one. Where a device has answered one model
    wrong, it is trusted with no other on its word: each is asked again, and one with a graph that has no known answer leaves it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._passed: WeakKeyDictionary[Model, tuple[float, str]] = WeakKeyDictionary()
        self._device_doubtful = False
        self.state: dict[str, dict[str, bool]] = {}

    def require(self, registry: Registry, model_id: str) -> None:
        """Have a model, and those it is made of, answer right, or move it to the processor, or refuse it.

        A graph that answers wrong on a GPU is asked again on the CPU, and stays there when that answers right: the
        result then names the provider that ran. A member in whose place others stand ready is set aside where it fails
        (:attr:`models.model.Model.fault`), until it answers right.

        Raises
        ------
        SelfTestFailed
            It answers wrong on the CPU, too, or nothing shows that it would not on a device that is not to be trusted.
        ModelError
            It cannot be loaded.
        """
        wanted = registry.get(model_id)
        for model in lineage(wanted, standing_in=True):
            try:
                self._require_right(model)
            except ModelError as error:
                model.fault = error
            else:
                model.fault = None
        # What it is made of now, with all that failed set aside.
        for model in lineage(wanted):
            if model.fault is not None:
                raise model.fault

    def again(self, registry: Registry, model_id: str) -> None:
        """As :meth:`require`, however lately it was asked."""
        for model in lineage(registry.get(model_id), standing_in=True):
            self._passed.pop(model, None)
        self.require(registry, model_id)

    def look(self, registry: Registry) -> None:
        """Note anew where the models run: a run may have left a device, and has asked the CPU for the known answer then."""
        for model_id, state in self.state.items():
            try:
                model = registry.get(model_id)
            except ModelError:
                continue  # it has been taken away since
            self.state[model_id] = _state(model, passed=state["passed"])
            if model.left is Left.MEMORY and self._passed.get(model, (0.0, ""))[1] != model.provider:
                self._passed[model] = self._clock(), model.provider

    def _require_right(self, model: Model) -> None:
        model.graphs.return_to_device()
        at, where = self._passed.get(model, (0.0, ""))
        self.state[model.card.id] = _state(model, passed=False)
        if where != model.provider or self._clock() - at >= PERIOD_SECONDS:
            self._ask(model)
            self._passed[model] = self._clock(), model.provider
        self.state[model.card.id] = _state(model, passed=True)

    def _ask(self, model: Model) -> None:
        if self._device_doubtful:
            _leave_unproven(model)
        try:
            where_there_is_room(lambda: [model], model.self_test)
        except _WRONG as error:
            log.say(_LOG, 40, "a model answers wrong", model=model.card.id, error=str(error))
            if not model.fall_back_to_cpu():
                raise
            model.self_test()
            log.say(_LOG, 40, "the model runs on the CPU from now on", model=model.card.id)
            self._device_doubtful = True
            self._passed.clear()


def _state(model: Model, *, passed: bool) -> dict[str, bool]:
    return {"passed": passed, "fell_back": model.left is Left.ANSWERS, "no_room": model.left is Left.MEMORY}


def _leave_unproven(model: Model) -> None:
    """Take a model off a device where not every graph of it can show what it should answer."""
    if model.card.graphs.keys() <= model.card.golden.keys() or model.provider == CPU or model.fall_back_to_cpu():
        return
    raise SelfTestFailed(
        f"{model.card.id} may run on {model.provider} only, where another model has answered wrong, "
        "and not every graph of it has a known answer to ask for",
        provider=model.provider,
    )
