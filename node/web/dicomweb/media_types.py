"""Accept headers (RFC 9110 12.5.1) and the media types of PS3.18 8.7, held against what can be given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from node.web.dicomweb.failures import BAD_REQUEST, refuse

DICOM, OCTETS = "application/dicom", "application/octet-stream"
DICOM_JSON, JSON = "application/dicom+json", "application/json"
JPEG, PNG = "image/jpeg", "image/png"
MULTIPART = "multipart/related"
ANY = "*/*"

FRAME_TYPES = {
    "1.2.840.10008.1.2.4.50": JPEG,
    "1.2.840.10008.1.2.4.51": JPEG,
    "1.2.840.10008.1.2.4.57": JPEG,
    "1.2.840.10008.1.2.4.70": JPEG,
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
"""Media type of a compressed frame by transfer syntax (PS3.18 table 8.7.3-5)."""

_PART = re.compile(r'(?:[^,"]|"[^"]*")+')
_FIELD = re.compile(r'(?:[^;"]|"[^"]*")+')
_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class MediaType:
    """One media type with its parameters, all in lower case.

    Attributes
    ----------
    inner : str
        Of a multipart type the type of its parts; empty where not said, or not multipart.
    transfer_syntax : str
        UID, ``*``, or empty.
    """

    name: str
    quality: float = 1.0
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def is_multipart(self) -> bool:
        """Whether several parts may come."""
        return self.name in (MULTIPART, "multipart/*")

    @property
    def inner(self) -> str:
        """Type of the parts of a multipart answer, or of a single one."""
        return self.parameters.get("type", ANY) if self.is_multipart else self.name

    @property
    def transfer_syntax(self) -> str:
        """Transfer Syntax UID asked for."""
        return self.parameters.get("transfer-syntax", "")

    def takes(self, name: str) -> bool:
        """Whether parts (or the body) of a type are wanted."""
        return self.inner in (ANY, name, f"{name.partition('/')[0]}/*")


def accepted(header: str | None, parameter: str | None = None) -> list[MediaType]:
    """What a client accepts, best first; anything where it says nothing.

    Parameters
    ----------
    header : str or None
        Accept.
    parameter : str or None
        The query parameter of the same name (PS3.18 8.3.3.1), which counts instead.

    Raises
    ------
    HTTPException
        400: it cannot be read.
    """
    text = parameter if parameter else header or ANY
    if len(text) > _LONGEST:
        refuse(BAD_REQUEST, f"Accept is longer than {_LONGEST} characters")
    found = [_media_type(part) for part in _PART.findall(text) if part.strip()]
    wanted = [each for each in found if each.quality > 0]
    return sorted(wanted, key=lambda each: -each.quality)


def parse(text: str) -> MediaType:
    """A media type as Content-Type has it.

    Raises
    ------
    HTTPException
        400: it cannot be read.
    """
    return _media_type(text)


def best(wanted: Sequence[MediaType], offers: Sequence[str]) -> str | None:
    """The first offer that a client takes as a plain body, by its preference; None where it takes none."""
    for each in wanted:
        if not each.is_multipart:
            for offer in offers:
                if each.takes(offer):
                    return offer
    return None


def _media_type(text: str) -> MediaType:
    name, *fields = (part.strip() for part in _FIELD.findall(text))
    parameters = {}
    for each in fields:
        key, equals, value = each.partition("=")
        if equals:
            parameters[key.strip().lower()] = value.strip().strip('"').lower()
    try:
        quality = float(parameters.pop("q", "1"))
    except ValueError:
        refuse(BAD_REQUEST, "a media type's q is no number")
    name = name.lower()
    if name != "*" and name.count("/") != 1:
        refuse(BAD_REQUEST, "a media type has the form type/subtype")
    return MediaType(ANY if name == "*" else name, quality, parameters)
