"""Instances of a study to volumes: read, sort by series, split, gate, decode.

A series becomes one volume for each b-value, direction, kind of map and, where images repeat at the same positions,
echo, temporal position, image type, component or acquisition. A volume is returned only if it passed the geometry gate;
all else is returned with the reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from dicom_sr.assembly import load_series, reject_series, settle_maps
from dicom_sr.correction import correct
from dicom_sr.errors import SeriesRejected, SeveralStudies
from dicom_sr.frames import SourceFrame
from dicom_sr.instances import Instance, find_studies, read_instances
from dicom_sr.loaded import Kind, LoadedStudy, RejectedSeries, SeriesVolume
from dicom_sr.patient import require_one_patient
from dicom_sr.photographs import is_photograph, load_photographs
from dicom_sr.radiographs import is_radiograph, load_radiographs

__all__ = [
    "Kind",
    "LoadedStudy",
    "RejectedSeries",
    "SeriesVolume",
    "SourceFrame",
    "find_studies",
    "load_study",
]


def load_study(
    paths: Sequence[Path], *, pixels: bool = True, corrected: Mapping[str, str] | None = None
) -> LoadedStudy:
    """Load the files of one study.

    Parameters
    ----------
    paths : sequence of Path
        Files or folders, any order, any mixture of object kinds. Files that are no DICOM are skipped.
    pixels : bool
        False reads headers and digests only: ``volumes`` and ``rejected`` stay empty but for unreadable files.
    corrected : mapping or None
        Attributes of the patient, by keyword, that hold instead of those in the files (as after an HL7 merge).

    Raises
    ------
    MixedPatients
        Patient identity differs between instances (rules in :mod:`dicom_sr.patient`).
    SeveralStudies
        More than one Study Instance UID, or none at all.
    Undecodable
        Not one file can be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every odd value; what matters is refused with a reason
        return _load(paths, pixels, corrected or {})


def _load(paths: Sequence[Path], pixels: bool, corrected: Mapping[str, str]) -> LoadedStudy:
    instances, unreadable = read_instances(paths)
    study_uids = sorted({i.study_uid for i in instances})
    if not instances and unreadable:
        raise unreadable[0][1]
    if len(study_uids) != 1:
        raise SeveralStudies(f"{len(study_uids)} studies in {len(instances)} objects", study_uids=study_uids[:6])
    headers = tuple(instance.header for instance in instances)
    for header in headers if corrected else ():
        correct(header, corrected)
    require_one_patient(headers)
    by_series: dict[str, list[Instance]] = {}
    for instance in instances:
        by_series.setdefault(instance.series_uid, []).append(instance)
    rejected = [_unreadable(uid, error, by_series) for uid, error in unreadable]
    volumes: list[SeriesVolume] = []
    if pixels:
        refused = {item.series_uid for item in rejected}
        pending = []
        flat: list[SeriesVolume] = []
        for series_uid in sorted(by_series.keys() - refused):
            if is_radiograph(by_series[series_uid][0].header):
                images, lost = load_radiographs(by_series[series_uid])
                flat += images
            elif is_photograph(by_series[series_uid][0].header):
                images, lost = load_photographs(by_series[series_uid])
                flat += images
            else:
                part, lost = load_series(by_series[series_uid])
                pending += part
            rejected += lost
        volumes, lost = settle_maps(pending)
        volumes += flat
        rejected += lost
    return LoadedStudy(
        study_uid=study_uids[0],
        headers=headers,
        digests={instance.uid: instance.digest for instance in instances},
        volumes=tuple(sorted(volumes, key=_order)),
        rejected=tuple(rejected),
        _by_uid={instance.uid: instance.header for instance in instances},
    )


def _unreadable(uid: str, error: SeriesRejected, by_series: dict[str, list[Instance]]) -> RejectedSeries:
    return reject_series(by_series[uid], error) if by_series.get(uid) else RejectedSeries(uid, error)


def _order(item: SeriesVolume) -> tuple[int, str, float, tuple[float, ...], str]:
    b_value = -1.0 if item.b_value is None else item.b_value
    first = item.frames[0]
    return (
        item.series_number or 0,
        item.series_uid,
        b_value,
        item.direction or (),
        f"{first.sop_instance_uid}#{first.frame_number}",
    )
