"""ONNX graphs as somebody published them: looked at before a runtime opens them, cut down to one output, written anew.

Nothing of the file is believed: links, data outside of its folder, operators of a library of one's own and opsets of long
ago are refused, and the checker of onnx reads it before ONNX Runtime does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import TensorProto

from models.card import lies_inside
from models.errors import CheckpointMismatch, CheckpointUnsafe, GraphMismatch, OutsideData
from models.export.graph_export import LARGEST_FILE, data_path, strip_traces
from models.external_data import external_files

DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
"""Operators of ONNX itself and those built into ONNX Runtime; every other domain needs a library."""
OPSETS = range(11, 27)
"""Those that ONNX Runtime 1.31 runs."""
Axis = int | None
"""A length, or None where the graph leaves it open."""


def read_published(path: Path) -> onnx.ModelProto:
    """The graph in ``path`` with its weights in memory.

    Raises
    ------
    OutsideData
        The file, or one it takes data from, is a link or lies elsewhere.
    CheckpointUnsafe
        It calls operators that only a library of somebody's own has.
    GraphMismatch
        It is no sound ONNX graph, or of an opset that is not run here.
    """
    require_plain(path)
    for location in external_files(path):
        if not lies_inside(location):
            raise OutsideData(f"{path.name} takes data from outside of its folder", file=location)
        require_plain(path.parent / PurePosixPath(location), within=path.parent)
    try:
        model = onnx.load(str(path), load_external_data=False)
        _require_known_operators(model, path.name)
        _require_opset(model, path.name)
        onnx.checker.check_model(str(path))
        onnx.load_external_data_for_model(model, str(path.parent))
    except (DecodeError, onnx.checker.ValidationError, ValueError, OSError) as error:
        raise GraphMismatch(
            f"{path.name} is no sound ONNX graph: {str(error).strip().splitlines()[0][:300]}"
        ) from error
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def require_plain(path: Path, *, within: Path | None = None) -> None:
    """Refuse a link, one of its folders that is one below ``within``, and what is no file.

    Raises
    ------
    OutsideData
    """
    above = within or path.parent
    steps = [path, *(each for each in path.parents if above in each.parents)]
    if any(each.is_symlink() for each in steps):
        raise OutsideData(f"{path.name} is a link; fetch the files themselves (`hf download ID --local-dir FOLDER`)")
    if not path.is_file():
        raise OutsideData(f"{path.name} is not there, or no file", file=path.name)


def opset_of(model: onnx.ModelProto) -> int:
    """Version of ONNX's own operators."""
    return max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0)


def input_axes(model: onnx.ModelProto, name: str) -> tuple[Axis, ...]:
    """Lengths of an input of the graph.

    Raises
    ------
    CheckpointMismatch
        There is none of that name, or it takes no float32 (int64 for words).
    """
    for each in fed(model):
        if each.name == name:
            kind = TensorProto.FLOAT if name == "pixel_values" else TensorProto.INT64
            if each.type.tensor_type.elem_type != kind:
                raise CheckpointMismatch(f"the graph's {name} is no {TensorProto.DataType.Name(kind).lower()}")
            return _axes(each)
    raise CheckpointMismatch(f"the graph has no input {name}; it has {', '.join(each.name for each in fed(model))}")


def require_image_axes(axes: tuple[Axis, ...], size: int) -> None:
    """Refuse a graph that takes other pictures than the configuration makes.

    Raises
    ------
    CheckpointMismatch
    """
    if len(axes) != 4 or axes[0] not in (None, 1) or any(each not in (None, size) for each in axes[2:]):
        told = " x ".join("?" if each is None else str(each) for each in axes)
        raise CheckpointMismatch(
            f"the graph takes {told}; preprocessor_config.json makes one picture of {size} x {size} pixels"
        )


def output_axes(model: onnx.ModelProto, name: str) -> tuple[Axis, ...]:
    """Lengths of an output, as far as the graph states them; empty where it states nothing.

    Raises
    ------
    CheckpointMismatch
        It gives no float32.
    """
    each = next(each for each in model.graph.output if each.name == name)
    if each.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise CheckpointMismatch(f"the graph's {name} is no float32; take a file whose inputs and outputs are")
    return _axes(each)


def fed(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Inputs that have to be fed: old graphs list their weights among them."""
    weights = {each.name for each in model.graph.initializer}
    return [each for each in model.graph.input if each.name not in weights]


def keep_output(model: onnx.ModelProto, output: str, inputs: Iterable[str]) -> None:
    """Cut the graph down to what gives ``output``; it stays the same computation.

    Raises
    ------
    CheckpointMismatch
        There is no such output, or it depends on other inputs than ``inputs``.
    """
    graph = model.graph
    if output not in {each.name for each in graph.output}:
        raise CheckpointMismatch(
            f"the graph gives no {output}; it gives {', '.join(each.name for each in graph.output)}"
        )
    needed, kept = {output}, set()
    for number in range(len(graph.node) - 1, -1, -1):
        if needed.intersection(each for each in graph.node[number].output if each):
            kept.add(number)
            needed.update(_read_by(graph.node[number]))
    _keep(graph.node, lambda number, _: number in kept)
    for named in (graph.initializer, graph.input):
        _keep(named, lambda _, each: each.name in needed)
    _keep(graph.sparse_initializer, lambda _, each: each.values.name in needed)
    _keep(graph.output, lambda _, each: each.name == output)
    del graph.value_info[:]
    del graph.quantization_annotation[:]
    if unknown := {each.name for each in fed(model)} - set(inputs):
        raise CheckpointMismatch(f"{output} needs {', '.join(sorted(unknown))}, which nobody feeds here")


def write_graph(model: onnx.ModelProto, path: Path) -> int:
    """Write the graph without traces of its maker's machine, large weights beside it; gives its opset."""
    size = sum(each.ByteSize() for each in model.graph.initializer)
    if size > LARGEST_FILE:
        onnx.save(model, str(path), save_as_external_data=True, location=data_path(path).name)
    else:
        onnx.save(model, str(path))
    strip_traces(path)
    return opset_of(model)


def _require_known_operators(model: onnx.ModelProto, name: str) -> None:
    own = {each.domain for each in model.functions}
    nodes = [model.graph.node, *(each.node for each in model.functions)]
    used = {node.domain for each in nodes for node in _all_nodes(each)}
    if unknown := sorted(used - DOMAINS - own):
        raise CheckpointUnsafe(
            f"{name} calls operators of {', '.join(unknown)}; only those of ONNX and ONNX Runtime itself are run, and "
            "libraries of operators never loaded"
        )


def _require_opset(model: onnx.ModelProto, name: str) -> None:
    if (opset := opset_of(model)) not in OPSETS:
        raise GraphMismatch(f"{name} is of opset {opset}; those from {OPSETS[0]} to {OPSETS[-1]} are run")


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for inner in _subgraphs(node):
            yield from _all_nodes(inner.node)


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [graph for each in node.attribute for graph in ([each.g] if each.HasField("g") else each.graphs)]


def _read_by(node: onnx.NodeProto) -> set[str]:
    """Names a node reads, those its branches take from outside among them."""
    names = {each for each in node.input if each}
    for inner in _subgraphs(node):
        made = {out for each in inner.node for out in each.output} | {each.name for each in inner.initializer}
        read = {name for each in inner.node for name in _read_by(each)} | {each.name for each in inner.output}
        names |= read - made - {each.name for each in inner.input}
    return names


def _keep(items: Any, wanted: Callable[[int, Any], bool]) -> None:
    """Leave out of a repeated field what is not wanted."""
    for number in range(len(items) - 1, -1, -1):
        if not wanted(number, items[number]):
            del items[number]


def _axes(value: onnx.ValueInfoProto) -> tuple[Axis, ...]:
    shape = value.type.tensor_type.shape
    return tuple(each.dim_value if each.HasField("dim_value") and each.dim_value > 0 else None for each in shape.dim)
