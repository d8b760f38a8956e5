"""A graph equals its module, or there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.errors import ExportFailed
from models.export.graph_export import Recipe, export_graph


class Pool(nn.Module):
    """The larger of two products with weights of its own."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, values: Tensor) -> Tensor:
        return nn.functional.max_pool1d(values * self.weights, 2)


def recipe() -> Recipe:
    values = torch.linspace(-2, 2, 12).reshape(3, 2, 2)
    compared = [(values,), (values[:1],)]
    return Recipe(("values",), ("pooled",), compared[0], compared, {"values": {0: "n"}}, legacy_first=True)


def test_equal_ones_are_written_with_their_difference(tmp_path: Path) -> None:
    made = export_graph(Pool([1.0, 0.5]), recipe(), tmp_path / "main.onnx")
    assert made.exporter == "legacy" and len(made.differences) == 2 and max(made.differences) < 1e-6


def test_weights_that_are_no_numbers_are_found_out(tmp_path: Path) -> None:
    """Torch pools NaN to NaN, ONNX Runtime to the largest number: what is none differs from all of them."""
    with pytest.raises(ExportFailed, match="differs from torch by nan"):
        export_graph(Pool([float("nan"), 1.0]), recipe(), tmp_path / "main.onnx")
    assert not list(tmp_path.glob("*.onnx"))
