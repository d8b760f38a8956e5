"""Headers of instances that come one after the other and differ in little, as those of a series do.

Finding and decoding what the index wants of a header costs more than receiving a small image. Here the bytes of the
header before are compared instead: where everything is as it was but for the values of elements that are known to vary,
the elements lie where they lay, and what they say was decoded before. It is a shorter way to the same answer: for
whatever this does read, the result equals :func:`node.archive.header_scan.scan_header`.
"""

from __future__ import annotations

import json
import re
import struct
from typing import NamedTuple

from node.archive.element_scan import LONGEST_HEAD, UNDEFINED, ElementScan, Odd
from node.archive.header_scan import KEPT, header_of, scan_elements, scan_header
from node.archive.headers import InstanceHeader

_SOP_INSTANCE_UID, _SERIES_UID, _INSTANCE_NUMBER = 0x00080018, 0x0020000E, 0x00200013
# What differs between the images of a series more often than not: dates and times, numbers, position, pixel range.
_LIKELY = frozenset(
    [
        *(_SOP_INSTANCE_UID, _INSTANCE_NUMBER),
        *(0x00080013, 0x00080022, 0x00080023, 0x0008002A, 0x00080032, 0x00080033),
        *(0x00200012, 0x00200032, 0x00201041),
        *(0x00280106, 0x00280107, 0x00281050, 0x00281051),
    ]
)
_LONGEST_BYTES = 64 * 1024
_MOST_VARYING = 64
# So many headers in a row may turn out unlike those before them; then learning is given up, as it costs its share.
_PATIENCE = 16
_SETTLED = 4
# What is remembered of an association is bounded, whatever its peer sends.
_MOST_KNOWN = 16
_MOST_KEPT_BYTES = 4096
_UID = re.compile(rb"[0-9]+(?:\.[0-9]+)*")
_LONGEST_UID = 64
_LONGEST_NUMBER = 9
# Of the element of the pixels: tag, and VR where it is explicit.
_TAG_BYTES, _TAG_AND_VR_BYTES = 4, 6


class _Span(NamedTuple):
    """One element: where it, the length of its value and its end lie."""

    begin: int
    tag: int
    vr: bytes
    length_at: int
    end: int


class _Step(NamedTuple):
    """Bytes that are as before, up to the length of a value that varies."""

    fixed: bytes
    length_bytes: int
    tag: int
    vr: bytes


class _Values(NamedTuple):
    """What varies: SOP Instance UID and Instance Number as text, all else of what is kept as one key."""

    sop_instance_uid: str
    number: str
    key: tuple[bytes, ...]


class FamiliarHeaders:
    """Reads the headers of one association. Not thread-safe."""

    def __init__(self) -> None:
        self._layout: _Layout | None = None
        self._varying: set[int] = set(_LIKELY)
        self._elements: dict[int, bytes] = {}
        self._patience = _PATIENCE
        self._hits = 0

    def scan(self, head: bytes, transfer_syntax_uid: str, *, whole: bool) -> InstanceHeader | None:
        """As :func:`node.archive.header_scan.scan_header`."""
        layout = self._layout
        values = None
        if layout is not None and layout.transfer_syntax_uid == transfer_syntax_uid:
            values = layout.values(head)
        if layout is None or values is None:
            return self._learnt(head, transfer_syntax_uid, whole=whole)
        self._patience = _PATIENCE
        self._hits += 1
        known = layout.known.get(values.key)
        if known is not None:
            return known.of(values)
        header = scan_header(head, transfer_syntax_uid, whole=whole)
        if header is not None and sum(map(len, values.key)) <= _MOST_KEPT_BYTES:
            layout.remember(values, header)
        return header

    def _learnt(self, head: bytes, transfer_syntax_uid: str, *, whole: bool) -> InstanceHeader | None:
        """Read a header in full, and note its layout for those to come."""
        found = scan_elements(head, transfer_syntax_uid, whole=whole)
        header = header_of(found, transfer_syntax_uid) if found is not None else None
        if found is None or header is None or not self._patience or not 0 < found.pixels_at <= _LONGEST_BYTES:
            return header
        self._patience -= 1
        spans = _spans(found)
        elements = {span.tag: head[span.begin : span.end] for span in spans}
        # A new series differs in much that does not vary within it, unless series come in turns.
        if elements.get(_SERIES_UID) == self._elements.get(_SERIES_UID) or self._hits < _SETTLED:
            differing = {tag for tag, content in elements.items() if self._elements.get(tag, content) != content}
            if len(self._varying | differing) <= _MOST_VARYING:
                self._varying |= differing
        self._elements, self._hits = elements, 0
        if sum(len(content) for tag, content in elements.items() if tag in KEPT) > _MOST_KEPT_BYTES:
            self._layout = None
            return header
        layout = _Layout(head, spans, found, transfer_syntax_uid, self._varying)
        values = layout.values(head)
        self._layout = layout if values is not None else None
        if values is not None:
            layout.remember(values, header)
        return header


class _Layout:
    """Where elements lie in a header, and which of them vary."""

    def __init__(
        self,
        head: bytes,
        spans: list[_Span],
        found: ElementScan,
        transfer_syntax_uid: str,
        varying: set[int],
    ) -> None:
        self.transfer_syntax_uid = transfer_syntax_uid
        self.known: dict[tuple[bytes, ...], _Known] = {}
        self._explicit = found.explicit
        self._steps: list[_Step] = []
        position = 0
        for span in spans:
            if span.tag in varying:
                value_at = span.length_at + (2 if self._explicit and span.length_at - span.begin == 6 else 4)
                fixed = head[position : span.length_at]
                self._steps.append(_Step(fixed, value_at - span.length_at, span.tag, span.vr))
                position = span.end
        self._pixels_bytes = _TAG_AND_VR_BYTES if found.explicit else _TAG_BYTES
        self._tail = head[position : found.pixels_at + self._pixels_bytes]

    def values(self, head: bytes) -> _Values | None:
        """What varies; None where anything else is not as it was."""
        position = 0
        uid = number = b""
        key = []
        for fixed, length_bytes, tag, vr in self._steps:
            if not head.startswith(fixed, position):
                return None
            position += len(fixed)
            start = position + length_bytes
            length = int.from_bytes(head[position:start], "little")
            if length == UNDEFINED:
                end = self._after_sequence(head, tag, vr, start)
                if end is None:
                    return None
            else:
                end = start + length
            if tag == _SOP_INSTANCE_UID:
                uid = head[start:end].rstrip(b"\0 ")
            elif tag == _INSTANCE_NUMBER:
                number = head[start:end].strip(b" ")
                if not number.isdigit() or len(number) > _LONGEST_NUMBER:
                    return None
            elif tag in KEPT:
                key.append(head[start:end])
            position = end
        tail = self._tail
        left = len(head) - position - len(tail)
        if not head.startswith(tail, position) or left < LONGEST_HEAD - self._pixels_bytes:
            return None
        if len(uid) > _LONGEST_UID or not _UID.fullmatch(uid):
            return None
        return _Values(uid.decode("ascii"), str(int(number)) if number else "", tuple(key))

    def remember(self, values: _Values, header: InstanceHeader) -> None:
        """Note what a header says that has these values."""
        if len(self.known) >= _MOST_KNOWN:
            self.known.clear()
        self.known[values.key] = _Known(header, values.number)

    def _after_sequence(self, head: bytes, tag: int, vr: bytes, start: int) -> int | None:
        try:
            return ElementScan.over(head, explicit=self._explicit).after_sequence(tag, vr, start, 0)
        except (Odd, struct.error):
            return None


class _Known:
    """A header that was decoded, to be had for other instances whose bytes say the same."""

    def __init__(self, header: InstanceHeader, number: str) -> None:
        self._header = header
        self._text = json.dumps(header.routing)
        self._around_number: tuple[str, str] | None = None
        if number:
            # No value can hold this: its quotation marks would be escaped.
            mark = f'"InstanceNumber": "{number}"'
            before, _, after = self._text.partition(mark)
            self._around_number = f'{before}"InstanceNumber": "', f'"{after}'

    def of(self, values: _Values) -> InstanceHeader:
        """The header of an instance with these values."""
        known = self._header
        routing, text = known.routing, self._text
        if self._around_number is not None:
            routing = {**routing, "listed": {**routing["listed"], "InstanceNumber": values.number}}
            before, after = self._around_number
            text = f"{before}{values.number}{after}"
        return InstanceHeader(
            known.sop_class_uid,
            values.sop_instance_uid,
            known.study_uid,
            known.series_uid,
            known.transfer_syntax_uid,
            known.modality,
            known.patient_id,
            known.issuer_of_patient_id,
            known.patient_name,
            known.patient_birth_date,
            known.accession_number,
            known.unreadable,
            routing,
            known.device,
            known.contributors,
            text,
        )


def _spans(found: ElementScan) -> list[_Span]:
    """The elements before the pixels."""
    spans = []
    position = 0
    while position < found.pixels_at:
        tag, vr, start, length = found.element(position)
        end = start + length if length != UNDEFINED else found.after_sequence(tag, vr, start, 0)
        length_bytes = 2 if found.explicit and start - position == 8 else 4
        spans.append(_Span(position, tag, vr, start - length_bytes, end))
        position = end
    return spans
