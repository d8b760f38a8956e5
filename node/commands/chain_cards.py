"""``ainode models chain``: one model out of several, by a published recipe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from models.chains.assembly import NamedTool
    from models.chains.recipe import Recipe
    from models.registry import Registry

_TOOL = re.compile(r"([A-Z][A-Z0-9_]{0,31})=([^:=]+)(?::(.+))?")


def chain(
    ctx: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help="Recipe; left out: lists them with their places.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="New folder for the card.")] = None,
    member: Annotated[list[str] | None, typer.Option("--member", help="PLACE=MODEL; once for each place.")] = None,
    tool: Annotated[
        list[str] | None, typer.Option("--tool", help="NAME=MODEL or NAME=MODEL:ARGUMENT,…: what may be called.")
    ] = None,
    model_id: Annotated[str | None, typer.Option("--id", help="Id of the chain; else the recipe's name.")] = None,
) -> None:
    """Make one model of installed ones: their order, what is told to which, and what may be called."""
    from models.card import CARD_FILE, Card
    from models.chains.assembly import assemble
    from models.chains.recipe import recipe_of, recipes
    from models.export.card_text import toml_text
    from node.errors import UsageError
    from node.installed_models import chosen, registry_of

    if recipe is None:
        for name, each in recipes().items():
            typer.echo(_described(name, each))
        return
    if out is None or out.exists():
        raise UsageError("name a new folder with --out, so that no installed model is replaced")
    settings = ctx.obj.settings()
    registry = chosen(registry_of(settings), settings)
    places = {place: registry.get(name) for place, name in map(_pair, member or [])}
    name = model_id or recipe
    content = assemble(recipe, recipe_of(recipe), places, _tools(registry, tool or []), model_id=name)
    if registry.versions(name):
        raise UsageError(f"a model named {name} is installed; give the chain another name with --id")
    out.mkdir(parents=True)
    (out / CARD_FILE).write_text(toml_text(content), encoding="utf-8")
    card = Card.load(out)
    typer.echo(f"{card.id}: {card.name}; in {out}")
    typer.echo(
        f"Its parent stands in [models] folders of node.toml? Then `ainode models verify {card.id}`; a named person must "
        "approve it, and each of its models, before it serves."
    )


def _described(name: str, recipe: Recipe) -> str:
    lines = [f"{name}: {recipe.title}; after {recipe.source}"]
    lines += [f"    --member {place}=MODEL   {each.what}" for place, each in recipe.members.items()]
    if recipe.tools:
        lines.append("    --tool NAME=MODEL   an image model that may be called" + " (optional)" * recipe.calculators)
    return "\n".join(lines)


def _pair(words: str) -> tuple[str, str]:
    from node.errors import UsageError

    place, sign, model = words.partition("=")
    if not (place and sign and model):
        raise UsageError(f"--member {words}: write PLACE=MODEL")
    return place, model


def _tools(registry: Registry, words: Sequence[str]) -> list[NamedTool]:
    from models.chains.assembly import NamedTool
    from node.errors import UsageError

    tools = []
    for each in words:
        if (found := _TOOL.fullmatch(each)) is None:
            raise UsageError(f"--tool {each}: write NAME=MODEL or NAME=MODEL:ARGUMENT,…, the name in capitals")
        name, model, arguments = found.groups()
        tools.append(NamedTool(name, registry.get(model), tuple((arguments or "").split(",")) if arguments else ()))
    return tools
