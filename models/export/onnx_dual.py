"""Published graphs of CLIP and SigLIP: an image graph, and the vectors its text graph makes of the card's phrases.

Either ``vision_model.onnx`` and ``text_model.onnx``, or one ``model.onnx`` that takes both; then each half is cut out of it.
The text graph runs once, here, and does not come along.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from models.card import file_digest
from models.errors import CheckpointMismatch, ExportFailed
from models.export import onnx_card
from models.export.dual import VECTORS_FILE, save_vectors, vectors_of
from models.export.imported import Imported, complete_card
from models.export.onnx_phrases import PIXELS, SYSTEMS, Halves, Phrases, bare, unit, vector_name
from models.export.onnx_record import described, tried
from models.export.onnx_source import SYSTEM, OnnxFolder
from models.export.published_onnx import (
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

_SCALE_AGREES = 1e-3


def convert(source: OnnxFolder, content: Mapping[str, Any], folder: Path) -> Imported:
    """Take over the image graph, and turn the card's phrases into vectors.

    Raises
    ------
    As :func:`models.export.onnx_folder.convert`.
    """
    kind = str(source.config.get("model_type"))
    if kind not in SYSTEMS:
        raise CheckpointMismatch(
            f"model_type {kind}: known are {', '.join(SYSTEMS)}; how words become tokens is not known"
        )
    pair = source.has("vision_model") or source.has("text_model")
    parts = ("vision_model", "text_model") if pair else ("model", "model")
    halves = Halves(source.graph(parts[0]), source.graph(parts[1]), not pair)
    original = torch_model(source.released)
    model = read_published(halves.image)
    axes = input_axes(model, PIXELS)
    channels = source.channels(axes[1] if len(axes) == 4 else None)
    onnx_card.require_flat_input(content, ("projection", "photograph"), channels)
    image = {"levels": onnx_card.levels(content), **source.image(channels)}
    require_image_axes(axes, image["size"])
    images = seeded_images(channels, image["size"], axes[0])
    name = vector_name(model, "image_embeds", kind)
    keep_output(model, name, (PIXELS,))
    output_axes(model, name)
    target = folder / "main.onnx"
    opset = write_graph(model, target)
    network = original.model
    exported = proved(target, opset, images, _image_answer(network, halves.joint), variant=source.variant)
    embedder = Phrases(source, halves, kind, network)
    options = _options(content, image, _scale(original, halves, embedder, images, content["options"]))
    save_vectors(vectors_of(options, embedder), folder)
    published = described(source, halves.image, original, images, exported.differences)
    published["text"] = _text_record(source, halves, embedder.differences)
    card = complete_card(
        SYSTEM,
        folder,
        {"main": exported},
        content=onnx_card.completed(content, options, published),
        files={"phrases": VECTORS_FILE},
        tolerance=GOLDEN_SMALLER if source.variant else None,
    )
    tried(folder)
    weights = {"kind": source.variant} if source.variant else {}
    return Imported(SYSTEM, halves.image, card, (exported,), original.keys, weights=weights, published=published)


def _text_record(source: OnnxFolder, halves: Halves, differences: Sequence[float]) -> dict[str, Any]:
    """What the phrases' vectors were made with.

    Raises
    ------
    ExportFailed
        It is too far from torch.
    """
    worst, allowed = max(differences, default=0.0), farthest(source.variant)
    if not worst <= allowed:
        raise ExportFailed(
            f"{halves.text.name} is not the graph of the weights beside it: it differs from torch by {worst:.2e}, allowed are "
            f"{allowed:.0e}"
        )
    record = {"file": str(halves.text.relative_to(source.path)), "sha256": file_digest(halves.text)}
    return {**record, **({"largest_difference": float(f"{worst:.2e}")} if differences else {})}


def image_features(network: Any, pixels: Tensor) -> Tensor:
    """Vectors (n, joint) of images, not of length one; transformers gives them bare or in an answer."""
    return bare(network.get_image_features, pixel_values=pixels)


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
    original: TorchModel, halves: Halves, embedder: Phrases, images: Sequence[Array], options: Mapping[str, Any]
) -> tuple[float, float]:
    """Learnt scale and bias: of the weights, else as the joint graph's logits show them, else as the card says.

    Raises
    ------
    CheckpointMismatch
        Nothing says it, or the card says something else.
    """
    stated = {name: options[name] for name in ("scale", "bias") if name in options}
    if wrong := [
        name for name, value in stated.items() if isinstance(value, bool) or not isinstance(value, (int, float))
    ]:
        raise CheckpointMismatch(f"{onnx_card.FILE}: options.{wrong[0]} is no number")
    if original.model is not None:
        bias = getattr(original.model, "logit_bias", None)
        found = float(original.model.logit_scale.detach().exp()), 0.0 if bias is None else float(bias.detach())
    elif (measured := _measured_scale(halves, embedder, images[0])) is not None:
        found = measured
    elif "scale" in stated and ("bias" in stated or embedder.kind == "clip"):
        return float(stated["scale"]), float(stated.get("bias", 0.0))
    else:
        wanted = "options.scale is" if embedder.kind == "clip" else "options.scale and options.bias are"
        raise CheckpointMismatch(
            f"{onnx_card.FILE}: {wanted} missing: neither graph nor weights here hold what was learnt"
        )
    for name, value in zip(("scale", "bias"), found, strict=True):
        if not math.isclose(stated.get(name, value), value, rel_tol=_SCALE_AGREES, abs_tol=_SCALE_AGREES):
            raise CheckpointMismatch(f"{onnx_card.FILE}: options.{name} = {stated[name]}; the files hold {value:.6g}")
    return found


def _measured_scale(halves: Halves, embedder: Phrases, image: Array) -> tuple[float, float] | None:
    """The line through cosines and logits of one image and a few phrases; None where the graph gives no logits.

    Raises
    ------
    CheckpointMismatch
        They do not lie on one.
    """
    session = Session(halves.image, providers=(CPU,)) if halves.joint else None
    if session is None or "logits_per_image" not in session.outputs:
        return None
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
