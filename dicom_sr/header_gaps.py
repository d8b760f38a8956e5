"""What of patient and study the images do not say, or not in a readable form: results have it empty, and somebody is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicom_sr.source_header import REPAIRED, normalise

if TYPE_CHECKING:
    from dicom_sr.series import LoadedStudy

_NEEDED = ("PatientID", "PatientName")
"""Without these an archive files a result among its exceptions, or under nobody."""


def header_gaps(study: LoadedStudy) -> tuple[str, ...]:
    """Attributes that are empty in the results of a study and should not be, without any value.

    Returns
    -------
    tuple of str
        ``"PatientID (absent)"``, ``"PatientBirthDate (unreadable)"``; dates, times and sex only where the images have
        something that is none, because many studies rightly have nothing.

    Raises
    ------
    SourceUnusable
        The study holds no instance.
    """
    written = normalise(study, None).attributes
    absent = [f"{keyword} (absent)" for keyword in _NEEDED if not str(written.get(keyword, "") or "").strip("^= ")]
    unreadable = [
        f"{keyword} (unreadable)" for keyword in REPAIRED if not written.get(keyword) and _is_given(study, keyword)
    ]
    return (*absent, *unreadable)


def _is_given(study: LoadedStudy, keyword: str) -> bool:
    return any(header.get_item(keyword) is not None and header.get_item(keyword).value for header in study.headers)
