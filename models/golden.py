"""Known answers of a model's graphs: asked at start, after a change of driver or runtime, and daily.

A driver or a card that computes wrong raises no error; only a known answer shows it. The file is a ``.npz`` without
pickles: ``in:NAME`` holds an input, ``out:NAME`` every ``step:NAME``-th value of an output, flattened.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.errors import CardInvalid, GraphMismatch

if TYPE_CHECKING:
    from models.session import Session

_KEPT = 4096
"""Values of an output that are kept at most; a wrong kernel is wrong in more than one place."""

Arrays = Mapping[str, npt.NDArray[Any]]


def write_golden(path: Path, inputs: Arrays, outputs: Arrays) -> None:
    """Write the answer ``outputs`` to ``inputs``; large outputs are thinned out."""
    content: dict[str, npt.NDArray[Any]] = {f"in:{name}": np.asarray(value) for name, value in inputs.items()}
    for name, value in outputs.items():
        flat = np.asarray(value).ravel()
        step = max(1, -(-flat.size // _KEPT))
        content[f"out:{name}"] = flat[::step]
        content[f"step:{name}"] = np.array(step)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **content)


def deviation(session: Session, path: Path) -> float:
    """Largest difference between what the session answers and what it should, relative to the largest value.

    Raises
    ------
    CardInvalid
        The file is no golden file.
    GraphMismatch
        It is of another graph.
    ModelError
        The graph does not run.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            content = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError) as error:
        raise CardInvalid(f"{path.name} holds no known answer: {error}") from error
    inputs = {name[3:]: value for name, value in content.items() if name.startswith("in:")}
    expected = {name[4:]: value for name, value in content.items() if name.startswith("out:")}
    if set(inputs) != set(session.inputs) or not expected or not set(expected) <= set(session.outputs):
        raise GraphMismatch(f"{path.name} is the known answer of another graph")
    given = session.run(inputs, list(expected))
    worst = 0.0
    for name, value in expected.items():
        step = int(content[f"step:{name}"])
        answer = given[name].ravel()[::step]
        if answer.shape != value.shape:
            raise GraphMismatch(f"{path.name}: {name} has another size")
        scale = max(float(np.abs(value).max(initial=0.0)), 1e-6)
        # Not `max`, for which what is no number is no more than anything.
        worst = float(np.max([worst, np.abs(answer.astype(np.float64) - value).max(initial=0.0) / scale]))
    return worst
