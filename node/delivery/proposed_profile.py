"""The profile and the settings that fit what a destination said it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_RLE = "1.2.840.10008.1.2.5"
_SEG, _LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
_TEXT = "1.2.840.10008.5.1.4.1.1.88.11"
_MEASUREMENTS = (
    ("comprehensive_3d", "1.2.840.10008.5.1.4.1.1.88.34"),
    ("comprehensive", "1.2.840.10008.5.1.4.1.1.88.33"),
    ("enhanced", "1.2.840.10008.5.1.4.1.1.88.22"),
)


def proposed_profile(storage: Mapping[str, Sequence[str]], *, charset: str) -> dict[str, Any]:
    """Keys of ``[profile.NAME]`` that differ from the defaults, for what a destination accepts.

    Parameters
    ----------
    storage : mapping
        SOP Class UID → transfer syntaxes accepted.
    charset : str
        ``kept``, ``changed`` or empty, from the trial.
    """
    taken = {uid for uid, syntaxes in storage.items() if syntaxes}
    measurements = [name for name, uid in _MEASUREMENTS if uid in taken]
    has_segmentation = bool(taken & {_SEG, _LABEL_MAP})
    objects = [
        *(["seg"] if has_segmentation else []),
        *(["measurements"] if measurements else []),
        *(["text", "status"] if _TEXT in taken else []),
    ]
    profile: dict[str, Any] = {"objects": objects}
    if _SEG not in taken and _LABEL_MAP in taken:
        profile["segmentation"] = "labelmap"
        if _RLE in storage[_LABEL_MAP]:
            profile["segmentation_syntax"] = "rle"
    if measurements and measurements[0] != "comprehensive_3d":
        profile["measurements"] = measurements[0]
    if charset == "changed":
        profile["character_set"] = "iso-2022-jp"
    return profile
