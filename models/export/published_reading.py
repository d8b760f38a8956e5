"""What is read off a published graph's output: as it is, a vector out of its tokens or map, or how far each label leads.

The same is done twice: as nodes behind the graph, and in torch to compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional as F

How = Literal["as_it_is", "flat", "first_token", "mean_tokens", "mean_map", "leads"]
POOLS: tuple[str, ...] = ("first_token", "mean_tokens", "mean_map")


@dataclass(frozen=True, slots=True)
class Reading:
    """How an output becomes the model's.

    Attributes
    ----------
    output : str
        Name among the published graph's outputs.
    how : str
        ``as_it_is``; ``flat``: (n, width, 1, 1) to (n, width); ``first_token`` and ``mean_tokens`` of (n, tokens, width),
        ``mean_map`` of (n, width, rows, columns): a vector; ``leads``: logits (n, classes, rows, columns) to
        (n, channels, size, size), how far each of ``channels`` is above the best of all other classes: more than 0 where it
        is the largest.
    size : int
        Of the network's image, for ``leads``.
    factor : float
        By which the map of logits is enlarged for it.
    """

    output: str
    how: How = "as_it_is"
    size: int = 0
    factor: float = 1.0
    channels: Sequence[int] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        """Name of the output after it."""
        return self.output if self.how == "as_it_is" else {"leads": "leads"}.get(self.how, "embedding")

    def append(self, model: onnx.ModelProto) -> None:
        """Put it behind the graph, whose one output is ``output``."""
        if self.how == "as_it_is":
            return
        nodes, constants = self._nodes()
        graph = model.graph
        graph.node.extend(nodes)
        graph.initializer.extend(numpy_helper.from_array(value, f"reading:{name}") for name, value in constants.items())
        rank = 4 if self.how == "leads" else 2
        del graph.output[:]
        axes = [f"{self.name}_{axis}" for axis in range(rank)]
        graph.output.append(helper.make_tensor_value_info(self.name, TensorProto.FLOAT, axes))

    def _nodes(self) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
        given, made, node = self.output, self.name, helper.make_node
        if self.how == "flat":
            return [node("Flatten", [given], [made], axis=1)], {}
        if self.how == "first_token":
            first = np.array(0, np.int64)
            return [node("Gather", [given, "reading:first"], [made], axis=1)], {"first": first}
        if self.how in ("mean_tokens", "mean_map"):
            turn = [node("Transpose", [given], ["reading:turned"], perm=[0, 2, 1])] if self.how == "mean_tokens" else []
            mean = node("GlobalAveragePool", ["reading:turned" if turn else given], ["reading:mean"])
            return [*turn, mean, node("Flatten", ["reading:mean"], [made], axis=1)], {}
        return self._lead_nodes()

    def _lead_nodes(self) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
        node = helper.make_node
        large = "reading:large"
        nodes = [
            node(
                "Resize",
                [self.output, "reading:region", "reading:factors"],
                [large],
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            ),
            node("TopK", [large, "reading:two"], ["reading:best", "reading:places"], axis=1),
            node("Gather", ["reading:best", "reading:at0"], ["reading:first"], axis=1),
            node("Gather", ["reading:best", "reading:at1"], ["reading:second"], axis=1),
            node("Gather", [large, "reading:channels"], ["reading:chosen"], axis=1),
            node("Equal", ["reading:chosen", "reading:first"], ["reading:leads"]),
            node("Where", ["reading:leads", "reading:second", "reading:first"], ["reading:rival"]),
            node("Sub", ["reading:chosen", "reading:rival"], [self.name]),
        ]
        constants = {
            "region": np.zeros(0, np.float32),
            "factors": np.array([1, 1, self.factor, self.factor], np.float32),
            "two": np.array([2], np.int64),
            "at0": np.array([0], np.int64),
            "at1": np.array([1], np.int64),
            "channels": np.array(self.channels, np.int64),
        }
        return nodes, constants

    def of(self, value: Tensor) -> Tensor:
        """The same in torch."""
        if self.how == "flat":
            return value.flatten(1)
        if self.how == "first_token":
            return value[:, 0]
        if self.how == "mean_tokens":
            return value.mean(1)
        if self.how == "mean_map":
            return value.mean((2, 3))
        return self._leads(value) if self.how == "leads" else value

    def _leads(self, value: Tensor) -> Tensor:
        large = F.interpolate(value, size=(self.size, self.size), mode="bilinear", align_corners=False)
        best = large.topk(2, 1).values
        chosen = large[:, list(self.channels)]
        return chosen - best[:, 1:2].where(chosen == best[:, :1], best[:, :1])


def vector_reading(output: str, rank: int, pool: str) -> Reading | None:
    """How ``output`` of ``rank`` axes becomes a vector; None where ``pool`` does not fit it."""
    if pool:
        return Reading(output, pool) if rank == (4 if pool == "mean_map" else 3) else None  # type: ignore[arg-type]
    fits: dict[int, Any] = {2: "as_it_is", 4: "flat"}
    if rank == 4 and output != "pooler_output":
        return None
    return Reading(output, fits[rank]) if rank in fits else None
