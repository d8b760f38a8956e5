"""What one kind of destination can take and wants: which objects, as which SOP classes, in which characters."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["OBJECT_KINDS", "ObjectKind", "Profile"]

ObjectKind = Literal[
    "seg",
    "measurements",
    "text",
    "status",
    "key_objects",
    "presentation",
    "parametric_map",
    "secondary_capture",
    "summary",
    "pdf",
    "rtstruct",
]
OBJECT_KINDS: tuple[ObjectKind, ...] = (
    "seg",
    "measurements",
    "text",
    "status",
    "key_objects",
    "presentation",
    "parametric_map",
    "secondary_capture",
    "summary",
    "pdf",
    "rtstruct",
)


@dataclass(frozen=True, slots=True)
class Profile:
    """Settings of a destination profile that change the bytes it gets.

    Attributes
    ----------
    name : str
        The profile's name in the configuration.
    objects : tuple of str
        Kinds wanted, see :data:`OBJECT_KINDS`. A kind that was not asked for is left out, except that a study is never
        left without an answer.
    series_number_base : int
        Series Number of the first series; the others count up from it.
    series_descriptions : tuple of (str, str)
        Kind of object → Series Description of the destination's own, for hanging protocols and rules of archives. Statuses
        say what became of the study there, and texts have :attr:`text_title`.
    segmentation : str
        ``binary``, ``fractional`` or ``labelmap`` (PS3.3 C.8.20.2). Without probabilities, or where its frames would take more
        than 256 MiB, ``fractional`` falls back to ``binary``.
    segmentation_syntax : str
        ``explicit`` (Explicit VR Little Endian) or ``rle`` (RLE Lossless; only for fractional and labelmap).
    measurements : str
        SOP class of TID 1500 reports: ``comprehensive_3d``, ``comprehensive`` or ``enhanced`` (without coordinates).
    secondary_capture : str
        ``multi_frame``: one Multi-frame True Color Secondary Capture; ``single_frame``: one object for each picture.
    text_dialect : str
        ``sections`` (TID 2000) or ``flat``: one level of TEXT items, for report systems that read nothing else.
    text_title : str
        Document title of text and PDF reports where the destination wants its own; empty: ours.
    character_set : str
        ``utf-8`` (ISO_IR 192), or ``iso-2022-jp`` (ISO 2022 IR 6 and IR 87; IR 13 where half-width katakana need it).
    character_replacements : tuple of (str, str)
        What stands for a character the character set lacks. One that stands nowhere is a refusal, never a question mark.
    per_lesion : bool
        One SEG and one measurement report for each lesion, instead of combined ones.
    maximum_series : int
        At most so many series go out for one result; what is over the budget is left out, the least important kind first.
    text_documents : bool
        Whether text SR and PDF may go there at all: not where such a document could pass for the report.
    """

    name: str = "default"
    objects: tuple[ObjectKind, ...] = ("seg", "measurements", "text", "status")
    series_number_base: int = 9000
    series_descriptions: tuple[tuple[str, str], ...] = ()
    segmentation: Literal["binary", "fractional", "labelmap"] = "binary"
    segmentation_syntax: Literal["explicit", "rle"] = "explicit"
    measurements: Literal["comprehensive_3d", "comprehensive", "enhanced"] = "comprehensive_3d"
    secondary_capture: Literal["multi_frame", "single_frame"] = "multi_frame"
    text_dialect: Literal["sections", "flat"] = "sections"
    text_title: str = ""
    character_set: Literal["utf-8", "iso-2022-jp"] = "utf-8"
    character_replacements: tuple[tuple[str, str], ...] = ()
    per_lesion: bool = False
    maximum_series: int = 8
    text_documents: bool = True

    @property
    def content(self) -> str:
        """Canonical text of everything here; part of the work key."""
        told = asdict(self)
        if not self.series_descriptions:
            del told["series_descriptions"]  # younger than the others: without any the same work keeps its UIDs
        return json.dumps(told, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
