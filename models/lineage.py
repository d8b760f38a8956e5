"""Which models a model is made of, as they are at this moment: a chain's members, theirs, and so on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from models.card import Family
from models.errors import CardInvalid, ModelNotApproved, ModelNotFound, VersionNotChosen

if TYPE_CHECKING:
    from models.model import Model

MEMBER = "member."
"""Before a member's id, in the parameters of a chain's result."""
PASSED_OVER = "passed_over"
"""Parameter of a chain's result: which models did not take part, though preferred, and the codes of the reasons."""


def lineage(model: Model, *, standing_in: bool = False) -> list[Model]:
    """The model, and those it is made of, each once, the nearest first.

    One that is not to be had (not installed, not valid, no version approved) is left out: its run refuses by itself.

    Parameters
    ----------
    standing_in : bool
        Also those that may take the place of another on some study.
    """
    found = {model.card.id: model}
    left = [model]
    while left:
        for each in _members(left.pop(0), standing_in=standing_in):
            if each.card.id not in found:
                found[each.card.id] = each
                left.append(each)
    return list(found.values())


def member_versions(members: Iterable[Model]) -> dict[str, str]:
    """``member.ID`` → version, digest and execution provider of each model that a chain is made of.

    One that has left a device for the CPU has other last digits, whatever the others run on.
    """
    return {f"{MEMBER}{each.card.id}": f"{each.card.version} {each.digest} {each.provider}" for each in members}


def told_members(parameters: Mapping[str, str]) -> dict[str, str]:
    """``member.ID`` → version and digest, without the device, from the parameters of a result."""
    return {name: each.rpartition(" ")[0] for name, each in parameters.items() if name.startswith(MEMBER)}


def _members(model: Model, *, standing_in: bool) -> list[Model]:
    if model.card.family is not Family.CHAIN:
        return []
    found = []
    try:
        needed = model.needs
        names = dict.fromkeys((*needed, *model.members)) if standing_in else needed
    except CardInvalid:
        return []
    for name in names:
        try:
            found.append(model.member(name) if name in needed else model.admitted(name))
        except (ModelNotFound, ModelNotApproved, VersionNotChosen, CardInvalid):
            continue
    return found
