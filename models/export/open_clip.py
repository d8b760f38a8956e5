"""Checkpoints of open_clip's layout: BiomedCLIP, UniMed-CLIP and the CLIP below KnoBo.

The image tower is timm's vision transformer (``visual.trunk.``) or open_clip's own (``visual.``); the text tower a BERT with
a projection, or open_clip's own transformer. Which, and every size, is told from the tensors; a key that belongs to neither
is refused. Beside the weights lie ``vocab.txt`` and ``config.json`` of the BERT, or ``tokenizer.json`` of CLIP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from models.errors import CheckpointMismatch
from models.export.bert_network import BertShape
from models.export.checkpoint import read_checkpoint
from models.export.clinical_bert import STALE, ClassTokenText
from models.export.dual import class_vectors, count_blocks, export_image, save_vectors, scale_lines, without
from models.export.graph_export import Exported
from models.export.imported import Imported, complete_card
from models.export.renaming import Renaming
from models.export.text_tower import batch, bert_shape, tokenizer
from models.export.vit_layouts import open_clip_text, open_clip_vision, timm_vision
from models.export.vit_network import Gelu, TextShape, TextTransformer, Vit, VitShape

WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin")
SCALE = "logit_scale"
_WORDS = "embeddings.word_embeddings.weight"
_HEAD = 64
"""Channels of one attention head in every one of these transformers."""


@dataclass(frozen=True, slots=True)
class Tower:
    """One half of a checkpoint: a network, and what its parameters are called."""

    network: nn.Module
    names: Renaming


def weights_of(checkpoint: Path) -> Path:
    """The weights: the file itself, or the one in the folder.

    Raises
    ------
    CheckpointMismatch
        There is none under the names known.
    """
    if checkpoint.is_file():
        return checkpoint
    for name in WEIGHTS:
        if (checkpoint / name).is_file():
            return checkpoint / name
    raise CheckpointMismatch(f"the folder has none of {', '.join(WEIGHTS)}")


def convert_as(system: str, checkpoint: Path, folder: Path, *, gelu: Gelu, context: int, size: int) -> Imported:
    """Convert a checkpoint of open_clip's layout under the card of ``system``.

    Parameters
    ----------
    gelu : str
        Activation of open_clip's own towers; timm's is always the exact one.
    context : int
        Tokens of a BERT; CLIP's own stand in the file.
    size : int
        Side of the images as the card's template has it; the tower's own takes its place.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    file = weights_of(checkpoint)
    tensors = without(read_checkpoint(file), STALE)
    image, text = towers(tensors, file.parent, gelu=gelu)
    load_towers(tensors, image, text)
    embed = embedder(text.network, file.parent, context)
    save_vectors(class_vectors(system, embed), folder)
    graphs = {"main": export_tower(image.network, folder)}
    lines = scale_lines(tensors[SCALE])
    lines |= size_lines(image.network, size)
    card = complete_card(system, folder, graphs, replacements=lines, files={"phrases": "phrases.npz"})
    return Imported(system, file, card, tuple(graphs.values()), len(tensors))


def towers(tensors: Mapping[str, Tensor], folder: Path, *, gelu: Gelu) -> tuple[Tower, Tower]:
    """Both halves, of the sizes the tensors have.

    Raises
    ------
    CheckpointMismatch
        There is no such tower in the file.
    """
    if SCALE not in tensors:
        raise CheckpointMismatch(f"not a checkpoint of open_clip's layout: no {SCALE}")
    return vision_tower(tensors, gelu), text_tower(tensors, folder, gelu)


def load_towers(tensors: Mapping[str, Tensor], image: Tower, text: Tower) -> None:
    """Load both; every key of the file belongs to exactly one of them, but for the scale.

    Raises
    ------
    CheckpointMismatch
    """
    names = set(image.names.shapes(image.network))
    rest = {key: value for key, value in tensors.items() if key != SCALE}
    visual = {key: value for key, value in rest.items() if key in names or key.startswith("visual.")}
    image.names.load(image.network, visual)
    text.names.load(text.network, {key: value for key, value in rest.items() if key not in visual})
    image.network.eval()
    text.network.eval()


def vision_tower(tensors: Mapping[str, Tensor], gelu: Gelu) -> Tower:
    """The image half. Raises CheckpointMismatch."""
    if "visual.trunk.patch_embed.proj.weight" in tensors:
        return _timm_tower(tensors, "visual.trunk.")
    try:
        width, _, patch, _ = tensors["visual.conv1.weight"].shape
        tokens = tensors["visual.positional_embedding"].shape[0]
        hidden = tensors["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
        joint = tensors["visual.proj"].shape[1]
    except KeyError as error:
        raise CheckpointMismatch(f"not an image tower of open_clip: no {error}") from error
    depth = count_blocks(tensors, "visual.transformer.resblocks.", "ln_1.weight")
    shape = VitShape(
        size=round((tokens - 1) ** 0.5) * patch,
        patch=patch,
        width=width,
        depth=depth,
        heads=heads_of(width),
        hidden=hidden,
        joint=joint,
        patch_bias=False,
        pre_norm=True,
        gelu=gelu,
        epsilon=1e-5,
    )
    return Tower(Vit(shape), open_clip_vision())


def _timm_tower(tensors: Mapping[str, Tensor], prefix: str) -> Tower:
    try:
        width, _, patch, _ = tensors[f"{prefix}patch_embed.proj.weight"].shape
        tokens = tensors[f"{prefix}pos_embed"].shape[1]
        hidden = tensors[f"{prefix}blocks.0.mlp.fc1.weight"].shape[0]
        joint = tensors["visual.head.proj.weight"].shape[0]
    except KeyError as error:
        raise CheckpointMismatch(f"not an image tower of timm: no {error}") from error
    shape = VitShape(
        size=round((tokens - 1) ** 0.5) * patch,
        patch=patch,
        width=width,
        depth=count_blocks(tensors, f"{prefix}blocks.", "norm1.weight"),
        heads=heads_of(width),
        hidden=hidden,
        joint=joint,
    )
    return Tower(Vit(shape), timm_vision(prefix, "visual.head.proj."))


def text_tower(tensors: Mapping[str, Tensor], folder: Path, gelu: Gelu) -> Tower:
    """The text half. Raises CheckpointMismatch."""
    words = [key for key in tensors if key.endswith(_WORDS)]
    if len(words) == 1:
        return _bert_tower(tensors, words[0].removesuffix(_WORDS), folder)
    for prefix in ("", "text."):
        if f"{prefix}token_embedding.weight" in tensors:
            return _clip_text_tower(tensors, prefix, gelu)
    raise CheckpointMismatch("there is neither one BERT nor a text tower of open_clip in the file")


def _bert_tower(tensors: Mapping[str, Tensor], prefix: str, folder: Path) -> Tower:
    above = prefix.rstrip(".").rpartition(".")[0]
    projection = f"{above}.proj." if above else "proj."
    try:
        joint = tensors[f"{projection}2.weight"].shape[0]
    except KeyError as error:
        raise CheckpointMismatch(f"the BERT has no projection of two layers: no {error}") from error
    shape = _as_stored(bert_shape(folder)[0], tensors, prefix)
    names = Renaming(((r"transformer\.(.*)", rf"{prefix}\1"), (r"proj\.(.*)", rf"{projection}\1")))
    return Tower(ClassTokenText(shape, joint), names)


def _as_stored(shape: BertShape, tensors: Mapping[str, Tensor], prefix: str) -> BertShape:
    """The sizes of ``config.json``, unless the tensors have others: then the folder's config is another model's."""
    vocabulary, width = tensors[f"{prefix}{_WORDS}"].shape
    if (shape.vocabulary, shape.width) != (vocabulary, width):
        raise CheckpointMismatch(
            f"config.json is of another text model: {shape.vocabulary} words of {shape.width} channels; the file has "
            f"{vocabulary} of {width}"
        )
    return replace(shape, layers=count_blocks(tensors, f"{prefix}encoder.layer.", "intermediate.dense.weight"))


def _clip_text_tower(tensors: Mapping[str, Tensor], prefix: str, gelu: Gelu) -> Tower:
    try:
        vocabulary, width = tensors[f"{prefix}token_embedding.weight"].shape
        positions = tensors[f"{prefix}positional_embedding"].shape[0]
        hidden = tensors[f"{prefix}transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
        joint = tensors[f"{prefix}text_projection"].shape[1]
    except KeyError as error:
        raise CheckpointMismatch(f"not a text tower of open_clip: no {error}") from error
    depth = count_blocks(tensors, f"{prefix}transformer.resblocks.", "ln_1.weight")
    shape = TextShape(vocabulary, positions, width, depth, heads_of(width), hidden, joint, "end", gelu)
    return Tower(TextTransformer(shape), open_clip_text(prefix))


def embedder(network: nn.Module, folder: Path, context: int) -> Embedder:
    """What turns phrases into vectors with the folder's tokenizer."""
    if isinstance(network, ClassTokenText):
        return BertEmbedder(network, tokenizer(folder), context)
    assert isinstance(network, TextTransformer)
    return ClipEmbedder(network, clip_tokenizer(folder))


class BertEmbedder:
    """Phrases through a BERT, padded as in training; padding is masked."""

    def __init__(self, network: ClassTokenText, words: Tokenizer, context: int) -> None:
        self._network, self._words, self._context = network, words, context

    def __call__(self, phrases: Sequence[str]) -> Tensor:
        ids, mask = batch(phrases, self._words, longest=self._context)
        with torch.no_grad():
            return self._network(ids, mask)


class ClipEmbedder:
    """Phrases through CLIP's text transformer, zeros after the end of the text."""

    def __init__(self, network: TextTransformer, words: Tokenizer) -> None:
        self._network, self._words = network, words

    def __call__(self, phrases: Sequence[str]) -> Tensor:
        positions = self._network.shape.positions
        # CLIP's tokenizer cleans white space before it lowers the case.
        cleaned = [re.sub(r"\s+", " ", phrase).strip().lower() for phrase in phrases]
        ids, _ = batch(cleaned, self._words, longest=positions, padded_to=positions)
        with torch.no_grad():
            return self._network(ids)


Embedder = BertEmbedder | ClipEmbedder


def clip_tokenizer(folder: Path) -> Tokenizer:
    """CLIP's byte-pair tokenizer from ``tokenizer.json``, with its marks of beginning and end.

    Raises
    ------
    CheckpointMismatch
        It is missing, cannot be read, or gives no marks.
    """
    path = folder / "tokenizer.json"
    try:
        made = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare exceptions
        raise CheckpointMismatch(f"tokenizer.json cannot be read: {str(error).splitlines()[0]}") from error
    made.no_padding()
    made.no_truncation()
    ids = made.encode("a").ids
    if len(ids) < 3 or max(ids) != ids[-1]:
        raise CheckpointMismatch("tokenizer.json is not CLIP's: its last mark must have the largest number")
    return made


def export_tower(network: nn.Module, folder: Path) -> Exported:
    """Write the image graph and compare it with torch. Raises ExportFailed."""
    return export_image(network, image_size(network), folder)


def image_size(network: nn.Module) -> int:
    """Side of the images a tower takes."""
    assert isinstance(network, Vit)
    return network.shape.size


def size_lines(network: nn.Module, size: int) -> dict[str, str]:
    """Lines of the template that hold the side of the images, with the tower's own."""
    return {f"{name} = {size}": f"{name} = {image_size(network)}" for name in ("size", "short_side")}


def heads_of(width: int) -> int:
    """Attention heads: of 64 channels each, fewer where the network is smaller than one."""
    return max(width // _HEAD, 1) if width >= 2 * _HEAD else max(width // 16, 1)
