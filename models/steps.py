"""Named steps of a card: looked up in a table, checked against the function's parameters before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from models.card import Step
from models.errors import CardInvalid
from models.workspace import Workspace

StepFunction = Callable[..., None]
BoundStep = Callable[[Workspace], Any]


def bind_steps(model_id: str, steps: Iterable[Step], table: Mapping[str, StepFunction]) -> tuple[BoundStep, ...]:
    """The card's steps as calls that only need the workspace.

    Raises
    ------
    CardInvalid
        A step does not exist, or does not take a parameter, or lacks one.
    """
    bound = []
    for step in steps:
        if step.step not in table:
            raise CardInvalid(f"{model_id}: no step named {step.step}; there are {', '.join(sorted(table))}")
        function = table[step.step]
        try:
            inspect.signature(function).bind(None, **step.parameters)
        except TypeError as error:
            raise CardInvalid(f"{model_id}: step {step.step}: {error}") from error
        bound.append(partial(function, **step.parameters))
    return tuple(bound)
