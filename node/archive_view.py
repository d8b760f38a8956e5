"""What is asked of an archive, however it is reached."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

from pydicom.dataset import Dataset

from node.listing import Listing


class ArchiveView(Protocol):
    """A connection to an archive; a context manager. Its methods raise PeerError where nothing is answered."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def studies_between(
        self, since: datetime, until: datetime, *, modalities: Sequence[str] = (), limit: int
    ) -> Listing:
        """Every study that began within a time by the site's wall clock; one without a time counts for its whole day."""
        ...

    def count_series(self, study_uid: str) -> dict[str, tuple[str, int]]:
        """Modality of each series of a study, and how many instances of it the archive has."""
        ...

    def lists(self, study_uid: str, series_uid: str, sop_instance_uids: Sequence[str]) -> frozenset[str]:
        """Those instances, of those asked for, that the archive has in this series."""
        ...

    def studies_of_patient(self, patient_id: str, issuer: str) -> list[Dataset]:
        """Every study of a patient, as PS3.4 C.6.2.1 has it at level STUDY."""
        ...

    def modalities_of(self, study_uid: str) -> tuple[str, ...]:
        """Modalities of a study's series."""
        ...
