"""Storage service class user: Part 10 files to a peer.

The bytes go out as they lie in the file wherever the peer accepts their transfer syntax. Where it does not, the object
may be sent in another syntax that says the same (:mod:`node.dicom.transcoding`), and the reply tells so.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pynetdicom.dsutils import split_dataset

from models.errors import NodeError, Transient
from node.archive.header_scan import scan_instance
from node.archive.part10 import read_file_meta
from node.dicom.association import MAXIMUM_CONTEXTS, ClientAssociation, Peer, Proposal
from node.dicom.sending_lane import Outgoing, mapped
from node.dicom.transcoding import alternatives, transcoded
from node.errors import NoPresentationContext, PeerBusy, PeerRejectedObject, SpoolDamaged, UsageError

# Slowest link on which an object still counts as moving: the time limit grows by a second for each of these.
TRANSFER_FLOOR_BYTES_PER_SECOND = 125_000

# SOP Class and SOP Instance UID stand at the beginning of a data set.
_FIRST_BYTES = 2048

# PS3.4 table B.2-1 and PS3.7 annex C. Warnings mean stored, coerced.
_WARNINGS = {
    0xB000: "stored with coerced attributes",
    0xB006: "stored, some elements were discarded",
    0xB007: "stored, the data set does not match its SOP class",
}
_REASONS = {
    0x0110: "processing failure",
    0x0117: "invalid object instance",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
    0x0210: "duplicate invocation",
    0x0211: "unrecognised operation",
    0x0212: "mistyped argument",
}
# Failures of the moment rather than of the object, although the standard files them elsewhere.
_PASSING = frozenset({0x0110, 0x0210})


@dataclass(frozen=True, slots=True)
class ObjectFile:
    """What an association needs to know of a Part 10 file.

    Attributes
    ----------
    size : int
        Bytes of the whole file.
    dataset_offset : int
        Bytes before the data set.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    size: int
    dataset_offset: int

    @property
    def proposal(self) -> Proposal:
        """The only context on which the file can be sent as it is."""
        return Proposal(self.sop_class_uid, (self.transfer_syntax_uid,))

    def proposals(self, *, transcode: bool) -> list[Proposal]:
        """Contexts on which it can be sent, the best first."""
        others = alternatives(self.transfer_syntax_uid) if transcode else ()
        return [self.proposal, *(Proposal(self.sop_class_uid, (syntax,)) for syntax in others)]


@dataclass(frozen=True, slots=True)
class StoreReply:
    """The peer has stored the object.

    Attributes
    ----------
    status : int
        0x0000, or a warning 0xB000 to 0xBFFF.
    note : str
        What a warning means, with the peer's comment; empty at plain success.
    transfer_syntax_uid : str
        Set where the object was sent in another transfer syntax than it is stored in.
    digest : str
        Hex SHA-256 of the data set as sent; set with ``transfer_syntax_uid``.
    """

    status: int
    note: str = ""
    transfer_syntax_uid: str = ""
    digest: str = ""


def read_object_file(path: Path, *, by_data_set: bool = False) -> ObjectFile:
    """Read the file meta information of a Part 10 file.

    Parameters
    ----------
    by_data_set : bool
        Take class and instance from the data set where it names them: in files of others, renamed or anonymised, the
        file meta information may name another instance, and the peer compares with the data set (PS3.7 9.1.1).

    Raises
    ------
    SpoolDamaged
        The file is missing, unreadable, or no Part 10 file with a complete header.
    """
    try:
        size = path.stat().st_size
        try:
            meta = read_file_meta(path)
            facts = (meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid, meta.dataset_offset)
        except SpoolDamaged:
            facts = _lenient_facts(path)
    except OSError as error:
        raise SpoolDamaged(f"{path.name}: cannot be read ({error.strerror})") from error
    except (InvalidDicomError, AttributeError, ValueError, EOFError) as error:
        raise SpoolDamaged(f"{path.name}: is no DICOM file with file meta information (PS3.10 7.1)") from error
    sop_class_uid, sop_instance_uid, transfer_syntax_uid, offset = facts
    if by_data_set:
        named = _named_at_the_beginning(path, offset, transfer_syntax_uid) or _named_by_data_set(path)
        sop_class_uid, sop_instance_uid = named[0] or sop_class_uid, named[1] or sop_instance_uid
    if not all(0 < len(value) <= 64 for value in (sop_class_uid, sop_instance_uid, transfer_syntax_uid)):
        raise SpoolDamaged(f"{path.name}: SOP class, SOP instance or transfer syntax is missing in its file meta")
    return ObjectFile(path, sop_class_uid, sop_instance_uid, transfer_syntax_uid, size, offset)


def _named_at_the_beginning(path: Path, offset: int, transfer_syntax_uid: str) -> tuple[str, str] | None:
    """As :func:`_named_by_data_set`, from the first elements; None where they are odd in any way."""
    try:
        with path.open("rb", buffering=0) as stream:
            stream.seek(offset)
            return scan_instance(stream.read(_FIRST_BYTES), transfer_syntax_uid)
    except OSError:
        return None


def _named_by_data_set(path: Path) -> tuple[str, str]:
    """SOP class and instance of the data set; empty where it names none, or cannot be read so far."""
    tags = ["SOPClassUID", "SOPInstanceUID"]
    try:
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=tags, force=True)
        return str(dataset.get(tags[0], "")), str(dataset.get(tags[1], ""))
    except (OSError, InvalidDicomError, AttributeError, ValueError, EOFError, NotImplementedError, zlib.error):
        return "", ""


def _lenient_facts(path: Path) -> tuple[str, str, str, int]:
    """As :func:`read_file_meta`, for files of others that lack the group length."""
    meta, offset = split_dataset(path)
    return (
        str(meta.MediaStorageSOPClassUID),
        str(meta.MediaStorageSOPInstanceUID),
        str(meta.TransferSyntaxUID),
        offset,
    )


def proposals_of(files: Iterable[ObjectFile], *, transcode: bool = False) -> list[Proposal]:
    """Distinct contexts the files need, in order of first use."""
    return list(dict.fromkeys(proposal for file in files for proposal in file.proposals(transcode=transcode)))


def send_object(
    association: ClientAssociation, file: ObjectFile, *, message_id: int = 1, transcode: bool = False
) -> StoreReply:
    """Store one object at the peer (PS3.7 9.1.1).

    Parameters
    ----------
    association : ClientAssociation
        Open; its proposals held those of the file.
    message_id : int
        1 to 65535; taken modulo.
    transcode : bool
        Where the peer refused the file's transfer syntax, send the object in another that it accepted.

    Raises
    ------
    NoPresentationContext
        The peer did not accept the file's SOP class in a transfer syntax it can be sent in.
    TranscodingFailed
        It accepted it in another one only, in which the object cannot be written.
    PeerBusy
        Status A7xx, or another failure of the moment.
    PeerRejectedObject
        Any other failure status: the same bytes will be refused again.
    NoResponse
        No status came back: the object may or may not have been stored.
    """
    number = (message_id - 1) % 65535 + 1
    for proposal in file.proposals(transcode=transcode):
        syntax = proposal.transfer_syntaxes[0]
        context_id = association.context_id(file.sop_class_uid, syntax)
        if context_id is None:
            continue
        if syntax == file.transfer_syntax_uid:
            return _stored(association, file, mapped(file.path, file.dataset_offset), context_id, number)
        content = transcoded(file.path, syntax)
        reply = _stored(association, file, memoryview(content), context_id, number)
        return replace(reply, transfer_syntax_uid=syntax, digest=hashlib.sha256(content).hexdigest())
    raise NoPresentationContext(
        f"{association.peer}: no context for {file.sop_class_uid} in {file.transfer_syntax_uid}",
        sop_class_uid=file.sop_class_uid,
        transfer_syntax_uid=file.transfer_syntax_uid,
    )


def _stored(
    association: ClientAssociation, file: ObjectFile, dataset: memoryview, context_id: int, message_id: int
) -> StoreReply:
    response = association.store(
        Outgoing(file.sop_class_uid, file.sop_instance_uid, dataset),
        context_id=context_id,
        message_id=message_id,
        additional_seconds=len(dataset) / TRANSFER_FLOOR_BYTES_PER_SECOND,
    )
    return _judged(association.peer, response.status, response.comment)


def _judged(peer: Peer, status: int, comment: str) -> StoreReply:
    said = f": {comment}" if comment else ""
    if status == 0x0000:
        return StoreReply(status)
    if 0xB000 <= status <= 0xBFFF or status in (0x0001, 0x0107, 0x0116):
        return StoreReply(status, _WARNINGS.get(status, "stored with a warning") + said)
    if status >> 8 == 0xA7:
        raise PeerBusy(f"{peer}: out of resources (0x{status:04X}){said}", status=status)
    if status in _PASSING:
        raise PeerBusy(f"{peer}: {_REASONS[status]} (0x{status:04X}){said}", status=status)
    if status >> 8 == 0xA9:
        reason = "the data set does not match its SOP class"
    elif status >> 12 == 0xC:
        reason = "cannot understand the object"
    else:
        reason = _REASONS.get(status, "refused the object")
    raise PeerRejectedObject(f"{peer}: {reason} (0x{status:04X}){said}", status=status)


class Sent(StrEnum):
    """What became of one file of :func:`send_paths`."""

    STORED = "stored"
    WARNING = "stored with a warning"
    REFUSED = "refused"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class FileReport:
    """One line of a transfer."""

    path: Path
    outcome: Sent
    detail: str = ""


@dataclass(slots=True)
class SendSummary:
    """Outcome of :func:`send_paths`."""

    reports: list[FileReport] = field(default_factory=list)

    def count(self, outcome: Sent) -> int:
        """Number of files with this outcome."""
        return sum(report.outcome is outcome for report in self.reports)

    @property
    def complete(self) -> bool:
        """Whether the peer has stored every file."""
        return bool(self.reports) and all(r.outcome in (Sent.STORED, Sent.WARNING) for r in self.reports)


def send_paths(
    peer: Peer,
    paths: Sequence[Path],
    *,
    on_progress: Callable[[FileReport], None] | None = None,
) -> SendSummary:
    """Send files and whole folders as they are, in any transfer syntax.

    Files that are not DICOM are reported as refused and skipped. As many associations are opened, one after
    the other, as the 128 contexts of one and the peer's patience need.

    Raises
    ------
    UsageError
        A path does not exist, or there is no file in any of them.
    PeerUnreachable
        No association came about.
    """
    summary = SendSummary()

    def report(path: Path, outcome: Sent, detail: str = "") -> None:
        entry = FileReport(path, outcome, detail)
        summary.reports.append(entry)
        if on_progress is not None:
            on_progress(entry)

    files: list[ObjectFile] = []
    for path in _expanded(paths):
        try:
            files.append(read_object_file(path, by_data_set=True))
        except SpoolDamaged as error:
            report(path, Sent.REFUSED, error.message)
    for batch in batches(files):
        _send_batch(peer, batch, report)
    return summary


def batches(
    files: Sequence[ObjectFile], *, reserved_contexts: int = 0, transcode: bool = False
) -> Iterator[list[ObjectFile]]:
    """Split files so that each part's contexts fit into one association, keeping their order."""
    limit = MAXIMUM_CONTEXTS - reserved_contexts
    batch: list[ObjectFile] = []
    used: set[Proposal] = set()
    for file in files:
        needed = used.union(file.proposals(transcode=transcode))
        if batch and len(needed) > limit:
            yield batch
            batch, needed = [], set(file.proposals(transcode=transcode))
        batch.append(file)
        used = needed
    if batch:
        yield batch


def _send_batch(peer: Peer, batch: Sequence[ObjectFile], report: Callable[[Path, Sent, str], None]) -> None:
    pending = list(batch)
    try:
        with ClientAssociation(peer, proposals_of(batch)) as association:
            for number, file in enumerate(batch, start=1):
                try:
                    reply = send_object(association, file, message_id=number)
                    report(file.path, Sent.WARNING if reply.note else Sent.STORED, reply.note)
                except (PeerRejectedObject, PeerBusy, NoPresentationContext) as error:
                    report(file.path, Sent.REFUSED, error.message)
                pending.pop(0)
    except NoPresentationContext as error:
        for file in pending:
            report(file.path, Sent.REFUSED, error.message)
    except NodeError as error:
        # The transport failed in the middle: what was not answered is not known, and said so.
        if not isinstance(error, Transient) or len(pending) == len(batch):
            raise
        for file in pending:
            report(file.path, Sent.UNKNOWN, error.message)


def _expanded(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found.extend(sorted(child for child in path.rglob("*") if child.is_file()))
        elif path.is_file():
            found.append(path)
        else:
            raise UsageError(f"{path}: there is no such file or folder")
    if not found:
        raise UsageError("there is no file in the folders given")
    return found
