"""Filing one received instance: the checks, the place in the spool, the rows. Whoever received it comes through here.

:meth:`Filing.file` returning status 0x0000 is the node's promise for the instance; whatever goes wrong before gives a
failure status, never success.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from models.errors import NodeError
from node.archive import index, priors
from node.archive.batch_writer import BatchWriter
from node.archive.engine import Store
from node.archive.entry import Opened
from node.archive.group_commit import GroupCommit
from node.archive.headers import InstanceHeader
from node.archive.index import Arrival, Ending, Recorded
from node.archive.placing import checked_uid
from node.archive.priors import PriorFile
from node.archive.spool import Part, Spool
from node.dicom.asked_archive import AskedArchive
from node.dicom.incoming import IncomingDataSet
from node.dicom.live_associations import LiveAssociations
from node.doorbell import SCHEDULER, ring
from node.errors import ObjectRejected, SpoolFull, StoreUnavailable
from node.own_equipment import OwnEquipment
from node.settings import Settings

logger = logging.getLogger(__name__)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

_SETTLE_SECONDS = 10.0
_LONGEST_COMMENT = 64  # VR LO of Error Comment (0000,0902)


class _Mismatch(ObjectRejected):
    """Data set and request name different instances; the same code, another status."""


@dataclass(slots=True)
class Session:
    """One association, for the rows that tell about it. Written with the first instance: an echo leaves no trace.

    ``priors`` remembers for each study whether what comes of it was asked for as a prior.
    """

    id: str
    calling_ae_title: str
    called_ae_title: str
    address: str
    opened_at: float
    recorded: bool = False
    opened: Opened | None = None
    priors: dict[tuple[str, bool], bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a C-STORE is answered with: Status (0000,0900) and, where it failed, Error Comment (0000,0902)."""

    status: int
    comment: str = ""


class _Moved(NamedTuple):
    """The C-MOVE request that caused an instance to be sent; no originator where there was none."""

    originator: str
    message_id: int | None


class Filing:
    """Files what one receiver process receives. Safe to share between threads.

    Parameters
    ----------
    settings : Settings
    store : Store
        Open; shared by every association of the process.
    spool : Spool
    as_priors : bool
        Everything is an earlier study that was asked for, and goes into the space of priors.
    """

    def __init__(self, settings: Settings, store: Store, spool: Spool, *, as_priors: bool = False) -> None:
        self._as_priors = as_priors
        self._store = store
        self._spool = spool
        self._own = OwnEquipment.of(settings)
        # Titles that this node asks with: a C-MOVE of ours names one of them as Move Originator.
        calling = {each.calling_ae_title for each in settings.destination.values() if each.calling_ae_title}
        self._titles = settings.called_ae_titles | calling
        reserve = settings.receive.disk_reserve_bytes
        self._priors = (
            Spool(settings.data_dir / priors.FOLDER, reserve) if settings.priors.archive is not None else None
        )
        self._asked = AskedArchive.of(settings)
        self._bells = settings.data_dir / "run"
        self._live = LiveAssociations(self._bells / "live-associations")
        # In mode "association" one writer syncs and indexes for all, later; in mode "instance" each waits for its entry.
        self._commits = GroupCommit(store)
        self._writer = BatchWriter(store, spool, self._ring) if settings.receive.mode == "association" else None

    def start(self) -> None:
        """Be ready to file. Called in the process that receives."""
        if self._writer is not None:
            self._writer.start()

    @property
    def is_alive(self) -> bool:
        """Whether what is filed still comes into the index."""
        return self._writer is None or self._writer.is_alive

    def stop(self) -> None:
        """Finish what is under way. Called when every association has ended."""
        if self._writer is not None:
            self._writer.stop(_SETTLE_SECONDS)

    def file(
        self,
        incoming: IncomingDataSet,
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        session: Session,
        move_originator: str = "",
        move_originator_message_id: int | None = None,
    ) -> Answer:
        """Check, place, index and record one instance, and ring for it.

        Parameters
        ----------
        incoming : IncomingDataSet
            Completely received; used up.
        sop_class_uid, sop_instance_uid, move_originator, move_originator_message_id
            Of the C-STORE request.
        """
        moved = _Moved(move_originator, move_originator_message_id)
        try:
            self._file(incoming.take(), sop_class_uid, sop_instance_uid, session, moved)
        except _Mismatch as error:
            return _failure(DOES_NOT_MATCH, error)
        except ObjectRejected as error:
            return _failure(CANNOT_UNDERSTAND, error)
        except (SpoolFull, StoreUnavailable) as error:
            return _failure(OUT_OF_RESOURCES, error)
        except OSError as error:
            return _failure(OUT_OF_RESOURCES, SpoolFull(f"the spool's disk failed ({error.strerror})"))
        finally:
            incoming.discard()
        return Answer(SUCCESS)

    def end(self, session: Session, ending: Ending) -> None:
        """Record the end of an association that brought something, after all it brought, and ring for it."""
        if not session.recorded:
            self._live.let_go(session.id)
        elif self._writer is None:
            self._end(session, ending)
        else:
            self._writer.when_indexed(session.id, partial(self._end, session, ending))

    def _end(self, session: Session, ending: Ending) -> None:
        try:
            with self._store.write() as connection:
                index.close_association(connection, time.time(), session.id, ending=ending)
        except StoreUnavailable as error:
            # Evidence of completeness only; the quiet time decides without it.
            logger.error("the end of an association could not be recorded: %s", error)
            return
        finally:
            if self._writer is not None:
                self._writer.forget(session.id)
            self._live.let_go(session.id)
        self._ring()

    def _file(self, part: Part, sop_class_uid: str, sop_instance_uid: str, session: Session, moved: _Moved) -> None:
        header = part.header()
        _check_against_request(header, sop_class_uid, sop_instance_uid)
        digest = part.hash.hexdigest()
        if self._priors is not None and self._is_prior(header, session, moved.originator):
            self._file_prior(self._priors, part, header, digest)
            return
        writer = self._writer
        origin = self._own.origin(header)
        arrival = Arrival(
            at=time.time(),
            header=header,
            path=part.commit(header.study_uid, header.sop_instance_uid, digest, sync=writer is None),
            digest=digest,
            size=part.size,
            association_id=session.id,
            calling_ae_title=session.calling_ae_title,
            called_ae_title=session.called_ae_title,
            made_here=origin.made_here,
            derived=origin.derived,
            move_originator=moved.originator,
            move_originator_message_id=moved.message_id,
        )
        opened = session.opened
        if opened is None:
            self._live.hold(session.id)
            opened = session.opened = Opened(
                session.id, session.calling_ae_title, session.called_ae_title, session.address, session.opened_at
            )
        if writer is None:
            recorded = self._commits.add(arrival, None if session.recorded else opened)
            if recorded is Recorded.CORRECTED:
                self._spool.mark_latest(arrival.path)
            self._ring()
        else:
            writer.add(arrival, opened)
        session.recorded = True
        if header.unreadable:
            logger.warning("instance %s: unreadable %s", header.sop_instance_uid, ", ".join(header.unreadable))

    def _is_prior(self, header: InstanceHeader, session: Session, move_originator: str) -> bool:
        """Whether this node asked for the study as a prior; the database is asked once for each association."""
        if self._as_priors:
            return True
        key = (header.study_uid, move_originator in self._titles)
        if key not in session.priors:
            title = session.calling_ae_title
            foreign = not key[1] and self._asked is not None and not self._asked.sends_as(title, session.address)
            with self._store.read() as connection:
                session.priors[key] = priors.is_prior(
                    connection,
                    time.time(),
                    header.study_uid,
                    moved_by_us=key[1],
                    foreign_title=title if foreign else None,
                )
        return session.priors[key]

    def _file_prior(self, space: Spool, part: Part, header: InstanceHeader, digest: str) -> None:
        """Into their own space: nothing is indexed, and nobody is woken."""
        path = part.commit(header.study_uid, header.sop_instance_uid, digest, into=space)
        with self._store.write() as connection:
            priors.record(connection, time.time(), header, PriorFile(path, digest, part.size), root=space.root)

    def close_lost(self, at: float) -> None:
        """Record the end of associations whose process has died, of whatever kind it was."""
        with self._store.read() as connection:
            open_ones = [row.id for row in index.open_associations(connection)]
        lost = self._live.gone(open_ones)
        if lost:
            with self._store.write() as connection:
                for association_id in lost:
                    index.close_association(connection, at, association_id, ending=Ending.LOST)
            self._ring()

    def _ring(self) -> None:
        ring(self._bells, SCHEDULER)


def _check_against_request(header: InstanceHeader, sop_class_uid: str, sop_instance_uid: str) -> None:
    """PS3.7 9.1.1: command and data set name the same instance.

    Raises
    ------
    ObjectRejected
        A UID that the node files by is missing, or is none.
    _Mismatch
        They differ.
    """
    for name, value in (
        ("SOP Class UID", header.sop_class_uid),
        ("SOP Instance UID", header.sop_instance_uid),
        ("Study Instance UID", header.study_uid),
        ("Series Instance UID", header.series_uid),
        ("Transfer Syntax UID", header.transfer_syntax_uid),
    ):
        checked_uid(value, f"{name} of the data set")
    if header.sop_instance_uid != sop_instance_uid:
        raise _Mismatch("SOP Instance UID of command and data set differ")
    if header.sop_class_uid != sop_class_uid:
        raise _Mismatch("SOP Class UID of command and data set differ")


def _failure(status: int, error: NodeError) -> Answer:
    logger.warning("C-STORE refused with 0x%04X: %s", status, error)
    # The database's own words name its server, which is nobody's business outside.
    words = error.summary if isinstance(error, StoreUnavailable) else error.message
    return Answer(status, words[:_LONGEST_COMMENT])
