"""The nearest to what a profile asks for that a destination takes: one self-consistent set, never a part of one.

Fallbacks, in order: Label Map Segmentation → Segmentation (BINARY), RLE → uncompressed; Comprehensive 3D SR →
Comprehensive SR → Enhanced SR; presentation states → pictures with the same outlines; Secondary Capture as many frames → as
single pictures, or the other way round. Kinds the destination does not take are left out; measurements of regions go with the
segmentation they refer to. Where neither picture nor number is left the text goes (``document.render`` leaves no study
without an answer).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from dicom_sr.profile import ObjectKind, Profile

__all__ = ["Takes", "fitting"]

Takes = Callable[[str, str], bool]
"""Whether a destination takes a SOP class in a transfer syntax."""

_STORAGE = "1.2.840.10008.5.1.4.1.1"
_SEGMENTATION, _LABEL_MAP = f"{_STORAGE}.66.4", f"{_STORAGE}.66.7"
_Report = Literal["comprehensive_3d", "comprehensive", "enhanced"]
_MEASUREMENTS: dict[_Report, str] = {
    "comprehensive_3d": f"{_STORAGE}.88.34",
    "comprehensive": f"{_STORAGE}.88.33",
    "enhanced": f"{_STORAGE}.88.22",
}
_BASIC_TEXT = f"{_STORAGE}.88.11"
_PICTURES: dict[Literal["multi_frame", "single_frame"], str] = {
    "multi_frame": f"{_STORAGE}.7.4",
    "single_frame": f"{_STORAGE}.7",
}
# A kind goes where one of its classes is taken; which one a writer uses follows from the result.
_OTHERS: dict[ObjectKind, tuple[str, ...]] = {
    "text": (_BASIC_TEXT,),
    "status": (_BASIC_TEXT,),
    "key_objects": (f"{_STORAGE}.88.59",),
    "presentation": (f"{_STORAGE}.11.1",),
    "parametric_map": (f"{_STORAGE}.30",),
    "secondary_capture": (f"{_STORAGE}.7", f"{_STORAGE}.7.4"),
    "summary": (f"{_STORAGE}.7", f"{_STORAGE}.7.4"),
    "pdf": (f"{_STORAGE}.104.1",),
    "rtstruct": (f"{_STORAGE}.481.3",),
}


def fitting(profile: Profile, takes: Takes) -> Profile:
    """The profile itself where the destination takes all of it, else the nearest that it takes.

    Parameters
    ----------
    profile : Profile
        What was configured.
    takes : callable
        What the destination takes.

    Returns
    -------
    Profile
        Same name. Where the destination takes nothing of it at all, what was configured.
    """
    kinds: list[ObjectKind] = [kind for kind in _seen(profile.objects, takes) if _is_taken(kind, takes)]
    made = replace(profile, objects=tuple(kinds))
    if "secondary_capture" in kinds:
        made = _in_pictures_taken(made, takes)
    if "seg" in kinds or "measurements" in kinds:
        found = next(_segmentations(profile, takes), None)
        if found is None:
            made = replace(made, objects=tuple(kind for kind in kinds if kind not in ("seg", "measurements")))
        else:
            made = replace(made, segmentation=found.segmentation, segmentation_syntax=found.segmentation_syntax)
    if "measurements" in made.objects:
        names = list(_MEASUREMENTS)
        chain = names[names.index(profile.measurements) :]
        classes = [name for name in chain if takes(_MEASUREMENTS[name], ExplicitVRLittleEndian)]
        if classes:
            made = replace(made, measurements=classes[0])
        else:
            made = replace(made, objects=tuple(kind for kind in made.objects if kind != "measurements"))
    return made if made.objects or takes(_BASIC_TEXT, ExplicitVRLittleEndian) else profile


def _seen(kinds: Sequence[ObjectKind], takes: Takes) -> tuple[ObjectKind, ...]:
    """The kinds, with pictures in the place of presentation states that are not taken: outlines are there to be seen."""
    if "presentation" not in kinds or _is_taken("presentation", takes):
        return tuple(kinds)
    instead: list[ObjectKind] = ["secondary_capture" if kind == "presentation" else kind for kind in kinds]
    return tuple(dict.fromkeys(instead))


def _in_pictures_taken(profile: Profile, takes: Takes) -> Profile:
    asked = profile.secondary_capture
    other: Literal["multi_frame", "single_frame"] = "single_frame" if asked == "multi_frame" else "multi_frame"
    if takes(_PICTURES[asked], ExplicitVRLittleEndian) or not takes(_PICTURES[other], ExplicitVRLittleEndian):
        return profile
    return replace(profile, secondary_capture=other)


def _is_taken(kind: ObjectKind, takes: Takes) -> bool:
    classes = _OTHERS.get(kind)
    return classes is None or any(takes(each, ExplicitVRLittleEndian) for each in classes)


def _segmentations(profile: Profile, takes: Takes) -> Iterator[Profile]:
    """What the segmentation may be, the nearest to what was asked first, as far as the destination takes it."""
    syntax: dict[Literal["explicit", "rle"], str] = {"explicit": str(ExplicitVRLittleEndian), "rle": str(RLELossless)}
    if profile.segmentation == "labelmap":
        wanted: tuple[Literal["explicit", "rle"], ...] = (profile.segmentation_syntax, "explicit")
        for name in dict.fromkeys(wanted):
            if takes(_LABEL_MAP, syntax[name]):
                yield replace(profile, segmentation_syntax=name)
        if takes(_SEGMENTATION, syntax["explicit"]):
            yield replace(profile, segmentation="binary", segmentation_syntax="explicit")
        return
    if profile.segmentation == "fractional" and takes(_SEGMENTATION, syntax[profile.segmentation_syntax]):
        yield profile
    if takes(_SEGMENTATION, syntax["explicit"]):
        yield replace(profile, segmentation_syntax="explicit") if profile.segmentation == "fractional" else profile
