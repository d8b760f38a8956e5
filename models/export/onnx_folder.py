"""Ready-made graphs of a Hugging Face folder (``onnx/model.onnx``) to a model: classifiers, backbones, segmentation.

The folder has a ``card.toml`` beside ``config.json`` (:mod:`models.export.onnx_card`); pairs of an image and a text graph are
:mod:`models.export.onnx_dual`'s. Where torch weights lie beside the graph it is held against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.errors import CheckpointMismatch
from models.export import onnx_card, onnx_dual
from models.export.imported import Imported, complete_card
from models.export.onnx_phrases import PIXELS, unit
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
    named_output,
    proved,
    seeded_images,
    torch_model,
)
from models.export.published_reading import POOLS, Reading, vector_reading
from models.session import CPU, Session

_VECTORS = ("image_embeds", "pooler_output", "last_hidden_state")
_KINDS = {"findings": ("projection", "photograph"), "embedding": ("projection", "photograph"), "masks": ("projection",)}
_OPTIONS = {
    "findings": ("activation", "calibration", "left_out", "findings"),
    "embedding": ("vector", "pool"),
    "masks": ("left_out", "smallest_share"),
}
"""Output → what the card says of it."""


def convert(checkpoint: Path, folder: Path, variant: str = "") -> Imported:
    """Take over a folder's graph.

    Parameters
    ----------
    checkpoint : Path
        Folder with ``config.json``, ``preprocessor_config.json``, ``onnx/`` and ``card.toml``.
    folder : Path
        Existing folder; gets ``main.onnx``, its known answer and ``model.toml``.
    variant : str
        Kind of smaller weights to take, as the file is called (``int8``, ``fp16`` …); empty: those it was trained with.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, OutsideData, GraphMismatch, ExportFailed, CardInvalid, OutputNotFinite
    """
    source = OnnxFolder(checkpoint, variant)
    content = onnx_card.read_card(checkpoint)
    if content["family"] == "image_text":
        return onnx_dual.convert(source, content, folder)
    output = content["options"].get("output")
    if content["family"] != "feed_forward" or output not in _KINDS:
        raise CheckpointMismatch(
            f"{onnx_card.FILE}: family is feed_forward with options.output {', '.join(_KINDS)}, or image_text"
        )
    onnx_card.require_options(content, _OPTIONS[output])
    half = output == "embedding" and source.has("vision_model") and not source.has("model")
    path = source.graph("vision_model" if half else "model")
    model = read_published(path)
    axes = input_axes(model, PIXELS)
    channels = source.channels(axes[1] if len(axes) == 4 else None)
    onnx_card.require_flat_input(content, _KINDS[output], channels)
    image = {"levels": onnx_card.levels(content), **source.image(channels)}
    require_image_axes(axes, image["size"])
    images = seeded_images(channels, image["size"], axes[0])
    name = _chosen(content, [each.name for each in model.graph.output])
    keep_output(model, name, (PIXELS,))
    output_axes(model, name)
    target = folder / "main.onnx"
    write_graph(model, target)
    reading, options = _read(source, content, name, _shape(target, images[0]), image)
    reading.append(model)
    opset = write_graph(model, target)
    original = torch_model(source.released)
    exported = proved(target, opset, images, _expected(original, reading, half), variant=variant)
    published = described(source, path, original, images, exported.differences)
    card = complete_card(
        SYSTEM,
        folder,
        {"main": exported},
        content=onnx_card.completed(content, options, published),
        tolerance=GOLDEN_SMALLER if variant else None,
    )
    tried(folder)
    weights = {"kind": source.variant} if source.variant else {}
    return Imported(SYSTEM, path, card, (exported,), original.keys, weights=weights, published=published)


def _chosen(content: Mapping[str, Any], outputs: list[str]) -> str:
    """Which of the graph's outputs is read.

    Raises
    ------
    CheckpointMismatch
        Several might be, and the card names none.
    """
    if content["options"]["output"] != "embedding":
        return "logits"
    stated = content["options"].get("vector")
    fits = [each for each in _VECTORS if each in outputs]
    if stated is None and len(fits) != 1:
        raise CheckpointMismatch(
            f"{onnx_card.FILE}: options.vector is missing: one of {', '.join(fits or outputs)}; a pooler of a backbone may "
            "never have been trained"
        )
    return str(stated or fits[0])


def _shape(graph: Path, image: Array) -> tuple[int, ...]:
    session = Session(graph, providers=(CPU,))
    return session.run({session.inputs[0]: image})[session.outputs[0]].shape


def _read(
    source: OnnxFolder, content: Mapping[str, Any], name: str, shape: tuple[int, ...], image: dict[str, Any]
) -> tuple[Reading, dict[str, Any]]:
    """How the output is read, and the card's options."""
    options = content["options"]
    if options["output"] == "embedding":
        pool = str(options.get("pool", ""))
        reading = vector_reading(name, len(shape), pool) if pool in ("", *POOLS) else None
        if reading is None:
            raise CheckpointMismatch(
                f"{onnx_card.FILE}: options.pool: {name} has {len(shape)} axes; first_token and mean_tokens are for three, "
                "mean_map for four, none for two"
            )
        return reading, {"output": "embedding", "preprocessing": "published", "images": {"published": image}}
    if len(shape) < 2 or shape[1] != len(source.labels):
        raise CheckpointMismatch(
            f"config.json names {len(source.labels)} labels; the graph gives logits of shape {shape}"
        )
    if options["output"] == "findings":
        if len(shape) != 2:
            raise CheckpointMismatch(f"the graph gives logits of shape {shape}, no score for each class")
        made = {
            "output": "findings",
            "activation": onnx_card.activation(content, source.config),
            "calibration": options.get("calibration", "none"),
            "image": image,
            "findings": onnx_card.findings(content, source.labels),
        }
        return Reading(name), made
    return _masks(source, content, shape, image)


def _masks(
    source: OnnxFolder, content: Mapping[str, Any], shape: tuple[int, ...], image: dict[str, Any]
) -> tuple[Reading, dict[str, Any]]:
    """Semantic segmentation: a pixel is the class's whose logit is largest, at the size of the network's image."""
    size, labels = image["size"], source.labels
    if len(shape) != 4 or shape[2] != shape[3] or size % shape[2] or len(labels) < 2:
        raise CheckpointMismatch(f"the graph gives logits of shape {shape} of images of {size} pixels")
    names = [str(each.get("name")) for each in content.get("labels", []) if isinstance(each, dict)]
    onnx_card.require_all_named(names, content, labels, "labels")
    channels = tuple(labels.index(name) for name in names)
    made = {"output": "masks", "image": image, "threshold": 0.5}
    if "smallest_share" in content["options"]:
        made["smallest_share"] = content["options"]["smallest_share"]
    return Reading("logits", "leads", size, size / shape[2], channels), made


def _expected(original: TorchModel, reading: Reading, half: bool) -> Any:
    """Torch's answer to images; None where there is no torch. ``half``: of the graph of a pair that sees."""
    network = original.model
    if network is None:
        return None

    def answer(images: Array) -> Array:
        pixels = torch.from_numpy(images)
        if reading.output == "image_embeds" and hasattr(network, "get_image_features"):
            made = onnx_dual.image_features(network, pixels)
            value = made if half else unit(made)
        else:
            value = named_output(network.vision_model if half else network, reading.output, pixel_values=pixels)
        with torch.no_grad():
            return reading.of(value).numpy()

    return answer
