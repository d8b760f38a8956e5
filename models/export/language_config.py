"""Sizes of language models and vision towers as released ``config.json`` files state them, of transformers 4 and 5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.errors import CheckpointMismatch
from models.export.decoder_network import DecoderShape
from models.export.released_folder import sizes
from models.export.rotary import UNSCALED, RotaryScaling

Config = Mapping[str, Any]


def decoder_shape(config: Config, *, kind: str) -> DecoderShape:
    """Shape of a text model.

    Parameters
    ----------
    kind : str
        ``llama`` (also Mistral), ``qwen2`` or ``qwen3``.

    Raises
    ------
    CheckpointMismatch
        A size is missing, or positions are stretched in a way that is not known.
    """
    stated = sizes(config, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    heads = int(stated["num_attention_heads"])
    theta, scaling, sections = _rotary(config)
    window = config.get("sliding_window") if config.get("use_sliding_window", kind == "llama") else None
    layers = int(stated["num_hidden_layers"])
    return DecoderShape(
        vocabulary=int(stated["vocab_size"]),
        width=int(stated["hidden_size"]),
        layers=layers,
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_dim") or stated["hidden_size"] // heads),
        hidden=int(stated["intermediate_size"]),
        theta=theta,
        epsilon=float(config.get("rms_norm_eps", 1e-6)),
        query_bias=kind == "qwen2",
        query_norm=kind == "qwen3",
        sliding=(True,) * layers if window else (),
        local_theta=theta,
        scaling=scaling,
        sections=sections,
    )


def gemma_shape(config: Config) -> DecoderShape:
    """Shape of Gemma 3's text model; what its files leave out are the values of its 4-billion version.

    Raises
    ------
    CheckpointMismatch
        A size is missing.
    """
    stated = sizes(config, "hidden_size", "num_hidden_layers", "intermediate_size")
    layers = int(stated["num_hidden_layers"])
    types = config.get("layer_types")
    pattern = int(config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or 6)
    sliding = (
        [each == "sliding_attention" for each in types] if types else [(n + 1) % pattern != 0 for n in range(layers)]
    )
    parameters = config.get("rope_parameters") or {}
    full = parameters.get("full_attention", {})
    local = parameters.get("sliding_attention", {})
    stretched = full or config.get("rope_scaling") or {}
    return DecoderShape(
        vocabulary=int(config.get("vocab_size", 262208)),
        width=int(stated["hidden_size"]),
        layers=layers,
        heads=int(config.get("num_attention_heads", 8)),
        kv_heads=int(config.get("num_key_value_heads", 4)),
        head_size=int(config.get("head_dim", 256)),
        hidden=int(stated["intermediate_size"]),
        theta=float(full.get("rope_theta") or config.get("rope_theta") or 1e6),
        epsilon=float(config.get("rms_norm_eps", 1e-6)),
        activation="gelu_tanh",
        query_norm=True,
        gemma=True,
        sliding=tuple(sliding),
        local_theta=float(local.get("rope_theta") or config.get("rope_local_base_freq") or 1e4),
        query_scale=float(config.get("query_pre_attn_scalar", 256)) ** -0.5,
        scaling=_scaling(stretched),
    )


def _rotary(config: Config) -> tuple[float, RotaryScaling, tuple[int, ...]]:
    """Base, stretching and sections; in ``rope_parameters`` since version 5, before in two entries."""
    stated = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(stated.get("rope_theta") or config.get("rope_theta") or 10000.0)
    return theta, _scaling(stated), tuple(int(n) for n in stated.get("mrope_section", ()))


def _scaling(stated: Config) -> RotaryScaling:
    kind = stated.get("rope_type") or stated.get("type") or "default"
    if kind in ("default", "mrope"):
        return UNSCALED
    if kind == "linear":
        return RotaryScaling("linear", float(stated["factor"]))
    if kind == "llama3":
        return RotaryScaling(
            "llama3",
            float(stated["factor"]),
            float(stated["low_freq_factor"]),
            float(stated["high_freq_factor"]),
            int(stated["original_max_position_embeddings"]),
        )
    raise CheckpointMismatch(f"config.json: positions stretched by {kind!r} are not known")
