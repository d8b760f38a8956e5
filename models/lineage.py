"""Which models a model is made of, as they are at this moment: a chain's members, theirs, and so on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from models.card import Family
from models.errors import CardInvalid, ModelNotFound, VersionNotChosen

if TYPE_CHECKING:
    from models.model import Model

MEMBER = "member."
"""Before a member's id, in the parameters of a chain's result."""


def lineage(model: Model) -> list[Model]:
    """The model, and those it is made of, each once, the nearest first.

    One that is not to be had (not installed, not valid, no version approved) is left out: its run refuses by itself.
    """
    found = {model.card.id: model}
    left = [model]
    while left:
        for each in _members(left.pop(0)):
            if each.card.id not in found:
                found[each.card.id] = each
                left.append(each)
    return list(found.values())


def member_versions(model: Model) -> dict[str, str]:
    """``member.ID`` → version, digest and execution provider of each model ``model`` is made of; nothing but for a chain.

    One that has left a device for the CPU has other last digits, whatever the others run on.
    """
    return {
        f"{MEMBER}{each.card.id}": f"{each.card.version} {each.digest} {each.provider}" for each in lineage(model)[1:]
    }


def told_members(parameters: Mapping[str, str]) -> dict[str, str]:
    """``member.ID`` → version and digest, without the device, from the parameters of a result."""
    return {name: each.rpartition(" ")[0] for name, each in parameters.items() if name.startswith(MEMBER)}


def _members(model: Model) -> list[Model]:
    if model.card.family is not Family.CHAIN:
        return []
    found = []
    try:
        names = model.needs
    except CardInvalid:
        return []
    for name in names:
        try:
            found.append(model.member(name))
        except (ModelNotFound, VersionNotChosen, CardInvalid):
            continue
    return found
