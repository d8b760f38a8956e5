"""STOW-RS (PS3.18 10.5): each part goes into the spool as it comes, and is filed exactly as a C-STORE."""

from __future__ import annotations

import ipaddress
import logging
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from fastapi.concurrency import run_in_threadpool

from node.archive.engine import Store
from node.archive.index import Ending
from node.archive.spool import Spool
from node.dicom.filing import CANNOT_UNDERSTAND, DOES_NOT_MATCH, OUT_OF_RESOURCES, SUCCESS, Answer, Filing, Session
from node.dicomweb.incoming_file import IncomingFile
from node.dicomweb.multipart import Event, PartBegins, PartData, PartReader
from node.errors import NodeError, ObjectRejected, SpoolError, StoreError, WebAnswerUnusable
from node.settings import Settings
from node.web.dicomweb.attributes import Attributes, element, tag_of
from node.web.dicomweb.failures import BAD_REQUEST, CONFLICT, refuse
from node.web.dicomweb.media_types import DICOM, MediaType, parse

logger = logging.getLogger(__name__)

_OK, _ACCEPTED = 200, 202


@dataclass(slots=True)
class Outcome:
    """What became of the parts of one request: (SOP Class UID, SOP Instance UID, Study, Series) or the failure."""

    stored: list[tuple[str, str, str, str]] = field(default_factory=list)
    failed: list[tuple[str, str, int]] = field(default_factory=list)
    others: int = 0

    @property
    def status(self) -> int:
        """HTTP status (PS3.18 table 10.5.3-1)."""
        if not self.failed and not self.others:
            return _OK
        return _ACCEPTED if self.stored else CONFLICT

    def response(self, base: str, study_uid: str | None) -> Attributes:
        """The store instances response (PS3.18 annex I)."""
        made: Attributes = {}
        if study_uid is not None and self.stored:
            made[tag_of("RetrieveURL")] = element("UR", f"{base}/studies/{study_uid}")
        if self.failed:
            items = [_reference(*each[:2]) | {tag_of("FailureReason"): element("US", each[2])} for each in self.failed]
            made[tag_of("FailedSOPSequence")] = element("SQ", *items)
        if self.stored:
            made[tag_of("ReferencedSOPSequence")] = element("SQ", *(_stored(base, each) for each in self.stored))
        if self.others:
            item = {tag_of("FailureReason"): element("US", CANNOT_UNDERSTAND)}
            made[tag_of("OtherFailuresSequence")] = element("SQ", *([item] * self.others))
        return dict(sorted(made.items()))


def boundary_in(content_type: str) -> str | None:
    """Boundary of a request whose parts are DICOM files; None for any other media type.

    Raises
    ------
    HTTPException
        400: such a type without a boundary.
    """
    found: MediaType = parse(content_type)
    if found.name != "multipart/related" or found.parameters.get("type", DICOM) != DICOM:
        return None
    # Parameters are compared in lower case; a boundary is taken as it stands.
    at = content_type.lower().find("boundary=")
    boundary = content_type[at + 9 :].split(";")[0].strip().strip('"') if at >= 0 else ""
    if not 1 <= len(boundary) <= 70 or not boundary.isascii():
        refuse(BAD_REQUEST, "the content type names no boundary of 1 to 70 ASCII characters")
    return boundary


def may_store(settings: Settings, address: str | None) -> bool:
    """Whether an address is in the allow-list."""
    try:
        caller = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    caller = getattr(caller, "ipv4_mapped", None) or caller
    networks = (ipaddress.ip_network(each, strict=False) for each in settings.dicomweb.store_allow)
    return any(caller in network for network in networks if network.version == caller.version)


class Reception:
    """One store request: its bytes go in by :meth:`take`, its outcome comes out of :meth:`finish`.

    Parameters
    ----------
    address : str
        Of the client, for the record.
    study_uid : str or None
        The only study that may be stored into.
    """

    def __init__(self, settings: Settings, store: Store, *, address: str, boundary: str, study_uid: str | None) -> None:
        self._limits = settings.receive
        self._spool = Spool(settings.data_dir / "spool", settings.receive.disk_reserve_bytes)
        self._filing = Filing(settings, store, self._spool)
        self._titles = (settings.dicomweb.store_ae_title, settings.node.ae_title)
        self._session = Session(str(uuid.uuid4()), *self._titles, address, time.time())
        self._study_uid = study_uid
        self._reader = PartReader(boundary)
        self._file: IncomingFile | None = None
        self._ending = Ending.ABORTED
        self.outcome = Outcome()
        self._filing.start()

    def take(self, chunk: bytes) -> None:
        """Some more bytes of the body.

        Raises
        ------
        HTTPException
            400: they are no multipart body. 408 has no place here: an object that takes too long is refused for itself.
        """
        try:
            for event in self._reader.take(chunk):
                self._on(event)
        except WebAnswerUnusable:
            refuse(BAD_REQUEST, "the body is not multipart/related (RFC 2387)")
        except ObjectRejected as error:
            refuse(BAD_REQUEST, error.message)

    def finish(self) -> Outcome:
        """The body is complete.

        Raises
        ------
        HTTPException
            400: it ends before its last boundary; what came before is filed.
        """
        if not self._reader.ended:
            refuse(BAD_REQUEST, "the body ends before its last boundary; what came whole before is stored")
        self._ending = Ending.RELEASED
        return self.outcome

    def close(self) -> None:
        """End it, however far it came. What was filed stays."""
        if self._file is not None:
            self._file.discard()
            self._file = None
        self._filing.end(self._session, self._ending)
        self._filing.stop()

    def _on(self, event: Event) -> None:
        if isinstance(event, PartBegins):
            kind = event.headers.get("content-type", DICOM).partition(";")[0].strip().lower()
            self._file = IncomingFile(self._spool, self._limits, self._titles) if kind == DICOM else None
            self.outcome.others += self._file is None
        elif self._file is None:
            return
        elif isinstance(event, PartData):
            self._file.write(event.data)
        else:
            file, self._file = self._file, None
            try:
                self._complete(file)
            finally:
                file.discard()

    def _complete(self, file: IncomingFile) -> None:
        meta = file.meta
        if meta is None:
            self.outcome.others += 1
            return
        placed = self._place(file)
        if isinstance(placed, Answer):
            answer = placed
        else:
            answer = self._filing.file(
                file.incoming,
                sop_class_uid=meta.sop_class_uid,
                sop_instance_uid=meta.sop_instance_uid,
                session=self._session,
            )
        if answer.status == SUCCESS and not isinstance(placed, Answer):
            self.outcome.stored.append((meta.sop_class_uid, meta.sop_instance_uid, *placed))
        else:
            self.outcome.failed.append((meta.sop_class_uid, meta.sop_instance_uid, answer.status))

    def _place(self, file: IncomingFile) -> tuple[str, str] | Answer:
        """Study and series of a complete file; or why it is not stored."""
        try:
            header = file.incoming.take().header()
        except ObjectRejected as error:
            return self._refused(CANNOT_UNDERSTAND, error)
        except (SpoolError, StoreError) as error:
            return self._refused(OUT_OF_RESOURCES, error)
        except OSError:
            logger.warning("STOW-RS refused with 0x%04X: the disk failed", OUT_OF_RESOURCES)
            return Answer(OUT_OF_RESOURCES)
        if self._study_uid not in (None, header.study_uid):
            return Answer(DOES_NOT_MATCH, "the object belongs to another study than the URL names")
        return header.study_uid, header.series_uid

    @staticmethod
    def _refused(status: int, error: NodeError) -> Answer:
        logger.warning("STOW-RS refused with 0x%04X: %s", status, error)
        return Answer(status)


async def receive(reception: Reception, body: AsyncIterator[bytes]) -> Outcome:
    """Take a whole body. Disk and database are waited for in other threads."""
    try:
        async for chunk in body:
            if chunk:
                await run_in_threadpool(reception.take, chunk)
        return reception.finish()
    finally:
        await run_in_threadpool(reception.close)


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Attributes:
    return {
        tag_of("ReferencedSOPClassUID"): element("UI", sop_class_uid),
        tag_of("ReferencedSOPInstanceUID"): element("UI", sop_instance_uid),
    }


def _stored(base: str, stored: tuple[str, str, str, str]) -> Attributes:
    sop_class_uid, sop_instance_uid, study_uid, series_uid = stored
    url = f"{base}/studies/{study_uid}/series/{series_uid}/instances/{sop_instance_uid}"
    return _reference(sop_class_uid, sop_instance_uid) | {tag_of("RetrieveURL"): element("UR", url)}
