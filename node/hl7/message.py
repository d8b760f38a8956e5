"""An HL7 v2 message as segments, fields and components in Unicode; parsed by hl7apy."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import HL7apyException, UnsupportedVersion
from hl7apy.parser import parse_message

from node.errors import Hl7Rejected

# Table 0211 → codec. The Japanese sets switch by escape sequences, as in ISO 2022; ISO IR6 is ASCII.
_CODECS = {
    **{"": "ascii", "ASCII": "ascii", "ISO IR6": "ascii", "UNICODE UTF-8": "utf-8", "UNICODE": "utf-8"},
    **{f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    **{"ISO IR14": "iso2022_jp_ext", "ISO IR87": "iso2022_jp_ext", "ISO IR159": "iso2022_jp_ext"},
    **{"GB 18030-2000": "gb18030", "KS X 1001": "euc_kr", "CNS 11643-1992": "big5", "BIG-5": "big5"},
}
_MSH_18 = 17  # the field separator itself is MSH-1
_ESCAPE = re.compile(r"\\(F|S|T|R|E|\.br|H|N|X(?:[0-9A-Fa-f]{2})+)\\")


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment; values are in HL7's own notation until :meth:`get` takes them apart.

    Attributes
    ----------
    fields : mapping
        Number of the field → its repetitions.
    """

    name: str
    fields: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    component: str = "^"
    subcomponent: str = "&"

    def repetitions(self, number: int) -> tuple[str, ...]:
        """Every repetition of a field."""
        return self.fields.get(number, ())

    def get(self, number: int, component: int = 1, subcomponent: int = 1, *, repetition: int = 0) -> str:
        """Text of one component, empty where there is none. ``""`` (delete the value) counts as empty, too."""
        found = self.repetitions(number)
        return self.part(found[repetition], component, subcomponent) if repetition < len(found) else ""

    def part(self, value: str, component: int, subcomponent: int = 1) -> str:
        """Text of one component of a repetition."""
        components = value.split(self.component)
        if component > len(components):
            return ""
        parts = components[component - 1].split(self.subcomponent)
        text = parts[subcomponent - 1].strip() if subcomponent <= len(parts) else ""
        return "" if text == '""' else unescaped(text, self.component, self.subcomponent)


_NONE = Segment("")


@dataclass(frozen=True, slots=True)
class Message:
    """A message.

    Attributes
    ----------
    digest : str
        Hex SHA-256 of the bytes, by which one that is sent again is known.
    """

    segments: tuple[Segment, ...]
    digest: str

    @property
    def header(self) -> Segment:
        """MSH."""
        return self.segments[0]

    @property
    def kind(self) -> tuple[str, str]:
        """Message code and trigger event (MSH-9)."""
        return self.header.get(9), self.header.get(9, 2)

    @property
    def control_id(self) -> str:
        """MSH-10."""
        return self.header.get(10)

    @property
    def sender(self) -> str:
        """Sending application and facility (MSH-3, MSH-4)."""
        return " ".join(each for each in (self.header.get(3), self.header.get(4)) if each)

    @property
    def sent_at(self) -> str:
        """MSH-7."""
        return self.header.get(7)

    def first(self, name: str) -> Segment:
        """The first segment of a name; an empty one where there is none."""
        return next((segment for segment in self.segments if segment.name == name), _NONE)


def read(data: bytes, default_character_set: str = "ASCII") -> Message:
    """Parse a message.

    Parameters
    ----------
    default_character_set : str
        Of table 0211, for a message that names none in MSH-18.

    Raises
    ------
    Hl7Rejected
        It is no message, or of a version or in a character set that cannot be read; ``condition`` is that of table 0357.
    """
    text = _decoded(data, default_character_set)
    lines = [line for line in text.replace("\r\n", "\r").replace("\n", "\r").split("\r") if line.strip()]
    try:
        parsed = parse_message("\r".join(lines) + "\r", validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=False)
        separators = parsed.encoding_chars
        segments = tuple(_segment(each, separators) for each in parsed.children)
    except UnsupportedVersion as error:
        raise Hl7Rejected("a version of HL7 that is not supported", condition="203") from error
    except (HL7apyException, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise Hl7Rejected(f"the message cannot be parsed ({type(error).__name__})", condition="100") from error
    message = Message(segments, hashlib.sha256(data).hexdigest())
    if not message.control_id or not message.kind[0]:
        raise Hl7Rejected("the message has no control id (MSH-10) or no type (MSH-9)", condition="101")
    return message


def unescaped(text: str, component: str = "^", subcomponent: str = "&") -> str:
    """Text without HL7's escapes (chapter 2.7); formatting is dropped, a line break becomes a space."""
    plain = {"F": "|", "S": component, "T": subcomponent, "R": "~", "E": "\\", ".br": " ", "H": "", "N": ""}

    def replaced(match: re.Match[str]) -> str:
        code = match.group(1)
        return plain[code] if code in plain else bytes.fromhex(code[1:]).decode("latin-1")

    replaced_text = _ESCAPE.sub(replaced, text)
    # What no database takes: NUL, control characters, half surrogates.
    printable = "".join(each for each in replaced_text if each >= " " and not "\x7f" <= each <= "\x9f")
    return printable.encode("utf-8", "replace").decode("utf-8")


def _segment(parsed: object, separators: Mapping[str, str]) -> Segment:
    fields: dict[int, list[str]] = {}
    for child in parsed.children:  # type: ignore[attr-defined]
        number = str(child.name or "").rpartition("_")[2]
        if number.isdigit():
            fields.setdefault(int(number), []).append(str(child.to_er7(separators)))
    return Segment(
        str(parsed.name),  # type: ignore[attr-defined]
        {number: tuple(repetitions) for number, repetitions in fields.items()},
        separators["COMPONENT"],
        separators["SUBCOMPONENT"],
    )


def _decoded(data: bytes, default: str) -> str:
    """Decoded as MSH-18 says: the message must be decoded whole, because in a two-byte set any byte may be a separator."""
    if not data.startswith(b"MSH") or len(data) < 8:
        raise Hl7Rejected("the block holds no HL7 message (MSH)", condition="100")
    header = data.split(b"\r", 1)[0].split(data[3:4])
    named = header[_MSH_18].decode("ascii", "replace") if len(header) > _MSH_18 else ""
    names = [each.strip().upper() for each in (named or default).split(chr(data[5]))]
    codecs = {_CODECS.get(name) for name in names}
    if None in codecs:
        raise Hl7Rejected("a character set (MSH-18) that is not supported", condition="103")
    # ASCII is part of all of them.
    several = sorted(str(each) for each in codecs - {"ascii"}) or ["ascii"]
    try:
        if len(several) > 1:
            raise Hl7Rejected("several character sets (MSH-18) that do not go together", condition="103")
        return data.decode(several[0])
    except UnicodeDecodeError as error:
        raise Hl7Rejected("the text is not in the character set that MSH-18 names", condition="102") from error
