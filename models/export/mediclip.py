"""MediCLIP: a CLIP checkpoint and adapters trained at a site to one graph and a card.

Nobody has released adapters; :mod:`models.export.train_anomaly` trains them on a few normal images. Both text vectors are
baked into the graph, so that nothing of the text tower is needed to run it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from models.errors import CheckpointMismatch, CheckpointUnsafe
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.clip_network import Clip, clip_shape_of
from models.export.graph_export import Recipe, export_graph
from models.export.imported import Imported, complete_card
from models.export.mediclip_network import LAYERS, Adapters, MediClip, Prompts, text_vectors

SYSTEM = "mediclip"
CLIP_NAMES = ("clip.safetensors", "clip.pt")
TRAINED = "checkpoints.pkl"
TOKENIZER = "tokenizer.json"
_UNUSED = frozenset({"input_resolution", "context_length", "vocab_size"})
"""Numbers that OpenAI's files carry among the tensors."""


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert a folder of MediCLIP.

    Parameters
    ----------
    checkpoint : Path
        Folder with CLIP ViT-L/14 (``clip.safetensors`` or ``clip.pt``, a state dict with OpenAI's names), CLIP's
        ``tokenizer.json``, and ``checkpoints.pkl`` as training leaves it (``adapter_state_dict``, ``prompt_state_dict``).
        Smaller ones of the layout convert, too.
    folder : Path
        Existing folder; gets ``main.onnx`` and ``model.toml``. Its operating point is a guess until a site sets one.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    clip, count = read_clip(checkpoint)
    trained = _read_trained(checkpoint / TRAINED)
    layers = layers_of(clip)
    adapters = Adapters(clip.visual.conv1.weight.shape[0], clip.visual.proj.shape[1], len(layers))
    load_exactly(adapters, trained["adapter_state_dict"])
    prompts = Prompts(clip.token_embedding.weight.shape[1])
    load_exactly(prompts, trained["prompt_state_dict"])
    with torch.no_grad():
        text = text_vectors(clip, prompts, read_tokenizer(checkpoint))
    shape = clip_shape_of(clip.state_dict())
    network = MediClip(clip, adapters, text, layers, shape.size).eval()
    generator = torch.Generator().manual_seed(0)
    images = [_ramp(shape.size), *(torch.randn(n, 3, shape.size, shape.size, generator=generator) for n in (2, 3))]
    recipe = Recipe(("image",), ("map",), (images[1],), [(image,) for image in images], {"image": {0: "count"}})
    graphs = {"main": export_graph(network, recipe, folder / "main.onnx")}
    card = complete_card(SYSTEM, folder, graphs, replacements={"size = 224": f"size = {shape.size}"})
    keys = count + sum(len(state) for state in trained.values())
    return Imported(SYSTEM, checkpoint / TRAINED, card, tuple(graphs.values()), keys)


def read_clip(folder: Path) -> tuple[Clip, int]:
    """CLIP of a folder, and how many keys its file has.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe
    """
    found = [folder / name for name in CLIP_NAMES if (folder / name).is_file()]
    if not found:
        raise CheckpointMismatch(f"{folder.name} has no {' or '.join(CLIP_NAMES)}")
    tensors = read_checkpoint(found[0])
    clip = Clip(clip_shape_of(tensors))
    kept = {key: value.float() for key, value in tensors.items() if key not in _UNUSED}
    load_exactly(clip, kept)
    return clip.eval(), len(kept)


def read_tokenizer(folder: Path) -> Tokenizer:
    """CLIP's tokenizer.

    Raises
    ------
    CheckpointMismatch
        There is none.
    """
    try:
        return Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # the library raises Exception itself
        raise CheckpointMismatch(f"{TOKENIZER} cannot be read: {error}") from error


def layers_of(clip: Clip) -> tuple[int, ...]:
    """Layers whose tokens are looked at: 12, 18 and 24 of 24, the same places of a shallower one."""
    depth = len(clip.visual.transformer.resblocks)
    return tuple(max(1, depth * layer // LAYERS[-1]) for layer in LAYERS)


def _read_trained(path: Path) -> dict[str, Mapping[str, Tensor]]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointMismatch(f"{path.name} cannot be read: {error}") from error
    except Exception as error:  # the unpickler's own errors have no common root; none of them ran anything
        raise CheckpointUnsafe(f"{path.name} holds more than tensors: {str(error).splitlines()[0]}") from error
    names = ("adapter_state_dict", "prompt_state_dict")
    if not isinstance(content, Mapping) or set(content) != set(names):
        raise CheckpointMismatch(f"{path.name} must hold {' and '.join(names)}, and nothing else")
    return {name: content[name] for name in names}


def _ramp(size: int) -> Tensor:
    steps = torch.linspace(-1.7, 2, size)
    return ((steps[:, None] + steps[None, :]) / 2).expand(1, 3, size, size).contiguous()
