"""Real images with headers put in order, small enough for judges that take seconds for a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydicom import dcmread

from dicom_sr.series import Kind, load_study
from tests.generators.results import found
from tests.generators.sources import repaired_copy
from tests.unit.dicom_sr_objects.cases import Case, blocks, projection_case

IMAGES = {
    "mr_stroke_isles22_case0001": "chrJapMulti.dcm",
    "mr_brain_glioma_PGBM006": "chrFrenMulti.dcm",
    "ct_chest_covid_P002": "chrKoreanMulti.dcm",
    "mr_brain_enhanced_siemens_xa30": "chrX2.dcm",
    "ct_head_tiny_93": "chrRuss.dcm",
    "cxr_dicom/RG1_J2KI.dcm": "chrH32.dcm",
    "cxr_dicom/test1.dcm": "chrX1.dcm",
}
"""Real images, and whose name the patient gets."""

SLICES = 10


def patient_of(shared_data: Path, file: str) -> str:
    """Patient's Name of a file of the character sets."""
    patient = str(dcmread(shared_data / "charsets" / file, stop_before_pixels=True).PatientName)
    return patient if "^" in patient else patient + "^A"  # a name of one component is a retired form


def real_case(shared_data: Path, name: str, patient: str, folder: Path) -> Case:
    """A study of :data:`IMAGES` under a patient's name, with regions where it is a volume; its files in ``folder``."""
    files = repaired_copy(list(dicom_files(shared_data / name)), folder, patient)
    return projection_case(files[0]) if name.startswith("cxr") else volume_case(files)


def dicom_files(path: Path) -> Iterator[Path]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    yield from [file for file in files if file.is_file() and file.read_bytes()[128:132] == b"DICM"]


def volume_case(files: list[Path]) -> Case:
    study = load_study(trimmed(files))
    source = max(study.volumes, key=lambda v: (v.kind is Kind.DWI_TRACE, v.volume.array_zyx.shape[0]))
    mask = blocks(source.volume.array_zyx.shape)
    return Case(files, study, source, found(mask, source.volume.voxel_ml))


def trimmed(files: list[Path]) -> list[Path]:
    """The lowest slices of every series of classic images; the judges need a second for each image a report names."""
    series: dict[str, list[tuple[float, Path]]] = {}
    kept = []
    for file in files:
        header = dcmread(file, stop_before_pixels=True)
        if "ImagePositionPatient" in header:
            height = float(header.ImagePositionPatient[2])
            series.setdefault(str(header.SeriesInstanceUID), []).append((height, file))
        else:
            kept.append(file)
    for slices in series.values():
        ordered = [file for _, file in sorted(slices)]
        kept += ordered[:SLICES]
        for file in ordered[SLICES:]:
            file.unlink()
    return kept
