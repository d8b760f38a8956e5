"""A published graph held against torch weights that lie beside it; what it answers is kept as the known answer.

Where there are none, or transformers does not know the architecture, nothing is claimed: the reason stands in the report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.errors import CheckpointMismatch, ExportFailed
from models.export.graph_export import TOLERANCE, Exported, golden_path
from models.export.released_folder import ReleasedFolder
from models.export.steps import Kind, say
from models.golden import write_golden
from models.session import CPU, Session

Array = npt.NDArray[Any]
Expected = Callable[[Array], Array]
"""What torch answers to one input of the graph."""
_SAFE = ("model.safetensors", "model.safetensors.index.json")
FARTHEST = {"": TOLERANCE, "fp16": 0.01}
"""Largest difference from torch, relative to the largest output, by kind of weights."""
FARTHEST_SMALLER = 0.1
"""Likewise for integers of eight bits or fewer."""
GOLDEN_SMALLER = 0.03
"""How far another device may be from the known answer of such weights: an activation may round to its neighbour."""


@dataclass(frozen=True, slots=True)
class TorchModel:
    """The original, where it is there.

    Attributes
    ----------
    model : object or None
    keys : int
        Tensors that were loaded; none was missing or left over.
    reason : str
        Why there is none.
    """

    model: Any
    keys: int = 0
    reason: str = ""


def torch_model(released: ReleasedFolder) -> TorchModel:
    """The folder's weights in transformers' own network.

    Raises
    ------
    CheckpointMismatch
        They are there, and do not fit: keys are missing, left over or of another shape.
    """
    import transformers

    if not any((released.path / name).is_file() for name in _SAFE):
        return TorchModel(None, reason="no model.safetensors lies beside the graph")
    names = [str(each) for each in released.config.get("architectures") or []]
    loader: Any = getattr(transformers, names[0], None) if len(names) == 1 else None
    if loader is None or not hasattr(loader, "from_pretrained"):
        return TorchModel(
            None, reason=f"transformers {transformers.__version__} knows no {' '.join(names) or 'architecture'}"
        )
    try:
        model, info = loader.from_pretrained(
            released.path,
            output_loading_info=True,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="eager",
            dtype=torch.float32,
        )
    except ImportError as error:
        return TorchModel(None, reason=f"{names[0]} needs a library that is not installed: {_first_line(error)}")
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointMismatch(f"model.safetensors is of no {names[0]}: {_first_line(error)}") from error
    wrong = {name: sorted(map(str, info[name])) for name in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(wrong.values()):
        told = "; ".join(f"{name}: {', '.join(found[:5])}" for name, found in wrong.items() if found)
        raise CheckpointMismatch(f"model.safetensors has another layout than config.json says; {told}", problems=wrong)
    return TorchModel(model.eval(), len(model.state_dict()))


def named_output(model: Any, name: str, **inputs: Tensor) -> Tensor:
    """Output ``name`` of a transformers model, or of the network below its head.

    Raises
    ------
    CheckpointMismatch
        Neither gives it.
    """
    with torch.no_grad():
        for each in (model, getattr(model, "base_model", None)):
            made = each(**inputs, return_dict=True) if each is not None else None
            if made is not None and (found := made.get(name)) is not None:
                return found
    raise CheckpointMismatch(f"{type(model).__name__} gives no {name}, which the graph gives")


def seeded_images(channels: int, size: int, count: int | None) -> list[Array]:
    """Images (n, channels, size, size) to ask with: rings, which pack well, and noise; several at once where the graph can.

    Parameters
    ----------
    count : int or None
        Images the graph takes at a time; None: any number.
    """
    steps = torch.linspace(-2, 2, size)
    rings = ((steps[:, None].square() + steps[None, :].square()).round() % 3 - 1).expand(1, channels, size, size)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1 if count is not None else 3, channels, size, size, generator=generator)
    return [rings.contiguous().numpy(), noise.numpy()]


def proved(
    path: Path,
    opset: int,
    inputs: Sequence[Array],
    expected: Expected | None,
    *,
    variant: str = "",
    finish: Callable[[Array], Array] = lambda value: value,
) -> Exported:
    """Run a graph of one input and one output, compare it where there is something to compare with, keep a known answer.

    Parameters
    ----------
    inputs : sequence of numpy.ndarray
        The first becomes the known answer's.
    expected : callable or None
        Torch's answer; None where there is none.
    variant : str
        Kind of smaller weights: they may be farther away.
    finish : callable
        What is done to both answers before they are compared.

    Raises
    ------
    ExportFailed
        It is too far from torch.
    OutputNotFinite, GraphMismatch, ModelError
        It does not run, or gives no numbers.
    """
    say(Kind.CONVERT, path.name, "as published")
    session = Session(path, providers=(CPU,))
    (name,), (output,) = session.inputs, session.outputs
    differences = []
    for number, each in enumerate(inputs, 1):
        say(Kind.COMPARE, path.name, f"{number} of {len(inputs)} sizes")
        made = finish(session.run({name: each})[output])
        if expected is not None:
            differences.append(_difference(path.name, made, finish(expected(each))))
    allowed = farthest(variant)
    if not all(each <= allowed for each in differences):
        raise ExportFailed(
            f"{path.name} is not the graph of the weights beside it: it differs from torch by {np.max(differences):.2e}, allowed "
            f"are {allowed:.0e}"
        )
    say(Kind.ANSWER, path.name)
    known = session.run({name: inputs[0]})
    if expected is not None and not variant:
        known = {output: expected(inputs[0])}
    write_golden(golden_path(path), {name: inputs[0]}, known)
    return Exported(path, "published", opset, session.inputs, session.outputs, tuple(differences))


def farthest(variant: str) -> float:
    """How far from torch weights of a kind may be."""
    return FARTHEST.get(variant, FARTHEST_SMALLER)


def _difference(name: str, made: Array, wanted: Array) -> float:
    if made.shape != wanted.shape:
        raise ExportFailed(f"{name} gives {made.shape}, torch {wanted.shape}")
    return float(np.abs(made - wanted).max()) / max(float(np.abs(wanted).max()), 1e-6)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
