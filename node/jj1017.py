"""JJ1017 procedure codes of Japanese hospitals, taken apart. Pure.

Source: JJ1017 guideline 3.4, table 5.1 (places of the elements), 5.2 (kinds of examination) and 5.5 (sides). A RIS sends
32 characters; DICOM has room for 16 in a Code Value, so that a modality sees the first half as JJ1017-16M and the second
one as JJ1017-16S. Letters a site has added have no meaning here and are shown as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

SCHEMES = ("JJ1017-16M", "JJ1017-16S", "JJ1017-32", "JJ1017")
# Digits, and capital letters without I and O (5.4.1).
_CODE = re.compile(r"[0-9A-HJ-NP-Z]{16}(?:[0-9A-HJ-NP-Z]{16})?")

# Table 5.2, with the DICOM modality where there is one.
KINDS: dict[str, tuple[str, str, str]] = {
    "1": ("plain X-ray", "X線単純撮影", "DX"),
    "2": ("fluoroscopy", "X線透視・造影", "RF"),
    "3": ("angiography", "X線血管撮影", "XA"),
    "4": ("X-ray tomography", "X線断層撮影", ""),
    "5": ("bone densitometry", "X線骨塩定量", "BMD"),
    "6": ("CT", "X線CT", "CT"),
    "7": ("MR", "MRI", "MR"),
    "8": ("nuclear medicine", "核医学", "NM"),
    "9": ("ultrasound", "超音波", "US"),
    "A": ("external beam therapy", "体外照射", ""),
    "B": ("brachytherapy", "密封小線源", ""),
    "C": ("hyperthermia", "温熱療法", ""),
    "D": ("blood irradiation", "血液照射", ""),
    "E": ("radionuclide therapy", "内用療法", ""),
    "F": ("mammography", "乳房X線撮影", "MG"),
    "G": ("portable plain X-ray", "X線単純撮影ポータブル", "DX"),
    "H": ("intra-oral X-ray", "歯科口腔内撮影", "IO"),
}
# Table 5.5.
SIDES: dict[str, tuple[str, str]] = {
    "0": ("", ""),
    "B": ("both sides", "両側"),
    "R": ("right", "右側"),
    "L": ("left", "左側"),
    "H": ("cranial", "頭側"),
    "F": ("caudal", "足側"),
    "A": ("anterior", "前側"),
    "P": ("posterior", "後側"),
    "W": ("whole", "全体"),
    "Q": ("right anterior", "右前側"),
    "S": ("right posterior", "右後側"),
    "K": ("left anterior", "左前側"),
    "M": ("left posterior", "左後側"),
}
# Of the table of parts only what the guideline's own text names; a site adds its own in node.toml.
PARTS: dict[str, str] = {"000": "", "100": "head", "200": "chest"}


@dataclass(frozen=True, slots=True)
class Procedure:
    """Elements of a code; empty where the half that holds them was not given.

    Attributes
    ----------
    kind, major, minor, extension : str
        1, 2, 2 and 2 characters: kind of examination, technique.
    part, side : str
        3 and 1 characters.
    position, direction, local : str
        1, 2 and 2 characters: posture, direction of the beam, the site's own.
    detail_position, instruction, nuclide, ultrasound : str
        2, 2, 2 and 4 characters of the second half.
    """

    kind: str = ""
    major: str = ""
    minor: str = ""
    extension: str = ""
    part: str = ""
    side: str = ""
    position: str = ""
    direction: str = ""
    local: str = ""
    detail_position: str = ""
    instruction: str = ""
    nuclide: str = ""
    ultrasound: str = ""

    @property
    def modality(self) -> str:
        """DICOM modality of the kind; empty where there is none."""
        return KINDS.get(self.kind, ("", "", ""))[2]

    def label(self, *, language: str = "en", parts: Mapping[str, str] | None = None) -> str:
        """What a person reads: kind, part and side; codes where no name is known."""
        place = 1 if language == "ja" else 0
        names = {**PARTS, **(parts or {})}
        kind = KINDS[self.kind][place] if self.kind in KINDS else self.kind
        technique = "" if self.major + self.minor in ("", "0000") else f"{self.major}{self.minor}"
        side = SIDES[self.side][place] if self.side in SIDES else self.side
        return " ".join(word for word in (kind, technique, names.get(self.part, self.part), side) if word)


def decode(value: str, scheme: str) -> Procedure | None:
    """Take a code apart; None where it is none of JJ1017.

    Parameters
    ----------
    value : str
        Code Value of 16 or 32 characters.
    scheme : str
        Coding Scheme Designator; a site that has extended the table adds ``/`` and its name.
    """
    designator = scheme.partition("/")[0].strip().upper()
    text = value.strip()
    if designator not in SCHEMES or not _CODE.fullmatch(text):
        return None
    if designator == "JJ1017-16S":
        return Procedure(**_second(text[:16]))
    return Procedure(**_first(text[:16]), **(_second(text[16:]) if len(text) == 32 else {}))


def _first(text: str) -> dict[str, str]:
    return {
        "kind": text[0],
        "major": text[1:3],
        "minor": text[3:5],
        "extension": text[5:7],
        "part": text[7:10],
        "side": text[10],
        "position": text[11],
        "direction": text[12:14],
        "local": text[14:16],
    }


def _second(text: str) -> dict[str, str]:
    return {
        "detail_position": text[0:2],
        "instruction": text[2:4],
        "nuclide": text[4:6],
        "ultrasound": text[6:10],
    }
