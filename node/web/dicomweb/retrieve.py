"""WADO-RS instances and metadata (PS3.18 10.4): files as they are stored, and their headers as JSON."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastapi import HTTPException
from fastapi.responses import FileResponse, Response, StreamingResponse

from node.web.dicomweb import parts
from node.web.dicomweb.attributes import Attributes, element, encoded, tag_of, to_json
from node.web.dicomweb.failures import GONE, NOT_ACCEPTABLE, refuse
from node.web.dicomweb.holdings import Holding
from node.web.dicomweb.kept import Kept
from node.web.dicomweb.media_types import DICOM, DICOM_JSON, JSON, MediaType, best
from node.web.dicomweb.pixel_source import read_stored
from node.web.dicomweb.search import resource_of

logger = logging.getLogger(__name__)

_METADATA_BYTES = 64 << 20
_BATCH_BYTES = 1 << 18


def instances(held: Sequence[Holding], wanted: Sequence[MediaType]) -> Response:
    """Files of some instances.

    The transfer syntax is the stored one. A client that asks for another gets what is stored in it. Status 206 says that
    something is left out.

    Raises
    ------
    HTTPException
        406: none of the types and transfer syntaxes a client takes can be given. 410: no file is here any more.
    """
    here = [one for one in held if one.path.is_file()]
    if not here:
        refuse(GONE, "the stored files are not here any more")
    for each in wanted:
        if not each.takes(DICOM) or not (each.is_multipart or each.name == "*/*" or len(held) == 1):
            continue
        fitting = [one for one in here if each.transfer_syntax in ("", "*", one.transfer_syntax_uid)]
        if not fitting:
            continue
        if len(held) == 1 and each.name == DICOM:
            return FileResponse(fitting[0].path, media_type=_type_of(fitting[0]))
        left = len(held) - len(fitting)
        warning = f"{left} instances are left out: stored in another transfer syntax, or not here any more"
        made = [parts.FilePart(_type_of(one), one.path, one.path.stat().st_size) for one in fitting]
        return parts.answer(made, DICOM, status=206 if left else 200, warning=warning if left else "")
    stored = ", ".join(sorted({each.transfer_syntax_uid for each in held}))
    refuse(NOT_ACCEPTABLE, f'ask for multipart/related; type="{DICOM}"; transfer-syntax=*. Stored as: {stored}')


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata of instances, remembered as text while it is asked for.

    Attributes
    ----------
    kept : Kept
        (file, URL of the service) → JSON text of one instance.
    """

    kept: Kept[bytes]

    @classmethod
    def new(cls) -> Metadata:
        """With nothing remembered yet."""
        return cls(Kept(1 << 20, _METADATA_BYTES, len))

    def answer(self, held: Sequence[Holding], wanted: Sequence[MediaType], base: str) -> Response:
        """Metadata of some instances as DICOM JSON.

        Parameters
        ----------
        base : str
            URL of the service, for bulk data.

        Raises
        ------
        HTTPException
            406: another type than DICOM JSON is asked for.
        """
        chosen = best(wanted, [DICOM_JSON, JSON])
        if chosen is None:
            refuse(NOT_ACCEPTABLE, f"metadata is given as {DICOM_JSON} only")
        if len(held) == 1:
            return Response(b"[" + self.of(held[0], base) + b"]", media_type=chosen)
        return StreamingResponse(self._array(held, base), media_type=chosen)

    def _array(self, held: Sequence[Holding], base: str) -> Iterator[bytes]:
        waiting = b"["
        for number, each in enumerate(held):
            waiting += (b"," if number else b"") + self._of_several(each, base)
            if len(waiting) >= _BATCH_BYTES:
                yield waiting
                waiting = b""
        yield waiting + b"]"

    def _of_several(self, holding: Holding, base: str) -> bytes:
        """As :meth:`of`; of a file that cannot be read only its names, so that the others come."""
        try:
            return self.of(holding, base)
        except HTTPException:
            logger.warning("metadata of instance %s cannot be read", holding.sop_instance_uid)
            return encoded(_names(holding))

    def of(self, holding: Holding, base: str) -> bytes:
        """Metadata of one instance as JSON text."""
        return self.kept.get((holding.path, base), lambda: encoded(_metadata(holding, base)))


def _metadata(holding: Holding, base: str) -> Attributes:
    url = f"{base}{resource_of(holding)}/bulkdata/"
    header, pixels = read_stored(holding.path)
    made = to_json(header, lambda path: url + path)
    if pixels is not None:
        made[pixels.tag] = {"vr": pixels.vr, "BulkDataURI": url + pixels.tag}
    # What a client must know to read the frames it gets (PS3.18 10.4.3.3.2).
    made["00083002"] = {"vr": "UI", "Value": [holding.transfer_syntax_uid]}
    return made


def _names(holding: Holding) -> Attributes:
    return {
        tag_of("SOPClassUID"): element("UI", holding.sop_class_uid),
        tag_of("SOPInstanceUID"): element("UI", holding.sop_instance_uid),
        tag_of("StudyInstanceUID"): element("UI", holding.study_uid),
        tag_of("SeriesInstanceUID"): element("UI", holding.series_uid),
    }


def _type_of(holding: Holding) -> str:
    return f"{DICOM}; transfer-syntax={holding.transfer_syntax_uid}"
