"""What ``ainode models info`` and ``verify`` say of the models a chain is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.model import Model


def made_of(model: Model) -> list[dict[str, Any]]:
    """Every model that a chain names: whether it is made of it ``now``, version and digest, ``why_not`` where it may not serve.

    Which one finds in a study may depend on the study, too; that stands in its result.
    """
    from models.chains.finders import standing_of

    now = model.needs if model.members else ()
    return [{"model": each, "now": each in now, **standing_of(model, each)} for each in model.members]


def member_lines(model: Model) -> Iterator[str]:
    """One line for each model that a chain names; none for another model."""
    for row in made_of(model):
        about = f"{row['model']} {row['version']}, digest {row['digest']}" if "version" in row else row["model"]
        if why_not := row.get("why_not"):
            yield f"    {'needs' if row['now'] else 'does without'} {about}: {why_not}"
        else:
            yield f"    {'made of' if row['now'] else 'may use'} {about}"
