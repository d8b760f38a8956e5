"""Everything in a study's own headers that says whose study it is, and how to find it in text, however it is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from models.folding import fold
from node.remote import dates
from node.remote.romaji import romaji

_IDENTIFIERS = frozenset(
    {
        *("PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID", "AdmissionID", "IssuerOfPatientID"),
        *("RequestedProcedureID", "ScheduledProcedureStepID", "PerformedProcedureStepID", "ServiceEpisodeID"),
        *("PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest", "DeviceSerialNumber"),
        *("PatientTelephoneNumbers", "MilitaryRank", "MedicalRecordLocator", "DetectorID", "PlateID", "CassetteID"),
    }
)
_PLACES = frozenset(
    {
        *(
            "PatientAddress",
            "InstitutionName",
            "InstitutionAddress",
            "InstitutionalDepartmentName",
            "RequestingService",
        ),
        *(
            "StationName",
            "CurrentPatientLocation",
            "PatientInstitutionResidence",
            "PerformedStationName",
            "PatientBirthName",
        ),
        *("CountryOfResidence", "RegionOfResidence", "Occupation", "ReferringPhysicianAddress", "PerformedLocation"),
    }
)
_TEXT = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "PN", "UN", "AE", "CS", "UR", "AS", "DS", "IS"})
_STANDARD_UIDS = "1.2.840.10008."


@dataclass(frozen=True)
class IdentityValues:
    """Patterns on folded text, each with the kind of value it finds. Make it with :meth:`of`.

    Attributes
    ----------
    patterns : tuple of (kind, re.Pattern)
        The kind may be shown to anybody, the pattern to nobody.
    raw : tuple of (kind, bytes)
        Values of six bytes and more in the encodings they may have inside binary content.
    """

    patterns: tuple[tuple[str, re.Pattern[str]], ...] = field(repr=False)
    raw: tuple[tuple[str, bytes], ...] = field(repr=False, default=())

    @classmethod
    def of(cls, headers: Iterable[Dataset], further: Mapping[str, str] | None = None) -> IdentityValues:
        """Values of every header, nested and private attributes included.

        Parameters
        ----------
        further : mapping or None
            Attributes by keyword that hold beside those of the headers (an order, a correction).
        """
        values: dict[tuple[str, str], None] = {}
        for header in headers:
            for element in _elements(header):
                for each in _classified(element):
                    values[each] = None
        for keyword, value in (further or {}).items():
            kind = "name" if keyword.endswith("Name") else "date" if keyword.endswith("Date") else "identifier"
            values[kind, value] = None
        patterns = {(kind, made): None for kind, value in values for made in _patterns(kind, value)}
        compiled = tuple((kind, re.compile(made)) for kind, made in patterns)
        return cls(compiled, tuple((kind, each) for kind, value in values for each in _encodings(value)))

    def found_in(self, text: str) -> tuple[str, ...]:
        """Kinds of values that stand in a text, each once."""
        folded = fold(text)
        return tuple(dict.fromkeys(kind for kind, pattern in self.patterns if pattern.search(folded)))


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)
        elif element.tag.group != 0x7FE0:
            yield element


def _classified(element: DataElement) -> Iterator[tuple[str, str]]:
    """Kind and text of each value that identifies anything."""
    for value in _texts(element):
        if element.VR == "PN":
            yield "name", value
        elif element.VR == "UI":
            if not value.startswith(_STANDARD_UIDS):
                yield "UID", value
        elif element.VR in ("DA", "DT"):
            yield "date", value
        elif element.tag.is_private and element.VR in _TEXT:
            yield from _private(value)
        elif element.keyword in _IDENTIFIERS:
            yield "identifier", value
        elif element.keyword in _PLACES:
            yield "place", value


def _private(value: str) -> Iterator[tuple[str, str]]:
    """What a private text may hold: a name in DICOM's form, a number, a date, or words of any length worth naming."""
    for name in re.findall(r"[^\s^]+(?:\^[^\s^]*)+", value):
        yield "name", name
    for number in re.findall(r"[A-Za-z]{0,4}-?\d{5,}", value):
        yield "identifier", number
    if re.search(r"[^\W\d_]", value) and 6 <= len(value) <= 128:
        yield "private text", value


def _texts(element: DataElement) -> list[str]:
    value = element.value
    if value is None:
        return []
    found = []
    for each in value if isinstance(value, MultiValue | list) else [value]:
        if isinstance(each, bytes):
            if len(each) > 4096:
                continue
            decoded = {_decoded(each, name) for name in ("utf-8", "shift_jis", "euc_jp")}
            found += [text for text in decoded if text.isprintable()]
        else:
            found.append(str(each).strip())
    return [text for text in found if text]


def _decoded(content: bytes, encoding: str) -> str:
    try:
        return content.rstrip(b"\0 ").decode(encoding)
    except UnicodeDecodeError:
        return "\0"


def _patterns(kind: str, value: str) -> Iterator[str]:
    if kind == "name":
        yield from _name_patterns(value)
    elif kind == "date":
        day = dates.parse(value)
        if day is not None and day.year > 1800:
            yield from dates.patterns(day)
    elif kind == "UID":
        yield re.escape(fold(value))
    elif kind in ("place", "private text"):
        if len(value) >= 3:
            spaced = r"\s*".join(re.escape(word) for word in fold(value).split())
            yield rf"(?<![a-z0-9]){spaced}(?![a-z0-9])" if value.isascii() else spaced
    else:
        yield from _identifier_patterns(value)


def _identifier_patterns(value: str) -> Iterator[str]:
    characters = re.sub(r"[\W_]", "", fold(value))
    if not characters:
        return
    forms = {characters}
    if len(bare := characters.lstrip("0")) >= 4:
        forms.add(bare)
    for form in forms:
        edge = r"[0-9]" if form[0].isdigit() else r"[0-9a-z]"
        end = r"[0-9]" if form[-1].isdigit() else r"[0-9a-z]"
        # Very short numbers would be found in every measurement: they count only where they are called a number of somebody.
        before = rf"(?<!{edge})0*" if len(form) >= 4 else r"(?:\bid|番号|no\.?|#)\s*[:：]?\s*0*"
        yield before + r"[-\s./_]?".join(map(re.escape, form)) + rf"(?!{end})"


def _name_patterns(value: str) -> Iterator[str]:
    for group in value.split("="):
        parts = [part for piece in re.split(r"[\^,\s]+", fold(group)) if (part := piece.strip(" .'\"-"))]
        latin = [part for part in parts if re.search("[a-z]", part)]
        other = [part for part in parts if part not in latin]
        kana = [romaji(part) for part in other]
        for part in latin:
            for form in {part, *re.split(r"[^a-z]+", part), re.sub("[^a-z]", "", part)}:
                for spelled in _german(form):
                    if len(spelled) >= 2:
                        yield rf"(?<![a-z]){re.escape(spelled)}(?![a-z])"
        for forms in kana:
            yield from (rf"(?<![a-z]){form}(?![a-z])" for form in forms if len(form) >= 2)
        for part in other:
            if len(part) >= 2:
                yield _spaced(part)
        for first, second in ((a, b) for a in latin for b in latin if a is not b and len(a + b) >= 4):
            yield re.escape(first) + r"[\s^,._-]?" + re.escape(second)
        if len("".join(other)) >= 2:
            yield _spaced("".join(other))
            yield _spaced("".join(reversed(other)))


def _spaced(word: str) -> str:
    """A word of another script, with or without blanks between its characters."""
    return r"[\s^・,]*".join(map(re.escape, word))


def _german(word: str) -> set[str]:
    return {word, word.replace("ae", "a").replace("oe", "o").replace("ue", "u")}


def _encodings(value: str) -> Iterator[bytes]:
    for encoding in ("utf-8", "utf-16-le", "utf-16-be", "shift_jis", "euc_jp", "iso2022_jp"):
        try:
            content = value.encode(encoding)
        except UnicodeEncodeError:
            continue
        if len(content) >= 6 and len(value) >= 3:
            yield content
