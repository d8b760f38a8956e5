"""WADO-RS (PS3.18 10.4): images from a DICOMweb server into the spool, by the same filing as a C-STORE.

So what is fetched is as durable, indexed, checked and recorded as what is sent to this node.
"""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx

from node.archive.index import Ending
from node.archive.part10 import FileMeta, file_meta_bytes, read_file_meta
from node.archive.placing import checked_uid
from node.archive.spool import Part, Spool
from node.dicom.filing import SUCCESS, Filing, Session
from node.dicom.incoming import IncomingDataSet
from node.dicomweb.multipart import Event, PartBegins, PartData, boundary_of, read_parts
from node.dicomweb.web_client import WebClient, WebPeer, refusal
from node.errors import ObjectRejected, SpoolDamaged, SpoolError
from node.settings import ReceiveSection, Settings

# Any transfer syntax: the server must not decode what it has (PS3.18 8.7.3.5.2).
_ACCEPT = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
_META_HEAD = 144
_LONGEST_META = 1 << 20


@dataclass(slots=True)
class FetchReport:
    """What became of what was fetched.

    Attributes
    ----------
    filed : list of str
        SOP Instance UIDs that are in the spool and the index now, those included that were there before.
    refused : list of str
        Why others are not, one sentence each.
    """

    filed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


class Fetcher:
    """Fetches from one server into one node.

    Parameters
    ----------
    client : WebClient
    filing : Filing
        Started.
    spool : Spool
    limits : ReceiveSection
        The limits of received objects hold here, too.
    calling_ae_title, called_ae_title : str
        Stand in the index for where an image came from; routing may match them.
    """

    def __init__(
        self,
        client: WebClient,
        filing: Filing,
        spool: Spool,
        limits: ReceiveSection,
        *,
        calling_ae_title: str,
        called_ae_title: str,
    ) -> None:
        self._client = client
        self._filing = filing
        self._spool = spool
        self._limits = limits
        self._titles = (calling_ae_title[:16], called_ae_title[:16])

    def fetch(self, study_uid: str, series_uid: str | None = None, sop_instance_uid: str | None = None) -> FetchReport:
        """Fetch a study, one of its series, or one instance of that.

        Raises
        ------
        PeerUnreachable, NoResponse, PeerBusy, PeerRejectedObject, WebNotAuthorised
            The server did not give it. What came before the connection was lost is filed.
        WebAnswerUnusable
            The answer is not what PS3.18 says, or ends early. What came before is filed.
        ObjectRejected
            One object took longer than ``maximum_object_seconds``. What came before is filed.
        """
        session = Session(str(uuid.uuid4()), *self._titles, httpx.URL(self._client.peer.url).host, time.time())
        report = FetchReport()
        ending = Ending.ABORTED
        try:
            with self._client.stream(
                "GET", _resource(study_uid, series_uid, sop_instance_uid), headers=_ACCEPT
            ) as answer:
                if answer.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                    raise refusal(self._client.peer, answer, "nothing was retrieved")
                boundary = boundary_of(answer.headers.get("Content-Type", ""))
                self._take(read_parts(answer.iter_bytes(), boundary), session, report)
            ending = Ending.RELEASED
        finally:
            self._filing.end(session, ending)
        return report

    def _take(self, events: Iterator[Event], session: Session, report: FetchReport) -> None:
        instance: _Instance | None = None
        try:
            for event in events:
                if isinstance(event, PartBegins):
                    instance = _Instance(self._spool, self._limits, self._titles)
                elif instance is None:
                    continue
                elif isinstance(event, PartData):
                    instance.write(event.data)
                else:
                    self._file(instance, session, report)
                    instance = None
        finally:
            if instance is not None:
                instance.discard()

    def _file(self, instance: _Instance, session: Session, report: FetchReport) -> None:
        meta = instance.meta
        if meta is None:
            report.refused.append("a part of the answer is no DICOM file (PS3.10 7.1)")
            instance.discard()
            return
        answer = self._filing.file(
            instance.incoming,
            sop_class_uid=meta.sop_class_uid,
            sop_instance_uid=meta.sop_instance_uid,
            session=session,
        )
        if answer.status == SUCCESS:
            report.filed.append(meta.sop_instance_uid)
        else:
            report.refused.append(f"{meta.sop_instance_uid}: 0x{answer.status:04X} {answer.comment}")


def fetch_study(
    peer: WebPeer, study_uid: str, name: str, settings: Settings, filing: Filing, spool: Spool
) -> FetchReport:
    """Fetch a whole study into the node.

    Parameters
    ----------
    name : str
        Of the archive; stands in the index as where the images came from.
    filing : Filing
        Not started.

    Raises
    ------
    PeerError, ObjectRejected
        As :meth:`Fetcher.fetch`.
    """
    filing.start()
    try:
        with WebClient(peer) as client:
            fetcher = Fetcher(
                client,
                filing,
                spool,
                settings.receive,
                calling_ae_title=name.upper(),
                called_ae_title=settings.node.ae_title,
            )
            return fetcher.fetch(study_uid)
    finally:
        filing.stop()


class _Instance:
    """One part of the answer on its way into the spool."""

    def __init__(self, spool: Spool, limits: ReceiveSection, titles: tuple[str, str]) -> None:
        self._spool = spool
        self._titles = titles
        self._head = bytearray()
        self.meta: FileMeta | None = None
        self.incoming = IncomingDataSet(
            self._begin, limit_bytes=limits.maximum_object_bytes, limit_seconds=limits.maximum_object_seconds
        )

    def write(self, data: bytes) -> None:
        """Take bytes; those of the file meta information are read, the rest goes to the disk."""
        if self.meta is not None:
            self.incoming.write(data)
            return
        self._head += data
        if len(self._head) < _META_HEAD:
            return
        whole = _META_HEAD + int.from_bytes(self._head[140:144], "little")
        if len(self._head) < min(whole, _LONGEST_META):
            return
        try:
            self.meta = read_file_meta(io.BytesIO(self._head))
        except SpoolDamaged:
            # No DICOM file, which is only said when the part has ended; what follows of it is not kept.
            del self._head[_META_HEAD:]
            return
        rest = bytes(self._head[self.meta.dataset_offset :])
        self._head.clear()
        if rest:
            self.incoming.write(rest)

    def discard(self) -> None:
        """Forget it."""
        self.incoming.discard()

    def _begin(self) -> Part:
        assert self.meta is not None  # the data set follows the meta information
        try:
            head = file_meta_bytes(
                sop_class_uid=self.meta.sop_class_uid,
                sop_instance_uid=self.meta.sop_instance_uid,
                transfer_syntax_uid=self.meta.transfer_syntax_uid,
                sending_ae_title=self._titles[0],
                receiving_ae_title=self._titles[1],
            )
        except UnicodeEncodeError as error:
            raise ObjectRejected("the UIDs of the file meta information are not ASCII") from error
        part = self._spool.begin()
        part.transfer_syntax_uid = self.meta.transfer_syntax_uid
        try:
            part.write(head)
        except (SpoolError, OSError):
            part.discard()
            raise
        return part


def _resource(study_uid: str, series_uid: str | None, sop_instance_uid: str | None) -> str:
    path = f"/studies/{checked_uid(study_uid, 'Study Instance UID')}"
    if series_uid is not None:
        path += f"/series/{checked_uid(series_uid, 'Series Instance UID')}"
    if series_uid is not None and sop_instance_uid is not None:
        path += f"/instances/{checked_uid(sop_instance_uid, 'SOP Instance UID')}"
    return path
