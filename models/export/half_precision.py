"""Weights in half precision (IEEE 754 binary16): what is multiplied with them is half, everything else stays float32.

That is the division torch's autocast makes: matrix products and embedding tables in half, norms, softmax and sums in float32,
where half would overflow. On a GPU the products are faster and the weights take half the memory; ONNX Runtime's CPU provider
has no such kernels, converts the weights back as it loads them, and is no faster: there the gain is the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.errors import QuantisationRefused
from models.export.graph_export import save_like

TOLERANCE = 0.01
_LEAST_VALUES = 256
_LARGEST_HALF = float(np.finfo(np.float16).max)


def halved(graph: Path) -> Path:
    """The same graph with weights in half precision, beside it.

    Raises
    ------
    QuantisationRefused
        It multiplies with no weights, or one of them does not fit into half precision.
    """
    model = onnx.load(str(graph))
    weights = {each.name: each for each in model.graph.initializer}
    nodes, halves = [], set()
    for node in model.graph.node:
        data = _weight_of(node, weights)
        if data is None:
            nodes.append(node)
            continue
        nodes += _in_half(node, data)
        halves.add(node.input[data])
    if not halves:
        raise QuantisationRefused(f"{graph.name} holds no weights that can be halved")
    used = {name for node in model.graph.node if _weight_of(node, weights) is None for name in node.input}
    kept = [each for name, each in weights.items() if name not in halves or name in used]
    made = [_half(weights[name]) for name in sorted(halves)]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend([*kept, *made])
    path = graph.with_name(f"{graph.stem}-fp16.onnx")
    save_like(model, path, graph)
    return path


def _weight_of(node: onnx.NodeProto, weights: dict[str, TensorProto]) -> int | None:
    """Which input of a product or look-up is a weight."""
    places = {"MatMul": (0, 1), "Gemm": (1,), "Gather": (0,)}.get(node.op_type, ())
    for place in places:
        found = weights.get(node.input[place])
        if found is not None and found.data_type == TensorProto.FLOAT and np.prod(found.dims) >= _LEAST_VALUES:
            return place
    return None


def _in_half(node: onnx.NodeProto, data: int) -> list[onnx.NodeProto]:
    """The node on halves, with a conversion before and behind it."""
    half = onnx.NodeProto()
    half.CopyFrom(node)
    half.input[data] = f"{node.input[data]}.half"
    before = []
    # A look-up's other input is numbers of rows; the product's are what comes in, and for Gemm what is added.
    others = [] if node.op_type == "Gather" else [n for n, name in enumerate(node.input) if n != data and name]
    for place in others:
        half.input[place] = f"{node.output[0]}.half{place}"
        before.append(helper.make_node("Cast", [node.input[place]], [half.input[place]], to=TensorProto.FLOAT16))
    half.output[0] = f"{node.output[0]}.half"
    behind = helper.make_node("Cast", [half.output[0]], [node.output[0]], to=TensorProto.FLOAT)
    return [*before, half, behind]


def _half(weight: TensorProto) -> TensorProto:
    values = numpy_helper.to_array(weight)
    largest = float(np.abs(values).max(initial=0.0))
    if not largest <= _LARGEST_HALF:
        raise QuantisationRefused(f"a weight of {largest:.3g} does not fit into half precision")
    return numpy_helper.from_array(values.astype(np.float16), f"{weight.name}.half")
