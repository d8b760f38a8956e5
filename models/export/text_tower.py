"""A released text model's folder: sizes, vocabulary and weights, and what its sentences become."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.bert_network import BertShape
from models.export.checkpoint import read_checkpoint

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def bert_shape(folder: Path) -> tuple[BertShape, dict[str, Any]]:
    """Sizes by ``config.json``, and all of it.

    Raises
    ------
    CheckpointMismatch
        There is none, or a size is missing.
    """
    config = _json(folder / "config.json")
    try:
        shape = BertShape(
            vocabulary=int(config["vocab_size"]),
            width=int(config["hidden_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            hidden=int(config["intermediate_size"]),
            positions=int(config["max_position_embeddings"]),
            types=int(config["type_vocab_size"]),
            epsilon=float(config.get("layer_norm_eps", 1e-12)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointMismatch(f"config.json does not describe a BERT: {error}") from error
    return shape, config


def weights_file(folder: Path) -> Path:
    """The file of the text model's weights, safetensors before the older form.

    Raises
    ------
    CheckpointMismatch
        There is neither.
    """
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointMismatch(f"the folder has neither {' nor '.join(_WEIGHTS)}")


def text_weights(folder: Path) -> dict[str, Tensor]:
    """Tensors of the text model. Raises as :func:`weights_file` and ``read_checkpoint``."""
    return read_checkpoint(weights_file(folder))


def tokenizer(folder: Path) -> Tokenizer:
    """Word-piece tokenizer of ``vocab.txt``, lower-casing as ``tokenizer_config.json`` says (yes where it is silent).

    Raises
    ------
    CheckpointMismatch
        There is no vocabulary.
    """
    vocabulary = folder / "vocab.txt"
    if not vocabulary.is_file():
        raise CheckpointMismatch("the folder has no vocab.txt")
    settings = _json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    lower = bool(settings.get("do_lower_case", True))
    made = BertWordPieceTokenizer(str(vocabulary), lowercase=lower)
    return made._tokenizer


def batch(
    sentences: Sequence[str], by: Tokenizer, *, longest: int | None = None, padded_to: int = 0
) -> tuple[Tensor, Tensor]:
    """Ids and mask (sentences, tokens) of sentences, padded with id 0 to the longest of them.

    Parameters
    ----------
    longest : int, optional
        Tokens kept of a sentence; the last of them is its own last, as the original tokenizers cut.
    padded_to : int
        Tokens to pad to at least.
    """
    encoded = [_cut(by.encode(sentence).ids, longest) for sentence in sentences]
    length = max(padded_to, *(len(each) for each in encoded))
    ids, mask = (torch.zeros(len(encoded), length, dtype=torch.int64) for _ in range(2))
    for row, each in enumerate(encoded):
        ids[row, : len(each)] = torch.tensor(each)
        mask[row, : len(each)] = 1
    return ids, mask


def _cut(ids: list[int], longest: int | None) -> list[int]:
    return ids if longest is None or len(ids) <= longest else [*ids[: longest - 1], ids[-1]]


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointMismatch(f"{path.name} cannot be read: {error}") from error
