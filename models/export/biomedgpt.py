"""BiomedGPT (Zhang et al. 2024, Nature Medicine, doi 10.1038/s41591-024-03185-2): an OFA for images and questions.

Taken are transformers' layout (a folder with ``pytorch_model.bin``, ``vocab.json`` and ``merges.txt``) and fairseq's (a
``.pt`` file with those two files beside it). Graphs ``vision``, ``embed``, ``encoder`` and ``decoder``; of the vocabulary's
tokens for pieces of images and for places none can come out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.byte_pairs import byte_pair_tokenizer
from models.export.checkpoint import read_checkpoint
from models.export.encoder_decoder_graphs import cache_names, export_writer
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import Imported, complete_card
from models.export.language_graphs import export_embedder, export_vision
from models.export.ofa_layout import BINS, CODES, check_config, load_ofa
from models.export.ofa_network import PATCH, ImageCells, Ofa, PromptEncoder
from models.export.released_folder import ReleasedFolder
from models.export.vision_language import noise

SYSTEM = "biomedgpt"
_BASE = 768
"""Width from which the repository's scripts use images of 384 pixels, and 256 below."""

_LONGEST = 128


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert a release.

    Parameters
    ----------
    checkpoint : Path
        Folder, or fairseq's ``.pt`` file. A ``config.json`` beside it may state ``patch_image_size``; where it does not,
        images are of 384 pixels for a width of 768 and more, else of 256 (taokz/BiomedGPT@7ebbfb8: scripts/vqa).
    folder : Path
        Existing folder; gets the graphs, ``tokenizer.json`` and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    released = ReleasedFolder(checkpoint)
    weights = checkpoint if checkpoint.is_file() and checkpoint.suffix == ".pt" else released.weights
    config = released.json("config.json", required=False)
    check_config(config)
    tensors = _floats(weights) if weights.suffix == ".pt" else released.tensors()
    ofa = load_ofa(tensors)
    shape = ofa.shape
    tokenizer = _tokenizer(released.path, shape.vocabulary)
    size = _picture_size(config, ofa)
    graphs = {
        "vision": export_vision(ImageCells(ofa), noise((2, 3, size, size), (1, 3, size, size)), folder),
        "embed": export_embedder(ofa, shape.vocabulary, folder),
        "encoder": _export_prompt_encoder(ofa, size // PATCH, folder),
        "decoder": export_writer(ofa.decoder, 9, folder, key_size=2 * shape.width // shape.heads),
    }
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    tables = _settings(config, size, shape.vocabulary - CODES - BINS)
    # A decoder that repeats the prompt has the other half of its places for that.
    tables["options.decoding"]["maximum_tokens"] = min(_LONGEST, shape.places // 2)
    tables["options.cache"] = {"layers": shape.layers, "heads": shape.heads, "head_size": shape.width // shape.heads}
    card = complete_card(SYSTEM, folder, graphs, files={"tokenizer": "tokenizer.json"}, tables=tables)
    return Imported(SYSTEM, weights, card, tuple(graphs.values()), len(tensors))


def _floats(weights: Path) -> dict[str, Tensor]:
    # fairseq keeps the arguments of the training beside the weights, as an argparse.Namespace: plain data.
    tensors = read_checkpoint(weights, plain=(argparse.Namespace,))
    return {key: value.float() if value.dtype.is_floating_point else value for key, value in tensors.items()}


def _tokenizer(folder: Path, rows: int) -> Tokenizer:
    added = [*(f"<code_{n}>" for n in range(CODES)), *(f"<bin_{n}>" for n in range(BINS))]
    tokenizer = byte_pair_tokenizer(folder, added)
    if tokenizer.get_vocab_size() != rows:
        raise CheckpointMismatch(
            f"vocab.json and the tokens for images and places make {tokenizer.get_vocab_size()}, the weights have {rows}"
        )
    return tokenizer


def _picture_size(config: dict[str, Any], ofa: Ofa) -> int:
    size = int(config.get("patch_image_size") or (384 if ofa.shape.width >= _BASE else 256))
    if size % PATCH or not PATCH <= size <= PATCH * ofa.shape.image_size:
        raise CheckpointMismatch(
            f"config.json: patch_image_size {size} is no multiple of {PATCH} up to {PATCH * ofa.shape.image_size}"
        )
    return size


def _export_prompt_encoder(ofa: Ofa, side: int, folder: Path) -> Exported:
    width, cells = ofa.shape.width, side * side
    inputs = noise((2, cells + 9, width), (1, cells + 12, width), (1, cells + 3, width))
    recipe = Recipe(
        ("inputs_embeds",),
        cache_names("cross", ofa.shape.layers),
        (inputs[0],),
        [(each,) for each in inputs],
        {"inputs_embeds": {0: "batch", 1: "seq"}},
        legacy_first=True,
    )
    return export_graph(PromptEncoder(ofa, side, side), recipe, folder / "encoder.onnx")


def _settings(config: dict[str, Any], size: int, words: int) -> dict[str, Any]:
    """How it writes: five beams, no run of three tokens twice (OFA-Sys/OFA@main: transformers.md), text tokens only.

    The stop token is not forced at the greatest length, as the releases do: text that was cut off would pass for whole.
    """
    start, stop = int(config.get("bos_token_id", 0)), int(config.get("eos_token_id", 2))
    return {
        "options.decoding": {
            "start_tokens": [start],
            "stop_tokens": [stop],
            "seconds": 120.0,
            "no_repeat_ngram": 3,
            "text_tokens": words,
        },
        "options.decoding.strategy": {"kind": "beams", "beams": 5, "length_penalty": 1.0, "early_stopping": True},
        "options.image": {"levels": "own_range", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "options.image.steps": [{"step": "stretch", "size": size, "filter": "pil_bicubic"}],
    }
