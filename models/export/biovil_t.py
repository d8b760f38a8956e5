"""BioViL-T: the released folder to an image graph with an optional earlier image, and one vector for each phrase.

The folder is that of ``microsoft/BiomedVLP-BioViL-T``: ``biovil_t_image_model_proj_size_128.pt``, ``config.json``,
``vocab.txt`` and the text model's weights. The class that reads one image only, which the published helper builds, is
not what is exported: it never looks at an earlier image.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.biovil_t_network import BioVilTImage, CxrBert
from models.export.checkpoint import load_exactly, read_checkpoint
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import CARDS_FOLDER, Imported, complete_card
from models.export.text_tower import batch, bert_shape, text_weights, tokenizer

SYSTEM = "biovil-t"
IMAGE_FILE = "biovil_t_image_model_proj_size_128.pt"
VECTORS_FILE = "phrases.npz"
_SIZE = 448
_STRIDE = 32
_UNUSED = "cls.predictions."
"""The head that guesses masked words."""


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the released folder.

    Parameters
    ----------
    checkpoint : Path
        The folder, or the image file in it.
    folder : Path
        Existing folder; gets ``main.onnx``, ``phrases.npz`` and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    source = checkpoint if checkpoint.is_dir() else checkpoint.parent
    image_file = source / IMAGE_FILE
    tensors = read_checkpoint(image_file)
    network = image_network(tensors)
    load_exactly(network, tensors)
    phrases, text_keys = phrase_vectors(source)
    np.savez_compressed(folder / VECTORS_FILE, allow_pickle=False, **phrases)
    graphs = {"main": export(network, folder)}
    card = complete_card(SYSTEM, folder, graphs, files={"phrases": VECTORS_FILE})
    return Imported(SYSTEM, image_file, card, tuple(graphs.values()), len(tensors) + text_keys)


def image_network(tensors: Mapping[str, Tensor]) -> BioVilTImage:
    """Network of the sizes the tensors have.

    Raises
    ------
    CheckpointMismatch
        A tensor that tells a size is missing.
    """
    try:
        first = tensors["encoder.encoder.conv1.weight"].shape[0]
        classes = tensors["encoder.encoder.fc.weight"].shape[0]
        width = tensors["encoder.backbone_to_vit.weight"].shape[0]
        joint = tensors["projector.model.3.weight"].shape[0]
    except KeyError as error:
        raise CheckpointMismatch(f"not BioViL-T's image model: no {error}") from error
    found = [re.match(r"encoder\.encoder\.layer(\d)\.(\d+)\.conv1\.weight", key) for key in tensors]
    stages = [int(match[1]) for match in found if match]
    blocks = tuple(stages.count(number) for number in range(1, max(stages, default=0) + 1))
    return BioVilTImage(blocks=blocks, first=first, classes=classes, width=width, joint=joint, grid=_SIZE // _STRIDE)


def export(network: BioVilTImage, folder: Path) -> Exported:
    """Write the image graph and compare it with torch, with and without an earlier image."""
    generator = torch.Generator().manual_seed(0)
    noise = [torch.rand(2, 3, _SIZE, _SIZE, generator=generator) for _ in range(2)]
    ramp = torch.linspace(0, 1, _SIZE).expand(1, 3, _SIZE, _SIZE).contiguous()
    turned = ramp.transpose(2, 3).contiguous()
    both, none = torch.tensor([1.0, 0.0]), torch.zeros(1)
    recipe = Recipe(
        ("current", "prior", "has_prior"),
        ("global", "patches"),
        (noise[0], noise[1], both),
        [(ramp, turned, torch.ones(1)), (ramp, turned, none), (noise[1], noise[0], both)],
        {"current": {0: "count"}, "prior": {0: "count"}, "has_prior": {0: "count"}},
    )
    return export_graph(network, recipe, folder / "main.onnx")


def phrase_vectors(source: Path) -> tuple[dict[str, npt.NDArray[np.float32]], int]:
    """A vector for each side of each class of the card's template, and how many keys the text model has.

    Several phrases of one side: the mean of vectors that are not normalised, then normalised. Punctuation at a phrase's
    end is taken off, as the released code does.

    Raises
    ------
    CheckpointMismatch
        The folder holds no such text model.
    """
    shape, config = bert_shape(source)
    tensors = text_weights(source)
    # Old files keep the positions as a buffer, which says nothing.
    kept = {k: v for k, v in tensors.items() if not k.startswith(_UNUSED) and not k.endswith("position_ids")}
    tower = CxrBert(shape, int(config.get("projection_size", 128)))
    load_exactly(tower, kept)
    tower.eval()
    words = tokenizer(source)

    def vector(phrases: Sequence[str]) -> npt.NDArray[np.float32]:
        ids, mask = batch([phrase.rstrip("!?.") for phrase in phrases], words)
        with torch.no_grad():
            mean = tower(ids, mask).mean(0)
        return torch.nn.functional.normalize(mean, dim=0).numpy()

    template = tomllib.loads((CARDS_FOLDER / f"{SYSTEM}.toml").read_text(encoding="utf-8"))
    made = {}
    for entry in template["options"]["classes"]:
        for side in ("positive", "negative"):
            made[f"{entry['name']}/{side}"] = vector(entry[side])
    return made, len(tensors)
