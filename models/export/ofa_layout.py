"""OFA's two published layouts, fairseq's and transformers', and the sizes a checkpoint's own tensors tell.

Names after OFA-Sys/OFA@0535b63: transformers/src/transformers/models/ofa/modeling_ofa.py, and, for fairseq's,
taokz/BiomedGPT@7ebbfb8: models/ofa/unify_transformer.py with OFA-Sys/OFA@0305cb7: models/ofa/unify_transformer_layer.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly
from models.export.ofa_network import Ofa, OfaShape

CODES, BINS = 8192, 1000
"""Tokens for pieces of images and for places, behind those for text."""
FIXED: Mapping[str, Any] = {
    "scale_embedding": False,
    "encoder_normalize_before": True,
    "decoder_normalize_before": True,
    "normformer": True,
    "layernorm_embedding": True,
    "patch_layernorm_embedding": True,
    "code_layernorm_embedding": True,
    "add_type_embedding": True,
    "share_decoder_input_output_embed": True,
    "entangle_position_embedding": False,
    "activation_function": "gelu",
    "attn_scale_factor": 2,
}
"""What ``config.json`` must not state otherwise: another architecture than the released one."""

_SHARED = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "decoder.output_projection.weight")
_STALE = frozenset({"encoder.version", "decoder.version"})
_FAIRSEQ = (
    (r"(decoder\.layers\.\d+)\.encoder_attn(_layer_norm)?\.", r"\1.cross_attn\2."),
    (r"(decoder\.layers\.\d+)\.(self|cross)_attn_ln\.", r"\1.\2_attn_mid_layer_norm."),
    (r"(encoder\.layers\.\d+)\.attn_ln\.", r"\1.self_attn_mid_layer_norm."),
    (r"((?:en|de)coder\.layers\.\d+)\.ffn_layernorm\.", r"\1.ffn_layer_norm."),
)


def our_key(key: str) -> str:
    """The name a tensor of either layout has here, which is transformers'."""
    for pattern, name in _FAIRSEQ:
        key = re.sub(f"^{pattern}", name, key)
    return key


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse a configuration of another architecture.

    Raises
    ------
    CheckpointMismatch
        With everything that is stated otherwise.
    """
    other = [f"{name} = {config[name]}" for name, value in FIXED.items() if config.get(name, value) != value]
    if config.get("model_type", "ofa") != "ofa":
        other.insert(0, f"model_type = {config['model_type']}")
    if other:
        raise CheckpointMismatch(f"config.json states another architecture: {', '.join(other)}", problems=other)


def shape_of(tensors: Mapping[str, Tensor]) -> OfaShape:
    """Sizes of the network that has such tensors, by :func:`our_key`.

    Raises
    ------
    CheckpointMismatch
        What tells them is missing.
    """
    try:
        vocabulary, width = tensors[_SHARED[0]].shape
        distances, heads = tensors["decoder.token_rel_pos_table_list.0.weight"].shape
        return OfaShape(
            vocabulary=vocabulary,
            width=width,
            heads=heads,
            hidden=tensors["decoder.layers.0.fc1.weight"].shape[0],
            encoder_layers=_count(tensors, "encoder.layers"),
            layers=_count(tensors, "decoder.layers"),
            positions=tensors["decoder.embed_positions.weight"].shape[0],
            places=tensors["decoder.token_rp_bucket"].shape[0],
            token_size=(distances + 1) // 2,
            image_size=round((tensors["decoder.embed_image_positions.weight"].shape[0] - 1) ** 0.5),
            written=tensors["decoder.image_position_idx"].shape[0],
            blocks=tuple(_count(tensors, f"encoder.embed_images.layer{n}") for n in (1, 2, 3)),
            first=tensors["encoder.embed_images.conv1.weight"].shape[0],
        )
    except (KeyError, ValueError) as error:
        raise CheckpointMismatch(f"the checkpoint has another layout; missing: {error.args[0]}") from error


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    numbers = [int(found[1]) for key in tensors if (found := re.match(rf"{re.escape(prefix)}\.(\d+)\.", key))]
    return max(numbers, default=-1) + 1


def load_ofa(tensors: Mapping[str, Tensor]) -> Ofa:
    """The network with a checkpoint's tensors, every one of them in its place.

    The shared embeddings may stand in the file once; counters of batches, which training alone needs, may be left out.

    Raises
    ------
    CheckpointMismatch
        A key is missing or left over, or has another shape.
    """
    ours = {our_key(key): value for key, value in tensors.items() if key not in _STALE}
    shared = next((ours[key] for key in _SHARED if key in ours), None)
    if shared is not None:
        ours = {**dict.fromkeys(_SHARED, shared), **ours}
    _require_one_embedding(ours)
    with torch.device("meta"):
        ofa = Ofa(shape_of(ours))
    for key in ofa.state_dict():
        if key.endswith(".num_batches_tracked"):
            ours.setdefault(key, torch.zeros((), dtype=torch.int64))
    load_exactly(ofa, ours, assign=True)
    return ofa.eval()


def _require_one_embedding(tensors: Mapping[str, Tensor]) -> None:
    held = [tensors[key] for key in _SHARED if key in tensors]
    if any(each.shape != held[0].shape or not torch.equal(each, held[0]) for each in held[1:]):
        raise CheckpointMismatch("embeddings of encoder, decoder and head differ; OFA shares them")
