"""STOW-RS (PS3.18 10.5): one stored object for each request, so that each has a status of its own.

The bytes leave as they lie in the file; requests follow each other on one connection.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from node.dicom.storage_scu import ObjectFile
from node.dicomweb import json_model
from node.dicomweb.json_model import Attributes
from node.dicomweb.web_client import WebClient, refusal
from node.errors import NoResponse, PeerBusy, PeerError, PeerRejectedObject, WebAnswerUnusable

_CHUNK_BYTES = 256 * 1024
_REFERENCED_SOP_SEQUENCE, _FAILED_SOP_SEQUENCE = "00081199", "00081198"
_REFERENCED_SOP_INSTANCE_UID = "00081155"
_FAILURE_REASON, _WARNING_REASON = "00081197", "00081196"
# PS3.18 table 10.5.3-1.
_DETAILED = frozenset({200, 202, 409})
# PS3.18 table I.2-2 and PS3.4 annex B.2.3. A known instance is stored, if it is the same: the proof tells.
_MEANINGS = {
    0x0110: "processing failure",
    0x0111: "the instance is there already",
    0x0117: "invalid object instance",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
    0xA770: "transfer syntax not supported",
    0xA771: "transfer syntax and data set differ",
}
_PASSING = frozenset({0x0110, 0x0213, 0xA700, 0xA701, 0xA702})
ALREADY_THERE = 0x0111
_CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True, slots=True)
class StowReply:
    """The service has stored the object.

    Attributes
    ----------
    status : int
        0x0000, or a Warning Reason (0008,1196).
    note : str
        What a warning means; empty at plain success.
    """

    status: int
    note: str = ""


def store(client: WebClient, file: ObjectFile, *, study_uid: str) -> StowReply:
    """Store one object and read what the service says about it.

    Raises
    ------
    PeerBusy
        Refused for the moment: passing Failure Reason, HTTP 429 or 5xx.
    PeerRejectedObject
        Refused for good, with the Failure Reason (0008,1197) as ``status`` where there is one.
    NoResponse
        The object may be stored or not: connection lost, or an answer that does not mention it.
    PeerUnreachable, PeerNotTrusted, WebNotAuthorised
        Nothing was sent, or the service does not know us.
    """
    boundary = uuid.uuid4().hex
    head, tail = _frame(boundary)
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Content-Length": str(len(head) + file.size + len(tail)),
        "Accept": "application/dicom+json",
    }
    body = _Body(head, file, tail)
    response = client.request("POST", f"/studies/{study_uid}", content=body, headers=headers)
    return _read(client, response, file.sop_instance_uid)


class _Body:
    """The request's body; begins anew each time it is sent, as after a token was refused."""

    def __init__(self, head: bytes, file: ObjectFile, tail: bytes) -> None:
        self._head = head
        self._file = file
        self._tail = tail

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        with self._file.path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
        yield self._tail


def _frame(boundary: str) -> tuple[bytes, bytes]:
    return f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode(
        "ascii"
    ), f"\r\n--{boundary}--\r\n".encode()


def _read(client: WebClient, response: httpx.Response, sop_instance_uid: str) -> StowReply:
    if response.status_code not in _DETAILED:
        if response.status_code < httpx.codes.MULTIPLE_CHOICES:
            raise NoResponse(f"{client.peer}: HTTP {response.status_code} says nothing about the object")
        raise refusal(client.peer, response, "the object was not stored")
    answer = _answer(response)
    for item in json_model.items(answer, _FAILED_SOP_SEQUENCE):
        if json_model.text(item, _REFERENCED_SOP_INSTANCE_UID) in ("", sop_instance_uid):
            raise _failure(client, json_model.number(item, _FAILURE_REASON))
    for item in json_model.items(answer, _REFERENCED_SOP_SEQUENCE):
        if json_model.text(item, _REFERENCED_SOP_INSTANCE_UID) == sop_instance_uid:
            warning = json_model.number(item, _WARNING_REASON) or 0
            return StowReply(warning, f"stored with warning 0x{warning:04X}" if warning else "")
    if response.status_code == httpx.codes.CONFLICT:
        raise refusal(client.peer, response, "the object was not stored")
    raise NoResponse(f"{client.peer}: HTTP {response.status_code}, but the answer does not mention the object")


def _answer(response: httpx.Response) -> Attributes:
    """The store instances response; empty where there is none to read."""
    try:
        return json_model.as_datasets(json.loads(response.content))[0]
    except (ValueError, IndexError, WebAnswerUnusable):
        return {}


def _failure(client: WebClient, reason: int | None) -> PeerError:
    code = reason if reason is not None else _CANNOT_UNDERSTAND
    meaning = _MEANINGS.get(code, "refused")
    words = f"{client.peer}: {meaning}, Failure Reason {code:04X}H"
    if code in _PASSING or (code >> 8 == 0xA7 and code not in _MEANINGS):
        return PeerBusy(words, status=code)
    return PeerRejectedObject(words, status=code)
