"""A DICOM file that comes in over HTTP: its meta information is read, its data set goes to the spool as it comes."""

from __future__ import annotations

import io

from node.archive.part10 import FileMeta, file_meta_bytes, read_file_meta
from node.archive.spool import Part, Spool
from node.dicom.incoming import IncomingDataSet
from node.errors import ObjectRejected, SpoolDamaged, SpoolError
from node.settings import ReceiveSection

_META_HEAD = 144
_LONGEST_META = 1 << 20


class IncomingFile:
    """One DICOM file on its way into the spool, chunk by chunk.

    Parameters
    ----------
    titles : tuple of str
        Sending and receiving AE title, for the file and the index.

    Attributes
    ----------
    meta : FileMeta or None
        Its file meta information; None until it has come, or where the bytes are no DICOM file.
    incoming : IncomingDataSet
        Its data set.
    """

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
