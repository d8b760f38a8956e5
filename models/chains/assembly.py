"""From a recipe and the models a site has to the card of a chain."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from models.card import CardInput
from models.chains.calculators import CALCULATORS
from models.chains.declaration import Graph
from models.chains.recipe import Recipe
from models.errors import ParameterInvalid

if TYPE_CHECKING:
    from models.model import Model

_EXPERTS = "{experts}"
_INTENDED_USE = (
    "Unreviewed drafts, put together from models of this site. Each of them has its own intended use and limits."
)


@dataclass(frozen=True, slots=True)
class NamedTool:
    """A model that a language model may call.

    Attributes
    ----------
    name : str
        Capitals; what is called, as in ``<NAME(argument)>``.
    arguments : tuple of str
        All it may be called with; none: it is called without.
    """

    name: str
    model: Model
    arguments: tuple[str, ...] = ()


def assemble(
    name: str, recipe: Recipe, members: Mapping[str, Model], tools: Sequence[NamedTool], *, model_id: str
) -> dict[str, Any]:
    """Content of the chain's card.

    Parameters
    ----------
    name : str
        Of the recipe.
    members : mapping
        Model for each place of the recipe.

    Raises
    ------
    ParameterInvalid
        A place is empty, unknown or filled with a model that cannot do its part; the recipe takes no tools or lacks them;
        a member takes other images than the chain has.
    """
    _require_members(name, recipe, members, tools)
    everyone = list(dict.fromkeys([*members.values(), *(tool.model for tool in tools)]))
    inputs = next((each.card.inputs for each in everyone if each.card.inputs), ())
    for each in everyone:
        _require_same_images(each, inputs)
    first = next((each for each in everyone if each.card.inputs), everyone[0]).card
    content = {
        "id": model_id,
        "version": "1.0.0",
        "title": recipe.title,
        "name": f"{model_id} ({' + '.join(each.card.id for each in everyone)})",
        "manufacturer": "assembled at this site",
        "family": "chain",
        "licence": "; ".join(f"{each.card.id}: {each.card.licence}" for each in everyone),
        "intended_use": _INTENDED_USE,
        "limitations": sorted({each for model in everyone for each in model.card.limitations}),
        "inputs": [each.model_dump(mode="json", exclude_defaults=True) for each in inputs],
        "finding": asdict(first.finding),
        "site": asdict(first.site),
        "options": _options(recipe, members, tools),
        "provenance": {"recipe": name, "source": recipe.source},
    }
    Graph.model_validate(content["options"])
    return content


def _require_members(name: str, recipe: Recipe, members: Mapping[str, Model], tools: Sequence[NamedTool]) -> None:
    places = {each: f"{each} ({place.what})" for each, place in recipe.members.items()}
    if missing := [places[each] for each in places if each not in members]:
        raise ParameterInvalid(f"{name} needs {'; '.join(missing)}")
    if unknown := sorted(set(members) - set(places)):
        raise ParameterInvalid(f"{name} has no place for {unknown[0]}; it has {', '.join(places)}")
    for each, model in members.items():
        if not model.offers(recipe.members[each].does):
            raise ParameterInvalid(f"{model.card.id} cannot be {places[each]}: {_CANNOT[recipe.members[each].does]}")
    if tools and not recipe.tools:
        raise ParameterInvalid(f"in {name} nothing may be called; leave the tools out")
    if recipe.tools and not tools and not recipe.calculators:
        raise ParameterInvalid(f"{name} needs a model that may be called, as CXR=torchxrayvision")
    for tool in tools:
        if not tool.model.offers("run"):
            raise ParameterInvalid(f"{tool.model.card.id} cannot be called: {_CANNOT['run']}")


_CANNOT = {"run": "it is not run on images alone", "ask": "it takes no prompts of a chain"}


def _require_same_images(model: Model, inputs: Sequence[CardInput]) -> None:
    """A model in a chain gets the chain's own inputs, under the same roles."""
    known = {each.role: (each.kind, each.modality) for each in inputs}
    for each in model.card.inputs:
        if each.required and known.get(each.role) != (each.kind, each.modality):
            raise ParameterInvalid(
                f"{model.card.id} takes {each.role} ({each.modality} {each.kind}), and the chain has "
                f"{', '.join(f'{role} ({modality} {kind})' for role, (kind, modality) in known.items())}"
            )


def _options(recipe: Recipe, members: Mapping[str, Model], tools: Sequence[NamedTool]) -> dict[str, Any]:
    options = copy.deepcopy(recipe.options)
    callable_ = {tool.name: {"model": tool.model.card.id, "arguments": list(tool.arguments)} for tool in tools}
    if recipe.calculators:
        callable_ |= {each.upper(): {"calculator": each} for each in CALCULATORS}
    experts = ", ".join([*(call for tool in tools for call in _calls(tool)), *_formulas(recipe)])
    for step in options["steps"]:
        if "model" in step:
            step["model"] = members[step["model"]].card.id
        if step["kind"] == "ask":
            step["template"] = {key: text.replace(_EXPERTS, experts) for key, text in step["template"].items()}
            step |= {"tools": callable_} if callable_ else {}
    return options


def _calls(tool: NamedTool) -> Iterable[str]:
    return [f"<{tool.name}({argument})>" for argument in tool.arguments or ("",)]


def _formulas(recipe: Recipe) -> Iterable[str]:
    for name, calculator in CALCULATORS.items() if recipe.calculators else ():
        amounts = ", ".join(f"{each}=? {unit}" for each, unit in calculator.inputs.items())
        yield f"<{name.upper()}({amounts})>"
