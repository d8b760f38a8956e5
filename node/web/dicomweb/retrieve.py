"""WADO-RS instances and metadata (PS3.18 10.4): files as they are stored, and their headers as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastapi.responses import FileResponse, Response, StreamingResponse

from node.web.dicomweb import parts
from node.web.dicomweb.attributes import Attributes, encoded, to_json
from node.web.dicomweb.failures import GONE, NOT_ACCEPTABLE, refuse
from node.web.dicomweb.holdings import Holding
from node.web.dicomweb.kept import Kept
from node.web.dicomweb.media_types import DICOM, DICOM_JSON, JSON, MediaType, best
from node.web.dicomweb.pixel_source import read_stored
from node.web.dicomweb.search import resource_of

_METADATA_BYTES = 64 << 20
_BATCH_BYTES = 1 << 18


def instances(held: Sequence[Holding], wanted: Sequence[MediaType]) -> Response:
    """Files of some instances.

    The transfer syntax is the stored one. A client that asks for another gets what is stored in it, with status 206
    where that is not everything.

    Raises
    ------
    HTTPException
        406: none of the types and transfer syntaxes a client takes can be given. 410: a file is gone.
    """
    for each in wanted:
        if not each.takes(DICOM) or not (each.is_multipart or each.name == "*/*" or len(held) == 1):
            continue
        fitting = [one for one in held if each.transfer_syntax in ("", "*", one.transfer_syntax_uid)]
        if not fitting:
            continue
        if any(not one.path.is_file() for one in fitting):
            refuse(GONE, "a stored file is not here any more")
        if len(held) == 1 and each.name == DICOM:
            return FileResponse(fitting[0].path, media_type=_type_of(fitting[0]))
        left = len(held) - len(fitting)
        warning = f"{left} instances are stored in another transfer syntax and left out" if left else ""
        made = [parts.FilePart(_type_of(one), one.path, one.path.stat().st_size) for one in fitting]
        return parts.answer(made, DICOM, status=206 if left else 200, warning=warning)
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
        return StreamingResponse(self._array(held, base), media_type=chosen)

    def _array(self, held: Sequence[Holding], base: str) -> Iterator[bytes]:
        waiting = b"["
        for number, each in enumerate(held):
            waiting += (b"," if number else b"") + self.of(each, base)
            if len(waiting) >= _BATCH_BYTES:
                yield waiting
                waiting = b""
        yield waiting + b"]"

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


def _type_of(holding: Holding) -> str:
    return f"{DICOM}; transfer-syntax={holding.transfer_syntax_uid}"
