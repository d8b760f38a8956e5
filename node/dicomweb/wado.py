"""WADO-RS (PS3.18 10.4): images from a DICOMweb server into the spool, by the same filing as a C-STORE.

So what is fetched is as durable, indexed, checked and recorded as what is sent to this node.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx

from node.archive.index import Ending
from node.archive.placing import checked_uid
from node.archive.spool import Spool
from node.dicom.filing import SUCCESS, Filing, Session
from node.dicomweb.incoming_file import IncomingFile
from node.dicomweb.multipart import Event, PartBegins, PartData, boundary_of, read_parts
from node.dicomweb.web_client import WebClient, WebPeer, refusal
from node.settings import ReceiveSection, Settings

# Any transfer syntax: the server must not decode what it has (PS3.18 8.7.3.5.2).
_ACCEPT = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}


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
        instance: IncomingFile | None = None
        try:
            for event in events:
                if isinstance(event, PartBegins):
                    instance = IncomingFile(self._spool, self._limits, self._titles)
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

    def _file(self, instance: IncomingFile, session: Session, report: FetchReport) -> None:
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


def _resource(study_uid: str, series_uid: str | None, sop_instance_uid: str | None) -> str:
    path = f"/studies/{checked_uid(study_uid, 'Study Instance UID')}"
    if series_uid is not None:
        path += f"/series/{checked_uid(series_uid, 'Series Instance UID')}"
    if series_uid is not None and sop_instance_uid is not None:
        path += f"/instances/{checked_uid(sop_instance_uid, 'SOP Instance UID')}"
    return path
