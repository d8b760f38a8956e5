"""One torch module to one ONNX graph, proved equal: dynamo exporter, else legacy, else refused with both reasons."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from models.card import Graph, file_digest
from models.errors import ExportFailed
from models.export.steps import Kind, say
from models.golden import write_golden
from models.session import CPU, Session

OPSET = 20
LARGEST_FILE = 1_800_000_000
"""Bytes of weights from which they are written beside the graph."""
TOLERANCE = 1e-4
"""Largest difference from torch allowed, relative to the largest output."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A graph, and how it compares.

    Attributes
    ----------
    exporter : str
        ``dynamo`` or ``legacy``.
    differences : tuple of float
        Largest difference from torch for each set of inputs compared, relative to the largest output.
    """

    path: Path
    exporter: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    differences: tuple[float, ...]

    @property
    def data(self) -> Path | None:
        """The file of its weights, where they do not fit into the graph's own."""
        data = data_path(self.path)
        return data if data.exists() else None

    @property
    def golden(self) -> Path:
        """Torch's answer to the first inputs compared, beside the graph."""
        return golden_path(self.path)

    def as_graph(self) -> Graph:
        """The same as a card states it."""
        return Graph(
            file=self.path.name,
            sha256=file_digest(self.path),
            inputs=self.inputs,
            outputs=self.outputs,
            opset=self.opset,
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a module becomes a graph.

    Attributes
    ----------
    traced : tuple of Tensor
        Arguments to trace with. Every size that is dynamic should be two or more, and no two alike: ones are frozen.
    compared : sequence of tuple of Tensor
        Arguments to compare with, at least two sets; other dynamic sizes than the traced ones among them.
    dynamic : dict
        Input name → {axis: name of the size}.
    multiples : int
        Dynamic sizes are multiples of this.
    following : frozenset of str
        Sizes that follow from others (a mask is as long as cache and new tokens together).
    legacy_first : bool
        Try the older exporter first: for modules without control flow it writes the same graph in a fraction of the time.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    traced: tuple[Tensor, ...]
    compared: Sequence[tuple[Tensor, ...]]
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    tolerance: float = TOLERANCE
    multiples: int = 1
    following: frozenset[str] = frozenset()
    legacy_first: bool = False


def export_graph(module: nn.Module, recipe: Recipe, path: Path) -> Exported:
    """Write ``module`` to ``path`` and compare it with torch.

    Raises
    ------
    ExportFailed
        Neither exporter writes a graph that equals the module; the message holds both reasons.
    """
    module.eval()
    if len(recipe.compared) < 2:
        raise ValueError("a graph is compared with torch for at least two sets of inputs")
    reasons = []
    exporters = (_by_legacy, _by_dynamo) if recipe.legacy_first else (_by_dynamo, _by_legacy)
    for exporter in exporters:
        name = exporter.__name__.removeprefix("_by_")
        say(Kind.CONVERT, path.name, f"{name} exporter")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exporter(module, recipe, path)
            strip_traces(path)
            differences = _differences(module, recipe, path)
        except Exception as error:  # noqa: BLE001  (exporters raise whatever their passes raise; all of it is a reason)
            reasons.append(
                f"{name}: {type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0][:300]}"
            )
            continue
        if all(each <= recipe.tolerance for each in differences):
            say(Kind.ANSWER, path.name)
            _write_golden(module, recipe, path)
            return Exported(path, name, OPSET, recipe.inputs, recipe.outputs, differences)
        reasons.append(f"{name}: differs from torch by {np.max(differences):.2e}, allowed are {recipe.tolerance:.0e}")
    for left in (path, data_path(path)):
        left.unlink(missing_ok=True)
    raise ExportFailed(f"{path.name}: {'; '.join(reasons)}", reasons=reasons)


def data_path(graph: Path) -> Path:
    """Where the weights of a graph lie that is too large for one file; its name stands in the graph."""
    return graph.with_name(f"{graph.name}.data")


def save_like(model: onnx.ModelProto, path: Path, original: Path) -> None:
    """Write a graph with its weights beside it where those of ``original`` lie beside that one, else whole."""
    beside = data_path(original).exists()
    name = data_path(path).name if beside else None
    onnx.save(model, str(path), save_as_external_data=beside, location=name, size_threshold=1024)


def golden_path(graph: Path) -> Path:
    """Where the known answer of a graph lies."""
    return graph.with_name(f"{graph.stem}-golden.npz")


def _write_golden(module: nn.Module, recipe: Recipe, path: Path) -> None:
    feeds = {name: value.numpy() for name, value in zip(recipe.inputs, recipe.compared[0], strict=True)}
    answers = dict(zip(recipe.outputs, (value.numpy() for value in _answers(module, recipe.compared[0])), strict=True))
    write_golden(golden_path(path), feeds, answers)


def _answers(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    with torch.no_grad():
        made = module(*arguments)
    return made if isinstance(made, tuple) else (made,)


def _dim(size: str, recipe: Recipe) -> Any:
    if size in recipe.following:
        return torch.export.Dim.AUTO
    free = torch.export.Dim(size, min=1, max=4096)
    return recipe.multiples * free if recipe.multiples > 1 else free


def _by_dynamo(module: nn.Module, recipe: Recipe, path: Path) -> None:
    names = {size: _dim(size, recipe) for axes in recipe.dynamic.values() for size in axes.values()}
    shapes = tuple(
        {axis: names[size] for axis, size in recipe.dynamic[name].items()} if name in recipe.dynamic else None
        for name in recipe.inputs
    )
    torch.onnx.export(
        module,
        recipe.traced,
        str(path),
        input_names=list(recipe.inputs),
        output_names=list(recipe.outputs),
        dynamic_shapes=_as_called(module, shapes),
        opset_version=OPSET,
        dynamo=True,
        external_data=_too_large(module),
        verbose=False,
    )


def _as_called(module: nn.Module, shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """``shapes`` with those of the arguments that ``forward`` gathers (``*past``) in a tuple of their own."""
    taken = list(inspect.signature(module.forward).parameters.values())
    named = len(taken) - 1
    if not taken or taken[-1].kind is not inspect.Parameter.VAR_POSITIONAL:
        return shapes
    return (*shapes[:named], tuple(shapes[named:]))


def _too_large(module: nn.Module) -> bool:
    """Whether the weights go into a file of their own: one message of the format ends at 2 GiB."""
    return sum(each.numel() * each.element_size() for each in module.state_dict().values()) > LARGEST_FILE


def _by_legacy(module: nn.Module, recipe: Recipe, path: Path) -> None:
    if _too_large(module):
        raise ValueError("it writes no weights beside the graph")
    torch.onnx.export(
        module,
        recipe.traced,
        str(path),
        input_names=list(recipe.inputs),
        output_names=list(recipe.outputs),
        dynamic_axes={name: dict(axes) for name, axes in recipe.dynamic.items()},
        opset_version=OPSET,
        dynamo=False,
    )


def strip_traces(path: Path) -> None:
    """Remove what names the machine it was written on: traces of source files."""
    model = onnx.load(str(path), load_external_data=False)
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    model.doc_string = ""
    onnx.save(model, str(path))


def _differences(module: nn.Module, recipe: Recipe, path: Path) -> tuple[float, ...]:
    session = Session(path, providers=(CPU,))
    found = []
    for number, arguments in enumerate(recipe.compared, 1):
        say(Kind.COMPARE, path.name, f"{number} of {len(recipe.compared)} sizes")
        expected = _answers(module, arguments)
        feeds = {name: value.numpy() for name, value in zip(recipe.inputs, arguments, strict=True)}
        given = session.run(feeds, recipe.outputs)
        worst = 0.0
        for name, value in zip(recipe.outputs, expected, strict=True):
            if given[name].shape != tuple(value.shape):
                raise ExportFailed(
                    f"{path.name}: {name} has shape {given[name].shape}, torch gives {tuple(value.shape)}"
                )
            scale = max(float(value.abs().max()), 1e-6)
            # Not `max`, for which NaN, which a module may answer to a bad checkpoint, is no more than anything.
            worst = float(np.max([worst, float((torch.from_numpy(given[name]) - value).abs().max()) / scale]))
        found.append(worst)
    return tuple(found)
