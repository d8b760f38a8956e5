"""Which of several models finds: a card names them in order of preference, and the first that may serve takes the place.

One that is not installed, not approved, not as it should be, or not made for such a study is passed over, and the result says
why. One that fails while it runs is not: its run fails, and nobody takes the place of an error in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from models.card import Family
from models.errors import (
    ModelError,
    ModelNotApproved,
    ModelNotFound,
    NodeError,
    NoFinder,
    OutOfMemory,
    OutsideLimits,
    ParameterInvalid,
    VersionNotChosen,
)
from models.limits import require_within
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model

USUAL = frozenset(each.code for each in (ModelNotFound, ModelNotApproved, VersionNotChosen, ParameterInvalid))
"""Codes of what a site has decided, and no reader need hear of with each result."""


class Finder(BaseModel):
    """One of the models that may find.

    Attributes
    ----------
    model : str
        Its id.
    outlines : str
        ``redrawn``: what it finds is boxed and drawn again by the refiner. ``kept``: its outlines stand, as those of a network
        trained on whole volumes do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    outlines: Literal["redrawn", "kept"] = "redrawn"


@dataclass(frozen=True, slots=True)
class Taken:
    """The model that finds, and the errors for which others before it do not."""

    finder: Finder
    model: Model
    passed_over: Mapping[str, NodeError]

    @property
    def codes(self) -> str:
        """Ids and error codes of those passed over, in order, as a parameter of the result; empty where there are none."""
        return ", ".join(f"{name} {error.code}" for name, error in self.passed_over.items())

    @property
    def fell_back(self) -> bool:
        """Whether one was passed over that this site had chosen, and that should have served."""
        return any(error.code not in USUAL for error in self.passed_over.values())


def standing(chain: Model, finders: Sequence[Finder]) -> Taken:
    """Who finds as things stand, whatever the study.

    Raises
    ------
    NodeError
        As :func:`taken`.
    """
    return _first(chain, finders, lambda model: None)


def taken(
    chain: Model, finders: Sequence[Finder], inputs: Mapping[str, Volume], parameters: Mapping[str, str]
) -> Taken:
    """Who finds in a study; its graphs are loaded, and verified with that.

    Raises
    ------
    NodeError
        Nobody may: of a single one its own error, of several :class:`OutsideLimits` where the study is what speaks against one
        of them, else :class:`NoFinder`, with the reason for each.
    """
    return _first(chain, finders, lambda model: _require_able(model, inputs, parameters))


def sound(chain: Model, model_id: str) -> Model:
    """A member that may serve on this node, and answered right when asked last. Raises :class:`ModelError`."""
    model = chain.admitted(model_id)
    if model.fault is not None:
        raise model.fault
    return model


def standing_of(chain: Model, model_id: str) -> dict[str, str]:
    """Version and digest of a member as it is now; instead, or beside, under ``why_not``, what speaks against it."""
    try:
        model = chain.member(model_id)
        about = {"version": model.card.version, "digest": model.digest}
    except NodeError as error:
        return {"why_not": str(error)}
    try:
        sound(chain, model_id)
    except NodeError as error:
        return {**about, "why_not": str(error)}
    return about


def _require_able(model: Model, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> None:
    if model.card.family is not Family.CHAIN:
        model.thresholds(parameters)
    if absent := [each.role for each in model.card.inputs if each.required and each.role not in inputs]:
        raise OutsideLimits(f"{model.card.id} takes {', '.join(absent)} as well, which is not there", limit="inputs")
    require_within(model.card.limits, inputs)
    model.warm()


def _first(chain: Model, finders: Sequence[Finder], require: Callable[[Model], None]) -> Taken:
    passed_over: dict[str, NodeError] = {}
    for each in finders:
        try:
            model = sound(chain, each.model)
            require(model)
        except OutOfMemory as error:
            # A GPU without room is no reason to take another: the run is made once more on the CPU.
            if error.device is not None:
                raise
            passed_over[each.model] = error
        except (ModelError, OutsideLimits) as error:
            passed_over[each.model] = error
        else:
            return Taken(each, model, passed_over)
    raise _nobody(chain.card.id, passed_over)


def _nobody(chain_id: str, passed_over: Mapping[str, NodeError]) -> NodeError:
    errors = list(passed_over.values())
    if len(errors) == 1:
        return errors[0]
    told = "; ".join(f"{name}: {error}" for name, error in passed_over.items())
    message = f"{chain_id}: none of the models that may find can serve ({told})"
    kind = OutsideLimits if any(isinstance(error, OutsideLimits) for error in errors) else NoFinder
    return kind(message, passed_over={name: error.code for name, error in passed_over.items()})
