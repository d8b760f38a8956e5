"""CLIPSeg in Hugging Face's layout: a folder to one graph with the prompts of the card baked in, and a card.

MedVLSM fine-tunes CLIPSeg on medical images and has released no weights; a site's own fine-tuning of
``CIDAS/clipseg-rd64-refined`` comes in here. The base weights know everyday pictures only.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from models.errors import CheckpointMismatch
from models.export.graph_export import Recipe, export_graph
from models.export.imported import CARDS_FOLDER, Imported, complete_card

SYSTEM = "clipseg"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_TOKENIZER = "tokenizer.json"
_SIZE = 352


class ClipSegPrompts(nn.Module):
    """Image (1, 3, size, size) to logits (1, prompts, size, size) of the prompts baked in."""

    vectors: Tensor

    def __init__(self, model: Any, vectors: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("vectors", vectors)

    def forward(self, image: Tensor) -> Tensor:
        made = []
        for vector in self.vectors:
            logits = self.model(pixel_values=image, conditional_embeddings=vector[None]).logits
            made.append(logits.reshape(1, 1, image.shape[2], image.shape[3]))
        return torch.cat(made, 1)


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert a folder.

    Parameters
    ----------
    checkpoint : Path
        Folder of Hugging Face's layout with ``config.json``, ``model.safetensors`` and ``tokenizer.json``.
    folder : Path
        Existing folder; gets ``main.onnx`` and ``model.toml``. The prompts are those of the card template, one a label.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    model, keys = read_model(checkpoint)
    with torch.no_grad():
        vectors = prompt_vectors(model, prompts(), read_tokenizer(checkpoint))
    size = image_size(checkpoint)
    generator = torch.Generator().manual_seed(0)
    images = [_rings(size), torch.randn(1, 3, size, size, generator=generator)]
    compared = [(image,) for image in images]
    recipe = Recipe(("image",), ("logits",), compared[1], compared)
    graphs = {"main": export_graph(ClipSegPrompts(model, vectors), recipe, folder / "main.onnx")}
    replacements = {
        "stretch = [352, 352]": f"stretch = [{size}, {size}]",
        "size = [352, 352]": f"size = [{size}, {size}]",
    }
    card = complete_card(SYSTEM, folder, graphs, replacements=replacements)
    weights = next(checkpoint / name for name in _WEIGHTS if (checkpoint / name).is_file())
    return Imported(SYSTEM, weights, card, tuple(graphs.values()), keys)


def image_size(folder: Path) -> int:
    """Side of the network's images, by ``preprocessor_config.json``; 352 where that is silent. Positions are interpolated.

    Raises
    ------
    CheckpointMismatch
        The images are not square.
    """
    path = folder / "preprocessor_config.json"
    given = json.loads(path.read_text(encoding="utf-8")).get("size", _SIZE) if path.is_file() else _SIZE
    sides = set(given.values()) if isinstance(given, dict) else {given}
    if len(sides) != 1:
        raise CheckpointMismatch(f"{path.name}: the images are not square")
    return int(sides.pop())


def read_model(folder: Path) -> tuple[Any, int]:
    """The network of a folder and the number of its keys; every key must be there and none left over.

    Raises
    ------
    CheckpointMismatch
        Keys are missing, left over or of another shape, or the folder is none of this kind.
    """
    from transformers import CLIPSegForImageSegmentation

    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise CheckpointMismatch(f"{folder.name} has no {' or '.join(_WEIGHTS)}")
    loader: Any = CLIPSegForImageSegmentation
    try:
        model, info = loader.from_pretrained(
            folder, output_loading_info=True, local_files_only=True, attn_implementation="eager"
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointMismatch(f"{folder.name} is no CLIPSeg: {str(error).splitlines()[0]}") from error
    problems = {name: sorted(map(str, info[name])) for name in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(problems.values()):
        told = "; ".join(f"{name}: {', '.join(found[:5])}" for name, found in problems.items() if found)
        raise CheckpointMismatch(f"the checkpoint has another layout; {told}", problems=problems)
    return model.eval(), len(model.state_dict())


def prompts() -> tuple[str, ...]:
    """Words of the card template, one for each label."""
    content = tomllib.loads((CARDS_FOLDER / f"{SYSTEM}.toml").read_text(encoding="utf-8"))
    return tuple(content["provenance"]["prompts"])


def prompt_vectors(model: Any, texts: tuple[str, ...], tokenizer: Tokenizer) -> Tensor:
    """Conditional embeddings (prompts, width)."""
    longest = model.config.text_config.max_position_embeddings
    rows = [tokenizer.encode(text).ids[:longest] for text in texts]
    # Padding comes after the end, which is what the embedding is read at; what stands there is never looked at.
    ids = torch.full((len(rows), max(map(len, rows))), model.config.text_config.eos_token_id)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    return model.get_conditional_embeddings(batch_size=len(rows), input_ids=ids, attention_mask=mask)


def read_tokenizer(folder: Path) -> Tokenizer:
    """CLIP's tokenizer.

    Raises
    ------
    CheckpointMismatch
        There is none.
    """
    try:
        return Tokenizer.from_file(str(folder / _TOKENIZER))
    except Exception as error:  # the library raises Exception itself
        raise CheckpointMismatch(f"{_TOKENIZER} cannot be read: {error}") from error


def _rings(size: int) -> Tensor:
    steps = torch.linspace(-4, 4, size)
    rings = (steps[:, None].square() + steps[None, :].square()).round() % 4 - 1.5
    return rings.expand(1, 3, size, size).contiguous()
