"""Published ways of making one model of several: the steps, and the places a site fills with models of its own."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from models.chains.declaration import Name
from models.errors import ParameterInvalid
from models.tables import tables_in

RECIPES = Path(__file__).resolve().parent / "recipes"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Member(_Table):
    """A place in a recipe.

    Attributes
    ----------
    does : str
        What the model is asked for: ``run`` (an image model) or ``ask`` (one that takes prompts).
    what : str
        Which kind of model belongs there, for a reader.
    """

    does: Literal["run", "ask"]
    what: str


class Recipe(_Table):
    """A recipe.

    Attributes
    ----------
    title, source : str
        What it does; where it was published.
    members : dict
        Places to fill. The inputs of the chain are those of the first one that takes images.
    tools : bool
        Whether a site may name models that the asked one may call.
    calculators : bool
        Whether the asked one may call every calculator of :mod:`models.chains.calculators`.
    options : dict
        As :class:`models.chains.declaration.Graph`, with the names of members in the place of models, and ``{experts}``
        where a template lists what may be called.
    """

    title: str
    source: str
    members: dict[Name, Member]
    tools: bool = False
    calculators: bool = False
    options: dict[str, Any]


@cache
def recipes() -> dict[str, Recipe]:
    """Every recipe by name.

    Raises
    ------
    CardInvalid
        One of them is not valid.
    """
    return tables_in(RECIPES, Recipe)


def recipe_of(name: str) -> Recipe:
    """The recipe ``name``.

    Raises
    ------
    ParameterInvalid
        There is none.
    """
    if name not in recipes():
        raise ParameterInvalid(f"no recipe named {name}; there are {', '.join(recipes())}")
    return recipes()[name]
