"""What is written down of graphs that were taken over, and the last look at the finished model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.card import file_digest
from models.export.onnx_source import OnnxFolder
from models.export.published_parity import Array, TorchModel
from models.external_data import external_files
from models.model import Model


def described(
    source: OnnxFolder, path: Path, original: TorchModel, images: Sequence[Array], differences: tuple[float, ...]
) -> dict[str, Any]:
    """What was taken from where, and what it was compared with: for report and card."""
    import transformers

    within = path.parent.relative_to(source.path)
    files = {str(within / each): file_digest(path.parent / each) for each in external_files(path)}
    compared = f"model.safetensors, transformers {transformers.__version__}" if original.model is not None else ""
    return {
        "file": str(within / path.name),
        "sha256": file_digest(path),
        **({"data": files} if files else {}),
        "weights": source.variant,
        "compared_with": compared,
        **({} if compared else {"not_compared": original.reason}),
        "sizes": ["x".join(map(str, each.shape)) for each in images],
        **({"largest_difference": float(f"{max(differences):.2e}")} if differences else {}),
    }


def tried(folder: Path) -> None:
    """Load the finished model as the node does and ask for its known answer. Raises CardInvalid, SelfTestFailed."""
    model = Model(folder)
    model.warm()
    model.self_test()
