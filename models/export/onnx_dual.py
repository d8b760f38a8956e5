"""Published graphs of CLIP and SigLIP: an image graph, and the vectors its text graph makes of the card's phrases.

Either ``vision_model.onnx`` and ``text_model.onnx``, or one ``model.onnx`` that takes both; then each half is cut out of it.
The text graph runs once, here, and does not come along.
"""

from __future__ import annotations

import math
import re
import string
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from models.card import file_digest
from models.errors import CheckpointMismatch, ExportFailed
from models.export import onnx_card
from models.export.dual import VECTORS_FILE, save_vectors, vectors_of
from models.export.imported import Imported, complete_card
from models.export.onnx_record import described, tried
from models.export.onnx_source import OnnxFolder
from models.export.published_onnx import (
    fed,
    input_axes,
    keep_output,
    output_axes,
    read_published,
    require_image_axes,
    write_graph,
)
from models.export.published_parity import (
    GOLDEN_SMALLER,
    Array,
    TorchModel,
    farthest,
    proved,
    seeded_images,
    torch_model,
)
from models.image_text_options import ImageTextOptions
from models.session import CPU, Session

PIXELS, WORDS, MASK = "pixel_values", "input_ids", "attention_mask"
"""Inputs of the published graphs."""
_SYSTEMS = {"clip": 77, "siglip": 64}
"""``model_type`` → positions of the text half where the configuration is silent."""
_SCALE_AGREES = 1e-3


@dataclass(frozen=True, slots=True)
class _Halves:
    """Where image and text graph are; ``joint``: in one file, which gives vectors of length one."""

    image: Path
    text: Path
    joint: bool


def convert(source: OnnxFolder, content: Mapping[str, Any], folder: Path) -> Imported:
    """Take over the image graph, and turn the card's phrases into vectors.

    Raises
    ------
    As :func:`models.export.onnx_folder.convert`.
    """
    kind = str(source.config.get("model_type"))
    if kind not in _SYSTEMS:
        raise CheckpointMismatch(
            f"model_type {kind}: known are {', '.join(_SYSTEMS)}; how words become tokens is not known"
        )
    pair = source.has("vision_model") or source.has("text_model")
    parts = ("vision_model", "text_model") if pair else ("model", "model")
    halves = _Halves(source.graph(parts[0]), source.graph(parts[1]), not pair)
    original = torch_model(source.released)
    model = read_published(halves.image)
    axes = input_axes(model, PIXELS)
    channels = source.channels(axes[1] if len(axes) == 4 else None)
    onnx_card.require_flat_input(content, ("projection", "photograph"), channels)
    image = {"levels": onnx_card.levels(content), **source.image(channels)}
    require_image_axes(axes, image["size"])
    images = seeded_images(channels, image["size"], axes[0])
    name = _vector_name(model, "image_embeds", kind)
    keep_output(model, name, (PIXELS,))
    output_axes(model, name)
    target = folder / "main.onnx"
    opset = write_graph(model, target)
    network = original.model
    exported = proved(target, opset, images, _image_answer(network, halves.joint), variant=source.variant)
    embedder = _Phrases(source, halves, kind, network)
    options = _options(content, image, _scale(original, halves, embedder, images, content["options"]))
    save_vectors(vectors_of(options, embedder), folder)
    allowed = farthest(source.variant)
    if embedder.differences and not max(embedder.differences) <= allowed:
        raise ExportFailed(
            f"{halves.text.name} is not the graph of the weights beside it: it differs from torch by "
            f"{max(embedder.differences):.2e}, allowed are {allowed:.0e}"
        )
    published = described(source, halves.image, original, images, exported.differences)
    published["text"] = {
        "file": str(halves.text.relative_to(source.path)),
        "sha256": file_digest(halves.text),
        **({"largest_difference": float(f"{max(embedder.differences):.2e}")} if embedder.differences else {}),
    }
    card = complete_card(
        "onnx-folder",
        folder,
        {"main": exported},
        content=onnx_card.completed(content, options, published),
        files={"phrases": VECTORS_FILE},
        tolerance=GOLDEN_SMALLER if source.variant else None,
    )
    tried(folder)
    weights = {"kind": source.variant} if source.variant else {}
    return Imported("onnx-folder", halves.image, card, (exported,), original.keys, weights=weights, published=published)


def image_features(network: Any, pixels: Tensor) -> Tensor:
    """Vectors (n, joint) of images, not of length one; transformers gives them bare or in an answer."""
    return _bare(network.get_image_features, pixel_values=pixels)


def unit(vectors: Tensor) -> Tensor:
    """At length one."""
    return F.normalize(vectors, dim=-1)


def _bare(ask: Any, **inputs: Tensor) -> Tensor:
    with torch.no_grad():
        made = ask(**inputs)
    return made if isinstance(made, Tensor) else made.pooler_output


def _vector_name(model: Any, name: str, kind: str) -> str:
    """The output with the vector; SigLIP has no projection, so that its pooler's is it."""
    outputs = [each.name for each in model.graph.output]
    return "pooler_output" if name not in outputs and kind == "siglip" else name


def _image_answer(network: Any, joint: bool) -> Any:
    if network is None:
        return None

    def answer(images: Array) -> Array:
        made = image_features(network, torch.from_numpy(images))
        return (unit(made) if joint else made).numpy()

    return answer


def _options(content: Mapping[str, Any], image: Mapping[str, Any], scale: tuple[float, float]) -> dict[str, Any]:
    """The card's options, as the adapter will read them.

    Raises
    ------
    CheckpointMismatch
        They are not like that.
    """
    made = {**content["options"], "image": dict(image), "scale": scale[0], "bias": scale[1]}
    try:
        ImageTextOptions.model_validate(made)
    except ValidationError as error:
        told = [f"options.{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise CheckpointMismatch(f"{onnx_card.FILE}: {'; '.join(told)}") from error
    return made


def _scale(
    original: TorchModel, halves: _Halves, embedder: _Phrases, images: Sequence[Array], options: Mapping[str, Any]
) -> tuple[float, float]:
    """Learnt scale and bias: of the weights, else as the joint graph's logits show them, else as the card says.

    Raises
    ------
    CheckpointMismatch
        Nothing says it, or the card says something else.
    """
    stated = options.get("scale")
    if original.model is not None:
        bias = getattr(original.model, "logit_bias", None)
        found = float(original.model.logit_scale.detach().exp()), 0.0 if bias is None else float(bias.detach())
    elif halves.joint:
        found = _measured_scale(halves.image, embedder, images[0])
    elif stated is not None:
        return float(stated), float(options.get("bias", 0.0))
    else:
        raise CheckpointMismatch(
            f"{onnx_card.FILE}: options.scale is missing: neither graph nor weights here hold the learnt scale (and bias)"
        )
    for name, value in zip(("scale", "bias"), found, strict=True):
        if name in options and not math.isclose(
            float(options[name]), value, rel_tol=_SCALE_AGREES, abs_tol=_SCALE_AGREES
        ):
            raise CheckpointMismatch(f"{onnx_card.FILE}: options.{name} = {options[name]}; the files hold {value:.6g}")
    return found


def _measured_scale(graph: Path, embedder: _Phrases, image: Array) -> tuple[float, float]:
    """The line through cosines and logits of one image and a few phrases."""
    session = Session(graph, providers=(CPU,))
    cosines, logits = [], []
    for words in ("a", "no sign of it", "the image of a chest", "left right"):
        feeds = {PIXELS: image, **{key: value for key, value in embedder.feeds(words).items() if key in session.inputs}}
        made = session.run(feeds, ["logits_per_image", "image_embeds", "text_embeds"])
        cosines.append(float((made["image_embeds"] @ made["text_embeds"].T).squeeze()))
        logits.append(float(made["logits_per_image"].squeeze()))
    terms = np.stack([np.array(cosines), np.ones(4)], 1)
    if embedder.kind == "clip":
        terms = terms[:, :1]
    found, *_ = np.linalg.lstsq(terms, np.array(logits), rcond=None)
    if np.abs(terms @ found - logits).max() > _SCALE_AGREES * max(1.0, np.abs(logits).max()):
        raise CheckpointMismatch("the graph's logits_per_image are no scale and bias of cosines")
    return float(found[0]), float(found[1]) if len(found) > 1 else 0.0


class _Phrases:
    """Phrases to vectors (n, joint) by the published text graph, each held against torch's where that is there.

    Attributes
    ----------
    differences : list of float
        Of each phrase from torch, relative to the largest value.
    """

    def __init__(self, source: OnnxFolder, halves: _Halves, kind: str, network: Any) -> None:
        self.kind = kind
        self.differences: list[float] = []
        self._network = network
        self._joint = halves.joint
        self._words = source.released.tokenizer()
        self._words.no_padding()
        self._words.no_truncation()
        text = source.config.get("text_config") or {}
        self._positions = int(text.get("max_position_embeddings", _SYSTEMS[kind]))
        self._end, self._pad = (text.get(f"{name}_token_id") for name in ("eos", "pad"))
        model = read_published(halves.text)
        name = _vector_name(model, "text_embeds", kind)
        self._length = input_axes(model, WORDS)[1]
        keep_output(model, name, (WORDS, MASK))
        output_axes(model, name)
        self._takes = {each.name for each in fed(model)}
        with tempfile.TemporaryDirectory() as work:
            path = Path(work, "text.onnx")
            write_graph(model, path)
            self._session = Session(path, providers=(CPU,))

    def __call__(self, phrases: Sequence[str]) -> Tensor:
        return torch.cat([self._vector(each) for each in phrases])

    def _vector(self, phrase: str) -> Tensor:
        feeds = self.feeds(phrase)
        given = {key: value for key, value in feeds.items() if key in self._takes}
        made = torch.from_numpy(self._session.run(given)[self._session.outputs[0]])
        if self._network is not None:
            asked = {key: torch.from_numpy(value) for key, value in given.items()}
            wanted = _bare(self._network.get_text_features, **asked)
            wanted = unit(wanted) if self._joint else wanted
            self.differences.append(float((made - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6)))
        return made

    def feeds(self, phrase: str) -> dict[str, Array]:
        """Words of one phrase, with their mask; SigLIP was trained on phrases padded to all positions.

        Raises
        ------
        CheckpointMismatch
            It is longer than the network reads, or no file says what to pad with.
        """
        siglip = self.kind == "siglip"
        ids = self._words.encode(_canonical(phrase) if siglip else phrase).ids
        length = self._length or (self._positions if siglip else len(ids))
        if len(ids) > min(length, self._positions):
            raise CheckpointMismatch(f"a phrase of {len(ids)} words; the network reads {self._positions}: {phrase!r}")
        padding = self._pad if siglip else ids[-1]
        if siglip and (self._end is None or ids[-1] != self._end or padding is None):
            raise CheckpointMismatch(
                "tokenizer.json does not end a phrase with eos_token_id of config.json's text_config, or no pad_token_id is there"
            )
        row = [*ids, *[padding] * (length - len(ids))]
        mask = [1] * len(ids) + [0] * (length - len(ids))
        return {WORDS: np.array([row], np.int64), MASK: np.array([mask], np.int64)}


def _canonical(phrase: str) -> str:
    """As SigLIP's tokenizer writes phrases: small letters, no punctuation, single spaces."""
    bare = phrase.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\s+", " ", bare).strip()
