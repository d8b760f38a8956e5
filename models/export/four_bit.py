"""Weights as 4-bit integers in blocks: ONNX Runtime's ``MatMulNBits`` (domain ``com.microsoft``, version 1).

Each run of :data:`BLOCK` weights along the summed axis has a scale and a zero point of its own. Only matrix products with a
stored weight are changed; what looks words up, norms and what is multiplied with something computed stay as they are. The
last product, whose answer is the logits, is kept at eight bits: what it rounds no later layer evens out. Block, zero points and
that product's bits were chosen by the words that change in a language model trained for the purpose (docs/text-decoders.md).
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from models.errors import QuantisationRefused
from models.export.graph_export import save_like

TOLERANCE = 0.05
"""What another processor may be off: one that sums these products in float32 was off by 0.013 and 0.030, the float graph by more
than twice and ten times that (a trained decoder of 5 million weights, a random one of 124 million).
"""
BITS = 4
HEAD_BITS = 8
BLOCK = 32
ACCURACY_LEVEL = 4
"""Products may be summed in 8-bit integers: without, a CPU is over ten times slower, and as many words change."""
LOGITS = "logits"
_PASSED_THROUGH = ("Add", "Mul", "Div", "Tanh", "Cast", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Slice")


def quantised(graph: Path) -> Path:
    """The same graph with 4-bit weights, beside it.

    Raises
    ------
    QuantisationRefused
        It has no weights that can be quantised.
    """
    model = onnx.load(str(graph))
    head = head_of(model.graph)
    for number, node in enumerate(model.graph.node):
        # The quantiser goes by names, which exporters need not give.
        node.name = node.name or f"{node.op_type}_{number}"
    model = _in_blocks(model, BITS, [] if head is None else [head.name])
    if head is not None:
        model = _in_blocks(model, HEAD_BITS, [])
    if not any(node.op_type == "MatMulNBits" for node in model.graph.node):
        raise QuantisationRefused(f"{graph.name} holds no weights that can be quantised")
    path = graph.with_name(f"{graph.stem}-int4.onnx")
    save_like(model, path, graph)
    return path


def head_of(graph: onnx.GraphProto) -> onnx.NodeProto | None:
    """The product with a stored weight that the logits come from; None where the graph gives none."""
    made_by = {name: node for node in graph.node for name in node.output}
    stored = {each.name for each in graph.initializer}
    node = made_by.get(LOGITS)
    while node is not None:
        if node.op_type == "MatMul":
            return node if node.input[1] in stored else None
        if node.op_type not in _PASSED_THROUGH:
            return None
        node = next((made_by[name] for name in node.input if name in made_by), None)
    return None


def _in_blocks(model: onnx.ModelProto, bits: int, left: list[str]) -> onnx.ModelProto:
    quantiser = MatMulNBitsQuantizer(
        model,
        bits=bits,
        block_size=BLOCK,
        is_symmetric=False,
        accuracy_level=ACCURACY_LEVEL,
        nodes_to_exclude=left,
    )
    quantiser.process()
    return quantiser.model.model
