"""Weights as 8-bit integers: ONNX Runtime's dynamic quantisation.

Weights are integers with a scale for each output, activations are quantised as they come. Seven of the eight bits are used,
because processors without the newer integer instructions saturate above.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from models.errors import QuantisationRefused
from models.export.graph_export import data_path

TOLERANCE = 0.03
"""Another processor rounds an activation to its neighbour: far more than float noise, far less than a broken kernel."""


def quantised(graph: Path) -> Path:
    """The same graph with 8-bit weights, beside it.

    Raises
    ------
    QuantisationRefused
        It has no weights that can be quantised.
    """
    path = graph.with_name(f"{graph.stem}-int8.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_dynamic(
            graph,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=data_path(graph).exists(),
        )
    nodes = onnx.load(str(path), load_external_data=False).graph.node
    if not any(node.op_type == "MatMulInteger" for node in nodes):
        raise QuantisationRefused(f"{graph.name} holds no weights that can be quantised")
    return path
