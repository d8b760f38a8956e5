"""What a DICOMweb service does with an object: a marked test object stored, found, retrieved, and removed again."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_sr.marked_object import PATIENT_NAME, MarkedObject
from node.archive.spool import dataset_digest
from node.dicom.storage_scu import read_object_file
from node.dicomweb import qido, stow
from node.dicomweb.multipart import PartBegins, PartData, boundary_of, read_parts
from node.dicomweb.web_client import WebClient, WebPeer, refusal
from node.errors import PeerError

_FIND_SECONDS = 10.0
_LOOK_SECONDS = 0.2
_ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@dataclass(slots=True)
class WebTrial:
    """What became of the test object; None where it could not be found out, times in seconds.

    Attributes
    ----------
    same : bool or None
        It was retrieved with the data set that was stored.
    charset : str
        ``kept``, ``changed`` or empty: what the patient name came back as.
    removed : bool or None
        The service took a DELETE on its study, and does not list it any more. Few services offer it.
    problem : str
        Why the trial ended early, in the words of the error.
    """

    stored: bool | None = None
    store_note: str = ""
    store_seconds: float | None = None
    found: bool | None = None
    found_seconds: float | None = None
    same: bool | None = None
    retrieve_seconds: float | None = None
    charset: str = ""
    removed: bool | None = None
    problem: str = ""

    @property
    def good(self) -> bool:
        """Stored, and given back as it was."""
        return bool(self.stored and self.same)


def try_service(peer: WebPeer, marked: MarkedObject, path: Path) -> WebTrial:
    """Send the marked object and see what becomes of it.

    Parameters
    ----------
    path : Path
        The file of ``marked``.
    """
    trial = WebTrial()
    try:
        with WebClient(peer) as client:
            _store(client, marked, path, trial)
            _find(client, marked, trial)
            _retrieve(client, marked, path, trial)
            _remove(client, marked, trial)
    except PeerError as error:
        trial.problem = str(error)
    return trial


def _store(client: WebClient, marked: MarkedObject, path: Path, trial: WebTrial) -> None:
    started = time.monotonic()
    trial.stored = False
    reply = stow.store(client, read_object_file(path), study_uid=marked.study_uid)
    trial.stored, trial.store_note, trial.store_seconds = True, reply.note, time.monotonic() - started


def _find(client: WebClient, marked: MarkedObject, trial: WebTrial) -> None:
    """Find the object at instance level; an archive may index it a little later."""
    started = time.monotonic()
    while True:
        found = qido.find_instances(
            client,
            study_uid=marked.study_uid,
            series_uid=marked.series_uid,
            sop_instance_uids=[marked.sop_instance_uid],
        )
        trial.found = bool(found)
        if found or time.monotonic() > started + _FIND_SECONDS:
            break
        time.sleep(_LOOK_SECONDS)
    trial.found_seconds = time.monotonic() - started if trial.found else None


def _retrieve(client: WebClient, marked: MarkedObject, path: Path, trial: WebTrial) -> None:
    started = time.monotonic()
    resource = f"/studies/{marked.study_uid}/series/{marked.series_uid}/instances/{marked.sop_instance_uid}"
    response = client.request("GET", resource, headers={"Accept": _ACCEPT})
    if response.status_code != httpx.codes.OK:
        raise refusal(client.peer, response, "the test object was not given back")
    parts: list[bytearray] = []
    for event in read_parts(iter([response.content]), boundary_of(response.headers.get("Content-Type", ""))):
        if isinstance(event, PartBegins):
            parts.append(bytearray())
        elif isinstance(event, PartData):
            parts[-1] += event.data
    trial.retrieve_seconds = time.monotonic() - started
    trial.same = len(parts) == 1 and _same(bytes(parts[0]), path)
    if parts:
        trial.charset = _charset(bytes(parts[0]))


def _same(content: bytes, path: Path) -> bool:
    """Whether the data sets are the same; file meta information is the service's own."""
    copy = path.with_name("returned.dcm")
    copy.write_bytes(content)
    try:
        return dataset_digest(copy) == dataset_digest(path)
    finally:
        copy.unlink()


def _charset(content: bytes) -> str:
    try:
        name = dcmread(io.BytesIO(content), stop_before_pixels=True).get("PatientName")
    except (InvalidDicomError, OSError, ValueError, LookupError):
        return ""
    return "" if name is None else "kept" if str(name) == PATIENT_NAME else "changed"


def _remove(client: WebClient, marked: MarkedObject, trial: WebTrial) -> None:
    """No part of the standard; several archives offer it. The study holds nothing but the test object."""
    response = client.request("DELETE", f"/studies/{marked.study_uid}")
    trial.removed = response.is_success and not qido.instances(client, marked.study_uid)
