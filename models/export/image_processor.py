"""``preprocessor_config.json`` of transformers to the named steps of :class:`models.projection_input.ProjectionInput`.

Only what those steps do exactly, as transformers' own processors do it with Pillow, is taken; every other key that is
switched on is refused by its name. Defaults are each processor's own: files of old leave them out.

Source: ``image_processing_backends.py`` and ``models/*/image_processing_pil_*.py`` of huggingface/transformers@v5.24.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.errors import CheckpointMismatch

FILE = "preprocessor_config.json"
_FILTERS = {0: "pillow_nearest", 1: "pillow_lanczos", 2: "pillow_bilinear", 3: "pillow_bicubic"}
"""Pillow's number of a filter → name of the resizer."""
_HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
_ALL = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "do_center_crop": False}
_CROPPED = {"do_center_crop": True, "crop_size": 224, "size": {"shortest_edge": 224}, "default_to_square": False}
_PROCESSORS: Mapping[str, Mapping[str, Any]] = {
    "ViT": {**_ALL, **_HALF, "size": 224, "resample": 2, "default_to_square": True},
    "DeiT": {**_ALL, **_HALF, "size": 256, "resample": 3, "default_to_square": True, "do_center_crop": True}
    | {"crop_size": 224},
    "CLIP": {**_ALL, **_CLIP, **_CROPPED, "resample": 3},
    "Bit": {**_ALL, **_CLIP, **_CROPPED, "resample": 3},
    "Siglip": {**_ALL, **_HALF, "size": {"height": 224, "width": 224}, "resample": 3, "default_to_square": False},
    "ConvNext": {**_ALL, **_HALF, "size": {"shortest_edge": 384}, "resample": 3, "default_to_square": False}
    | {"crop_pct": 224 / 256},
    "Segformer": {**_ALL, **_IMAGENET, "size": 512, "resample": 2, "default_to_square": True},
}
"""Processor → its defaults."""
_SAID = (
    *("image_processor_type", "feature_extractor_type", "processor_class", "data_format", "input_data_format"),
    *("_valid_processor_keys", "return_tensors", "device", "disable_grouping", "do_convert_rgb", "crop_pct"),
    *("do_reduce_labels", "reduce_labels"),
)
"""Keys that change nothing here: names, layouts of arrays, and what is done to training masks."""
_FIXED = {"data_format": ("channels_first", "ChannelDimension.FIRST")}
_WARPED_FROM = 384
"""Size from which ConvNeXt's processor stretches in place of cropping."""


def network_image_of(given: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """The card's table for the network's image, all but ``levels``.

    Parameters
    ----------
    given : mapping
        Content of ``preprocessor_config.json``.
    channels : int
        Of the network.

    Raises
    ------
    CheckpointMismatch
        A key asks for what is not done exactly here; the message names it.
    """
    name = _processor(given)
    told = {**_PROCESSORS[name], **{key: value for key, value in given.items() if value is not None}}
    _require_known(told, channels)
    if not told["do_resize"]:
        raise _refused("do_resize", False, "images of a hospital come in all sizes")
    if isinstance(told["resample"], bool) or told["resample"] not in _FILTERS:
        raise _refused("resample", told["resample"], "known are 0, 1, 2 and 3, Pillow's filters")
    made = {**_cut(name, told), "resize": _FILTERS[told["resample"]], "channels": channels}
    return {**made, **_range(told, channels)}


def _processor(given: Mapping[str, Any]) -> str:
    """Whose rules hold: the type without its ending, e.g. ``ViT``."""
    stated = str(given.get("image_processor_type") or given.get("feature_extractor_type") or "")
    name = stated.removesuffix("Fast").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if name not in _PROCESSORS or name == stated:
        known = ", ".join(f"{each}ImageProcessor" for each in _PROCESSORS)
        raise _refused("image_processor_type", stated or None, f"known are {known}")
    return name


def _require_known(told: Mapping[str, Any], channels: int) -> None:
    known = {*_SAID, *(key for each in _PROCESSORS.values() for key in each), "image_mean", "image_std"}
    for key, value in told.items():
        if key not in known and value is not False:
            raise _refused(key, value, "no step here does that")
        if key in _FIXED and value not in _FIXED[key]:
            raise _refused(key, value, "the graph takes channels first")
    if channels == 1 and told.get("do_convert_rgb"):
        raise _refused("do_convert_rgb", True, "the graph takes one channel")


def _cut(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Size and crop."""
    whole, stretched = _size(told)
    if name == "ConvNext":
        if stretched or told["do_center_crop"]:
            key = "size" if stretched else "do_center_crop"
            raise _refused(key, told[key], "ConvNeXt's processor has its own crop by the shortest edge")
        if whole >= _WARPED_FROM:
            return {"size": whole, "crop": "none"}
        return _middle("short_side", int(whole / told["crop_pct"]), whole)
    if "crop_pct" in told:
        raise _refused("crop_pct", told["crop_pct"], "only ConvNeXt's processor reads it")
    if not told["do_center_crop"]:
        if not stretched:
            raise _refused("size", told["size"], "without a crop every image would have another size")
        return {"size": whole, "crop": "none"}
    size = _square("crop_size", told.get("crop_size"))
    if size > whole:
        raise _refused("crop_size", told["crop_size"], f"larger than the image of {whole} it is cut from")
    if stretched and size == whole:
        return {"size": whole, "crop": "none"}
    return _middle("stretched_centre" if stretched else "short_side", whole, size)


def _middle(crop: str, whole: int, size: int) -> dict[str, Any]:
    return {"size": size, "crop": crop, "corner": "before", "short_side": whole}


def _size(told: Mapping[str, Any]) -> tuple[int, bool]:
    """Pixels, and whether both sides get as many (else the shorter one)."""
    size = told["size"]
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        return _number("size", size["shortest_edge"]), False
    if isinstance(size, int) and not told["default_to_square"]:
        return _number("size", size), False
    return _square("size", size), True


def _square(key: str, size: Any) -> int:
    sides = (
        set(size.values()) if isinstance(size, Mapping) and set(size) == {"height", "width"} else {_number(key, size)}
    )
    if len(sides) != 1:
        raise _refused(key, size, "the network's image is a square here")
    return _number(key, sides.pop())


def _number(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _refused(key, value, "a number of pixels is needed")
    return value


def _range(told: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """From 256 grey levels to the network's numbers."""
    high = 255.0 * float(told["rescale_factor"]) if told["do_rescale"] else 255.0
    made: dict[str, Any] = {"low": 0.0, "high": high if abs(high - 1.0) > 1e-6 else 1.0}
    if not told["do_normalize"]:
        return made
    for key, name in (("image_mean", "mean"), ("image_std", "deviation")):
        values = told[key] if isinstance(told[key], list) else [told[key]]
        if len(values) not in (1, channels) or not all(isinstance(each, (int, float)) for each in values):
            raise _refused(key, told[key], f"one number, or {channels}")
        made[name] = [float(each) for each in values]
    if len(made["mean"]) != len(made["deviation"]):
        made = {**made, **{name: made[name] * (channels // len(made[name])) for name in ("mean", "deviation")}}
    return made


def _refused(key: str, value: Any, why: str) -> CheckpointMismatch:
    return CheckpointMismatch(f"{FILE}: {key} = {value!r}: {why}", key=key)
