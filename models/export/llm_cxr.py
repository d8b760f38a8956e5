"""LLM-CXR, the half that writes text: GPT-NeoX over words and 1,024 image codes to two graphs and a card.

Its image half turns a radiograph into 256 codes by a VQGAN of its own, which is not converted here: the card takes no image
graph, and the model is not run on images until one is there. Making pictures out of codes is left out on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly
from models.export.graph_export import Exported
from models.export.language_graphs import export_decoder, export_embedder
from models.export.neox_network import NeoxModel, NeoxShape
from models.export.released_folder import ReleasedFolder, part, require_all_used, sizes

_STALE = (".attention.bias", ".attention.masked_bias", ".attention.rotary_emb.inv_freq")


def convert_text_half(checkpoint: Path, folder: Path) -> dict[str, Exported]:
    """``embed.onnx`` and ``decoder.onnx`` of a released folder.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    released = ReleasedFolder(checkpoint)
    network = network_of(released.config)
    load_neox(network, released.tensors())
    return {
        "embed": export_embedder(network, network.shape.vocabulary, folder),
        "decoder": export_decoder(network, network.shape, folder),
    }


def network_of(config: Mapping[str, Any]) -> NeoxModel:
    """Network of the sizes ``config.json`` states.

    Raises
    ------
    CheckpointMismatch
        A size is missing, or attention and feed-forward stand behind each other.
    """
    stated = sizes(config, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    if not config.get("use_parallel_residual", True) or config.get("hidden_act", "gelu") != "gelu":
        raise CheckpointMismatch("attention and feed-forward do not stand beside each other, or are not GELU")
    head = int(stated["hidden_size"]) // int(stated["num_attention_heads"])
    rotary = config.get("rope_parameters") or {}
    share = float(rotary.get("partial_rotary_factor", config.get("rotary_pct", 0.25)))
    return NeoxModel(
        NeoxShape(
            vocabulary=int(stated["vocab_size"]),
            width=int(stated["hidden_size"]),
            layers=int(stated["num_hidden_layers"]),
            heads=int(stated["num_attention_heads"]),
            hidden=int(stated["intermediate_size"]),
            turned=int(head * share),
            theta=float(rotary.get("rope_theta", config.get("rotary_emb_base", 10000.0))),
            epsilon=float(config.get("layer_norm_eps", 1e-5)),
        )
    )


def load_neox(network: NeoxModel, tensors: Mapping[str, Tensor]) -> None:
    """Load released tensors (``gpt_neox.*``, ``embed_out.weight``) exactly."""
    kept = {key: value for key, value in tensors.items() if not key.endswith(_STALE)}
    require_all_used(kept, ("gpt_neox.", "embed_out."))
    own = part(kept, "gpt_neox.")
    load_exactly(network, {**own, **{key: value for key, value in kept.items() if key.startswith("embed_out.")}})
    network.eval()
