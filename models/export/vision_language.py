"""What all converters of image-reading language models share: weights into place, three graphs, a card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.export.checkpoint import load_exactly
from models.export.decoder_network import LanguageModel
from models.export.graph_export import Exported
from models.export.imported import Imported, Tables, complete_card
from models.export.language_graphs import export_decoder, export_embedder, export_vision
from models.export.released_folder import ReleasedFolder, part, require_all_used


@dataclass(frozen=True, slots=True)
class Split:
    """A released checkpoint taken apart.

    Attributes
    ----------
    vision, language : nn.Module
        With the keys ``vision_keys`` and ``language_keys`` give them.
    inputs : dict
        Graph name → (module, two or more inputs to compare with); one entry unless the tower needs a graph for each size.
        Pixels alone, or pixels and places for a tower that one graph of serves every size.
    """

    vision: nn.Module
    language: LanguageModel
    inputs: Mapping[str, tuple[nn.Module, list[Tensor] | list[tuple[Tensor, Tensor]]]]
    tables: Tables = field(default_factory=dict)


def load(
    vision: nn.Module,
    language: LanguageModel,
    tensors: Mapping[str, Tensor],
    *,
    vision_keys: Mapping[str, str],
    text: str,
    head: str,
) -> None:
    """Load a released checkpoint exactly; the networks, made on ``meta``, then hold its tensors themselves.

    Parameters
    ----------
    vision_keys : mapping
        Prefix in the checkpoint → prefix in ``vision``.
    text : str
        Prefix of embeddings, layers and norm.
    head : str
        Key of the head's weight; where the file lacks it, the embeddings are the head.

    Raises
    ------
    CheckpointMismatch
        A key is missing or left over, or has another shape.
    """
    require_all_used(tensors, (*vision_keys, text, head))
    image = {
        ours + key.removeprefix(theirs): value
        for theirs, ours in vision_keys.items()
        for key, value in tensors.items()
        if key.startswith(theirs)
    }
    load_exactly(vision, image, assign=True)
    taken = {key: value for key, value in tensors.items() if not key.startswith(tuple(vision_keys))}
    words = {key: value for key, value in part(taken, text).items() if text + key != head}
    words["lm_head.weight"] = tensors.get(head, words.get("embed_tokens.weight", torch.empty(0)))
    load_exactly(language, words, assign=True)
    vision.eval()
    language.eval()


def finish(
    system: str, released: ReleasedFolder, folder: Path, split: Split, keys: int, *, window: int | None = None
) -> Imported:
    """Write the graphs, the vocabulary and the card."""
    shape = split.language.shape
    graphs: dict[str, Exported] = {
        name: export_vision(module, images, folder, name=name) for name, (module, images) in split.inputs.items()
    }
    graphs["embed"] = export_embedder(split.language, shape.vocabulary, folder)
    graphs["decoder"] = export_decoder(split.language, shape, folder)
    released.tokenizer().save(str(folder / "tokenizer.json"), pretty=False)
    cache: dict[str, Any] = {"layers": shape.layers, "heads": shape.kv_heads, "head_size": shape.head_size}
    if window is not None:
        cache["window"] = window
    card = complete_card(
        system,
        folder,
        graphs,
        files={"tokenizer": "tokenizer.json"},
        tables={"options.cache": cache, **split.tables},
    )
    return Imported(system, released.weights, card, tuple(graphs.values()), keys)


def noise(*sizes: tuple[int, ...]) -> list[Tensor]:
    """Inputs to compare with."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=generator) for size in sizes]


def decoding(released: ReleasedFolder, *, maximum: int, stops: tuple[str, ...] = ()) -> Tables:
    """``options.decoding``: greedy; stop tokens by the released files and by name."""
    told = {**released.config, **released.json("generation_config.json", required=False)}
    stop = told.get("eos_token_id", [])
    numbers = [int(each) for each in (stop if isinstance(stop, list) else [stop])]
    tokenizer = released.tokenizer()
    named = [tokenizer.token_to_id(token) for token in stops]
    numbers += [int(number) for number in named if number is not None]
    return {
        "options.decoding": {
            "stop_tokens": sorted(set(numbers)),
            "maximum_tokens": maximum,
            "seconds": 600.0,
        },
        "options.decoding.strategy": {"kind": "greedy"},
    }
