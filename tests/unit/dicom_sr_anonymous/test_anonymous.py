"""Anonymous exports: nothing identifying is left in any byte, references stay whole, doubt is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_sr.anonymous.anonymiser import Anonymiser, encoded
from dicom_sr.anonymous.attribute_table import Action, attribute_table
from dicom_sr.anonymous.export import IMAGE_ROLE, AnonymousExport, export_anonymous
from dicom_sr.errors import AnonymisationRefused, IdentityRemains, MayShowIdentity, NotAnonymisable
from dicom_sr.phantom_study import write_phantom_study
from dicom_sr.series import load_study
from dicom_sr.write import write_objects
from models.phantom import LesionSpec, make_phantom
from tests.generators.results import found
from tests.peers import require
from tests.unit.dicom_sr_objects.cases import Case, trace_of

KEY = b"k" * 32
SECRETS = (
    "Geheim",
    "Ottilie",
    "SECRET-ID-77",
    "SECRET-ACC",
    "19440229",
    "Sankt Nimmerlein",
    "Zuweiser",
    "STATION-9",
    "SERIAL-123",
    "Kommentar zur Person",
    "privat-geheim",
    "20260102",
    "SECRET-OTHER",
)


def _identify(dataset: Dataset) -> None:
    """Fill an image with identity: at the top, in sequences, in private attributes."""
    dataset.PatientName = "Geheim^Ottilie"
    dataset.PatientID = "SECRET-ID-77"
    dataset.IssuerOfPatientID = "SECRET-ISSUER"
    dataset.PatientBirthDate = "19440229"
    dataset.AccessionNumber = "SECRET-ACC"
    dataset.InstitutionName = "Sankt Nimmerlein"
    dataset.ReferringPhysicianName = "Zuweiser^Zacharias"
    dataset.StationName = "STATION-9"
    dataset.DeviceSerialNumber = "SERIAL-123"
    dataset.PatientComments = "Kommentar zur Person"
    dataset.StudyDate = "20260102"
    dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20260102"
    dataset.StudyDescription = "MR Kopf Geheim Ottilie"
    other = Dataset()
    other.PatientID = "SECRET-OTHER"
    dataset.OtherPatientIDsSequence = Sequence([other])
    performer = Dataset()
    performer.ScheduledPerformingPhysicianName = "Geheim^Arzt"
    performer.RequestedProcedureDescription = "Kommentar zur Person"
    holder = Dataset()
    holder.RequestAttributesSequence = Sequence([performer])
    # A sequence that the profile leaves alone, with what it does not.
    derivation = Dataset()
    derivation.DerivationDescription = "Kommentar zur Person"
    derivation.PatientName = "Geheim^Ottilie"
    derivation.SourceImageSequence = Sequence([_reference(dataset)])
    dataset.DerivationImageSequence = Sequence([derivation])
    dataset.RequestAttributesSequence = Sequence([performer])
    block = dataset.private_block(0x0029, "GEHEIM 1.0", create=True)
    block.add_new(0x01, "LO", "privat-geheim")


def _reference(dataset: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = dataset.SOPClassUID
    item.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
    return item


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A phantom study of somebody, with two lesions found."""
    folder = tmp_path_factory.mktemp("study")
    phantom = make_phantom(
        5,
        shape_zyx=(10, 40, 46),
        spacing_mm_zyx=(10.0, 5.0, 4.5),
        lesions=(LesionSpec(30.0, "left"), LesionSpec(12.0, "right")),
        orientation="axial",
    )
    written = write_phantom_study(phantom, folder, seed=5)
    for file in written.files:
        dataset = dcmread(file)
        _identify(dataset)
        dataset.save_as(file)
    study = load_study(written.files)
    source = trace_of(study)
    return Case(written.files, study, source, found(written.truth_zyx, source.volume.voxel_ml), written)


@pytest.fixture(scope="module")
def originals(case: Case, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("results")
    results = write_objects(case.rendered(), folder)
    return [*((each.role, each.path) for each in results), *((IMAGE_ROLE, path) for path in case.files)]


@pytest.fixture(scope="module")
def export(originals: list[tuple[str, Path]], tmp_path_factory: pytest.TempPathFactory) -> AnonymousExport:
    return export_anonymous(Anonymiser(KEY), originals, tmp_path_factory.mktemp("export"))


def _uids(dataset: Dataset) -> Iterator[str]:
    for element in dataset.iterall():
        if element.VR == "UI" and element.value:
            values = [element.value] if isinstance(element.value, str) else list(element.value)
            yield from (str(value) for value in values)


def test_no_byte_names_anybody(originals: list[tuple[str, Path]], export: AnonymousExport) -> None:
    kept = {role for role, _ in originals if not role.startswith(("text", "status"))}
    assert {file.role for file in export.files} == kept
    assert sum(export.left_out.values()) == len([role for role, _ in originals if role not in kept])
    before = b"".join(path.read_bytes() for _, path in originals)
    assert not [secret for secret in SECRETS if secret.encode() not in before], "the test would see nothing"
    names = {
        uid.encode() for _, path in originals for uid in _uids(dcmread(path)) if not uid.startswith("1.2.840.10008")
    }
    vocabulary = {uid for uid in names if uid.startswith((b"2.16.840", b"1.2.826"))}
    for file in export.files:
        content = file.path.read_bytes()
        assert not [secret for secret in SECRETS if secret.encode() in content], file.role
        assert not [secret for secret in SECRETS if secret.encode().upper() in content.upper()], file.role
        assert not [uid for uid in names - vocabulary if uid in content], file.role


def test_references_stay_whole(case: Case, export: AnonymousExport) -> None:
    datasets = {file.sop_instance_uid: dcmread(file.path) for file in export.files}
    known = set(datasets)
    (segmentation,) = (each for each in datasets.values() if each.Modality == "SEG")
    (report,) = (each for each in datasets.values() if each.Modality == "SR")
    for dataset in (segmentation, report):
        pointed = {str(element.value) for element in dataset.iterall() if element.keyword == "ReferencedSOPInstanceUID"}
        assert pointed
        assert pointed <= known, dataset.Modality
    assert str(segmentation.SOPInstanceUID) in {
        str(element.value) for element in report.iterall() if element.keyword == "ReferencedSOPInstanceUID"
    }
    assert len({str(each.StudyInstanceUID) for each in datasets.values()}) == 1
    assert len({str(each.PatientID) for each in datasets.values()}) == 1
    assert str(segmentation.PatientID).startswith("ANON-")
    assert {each.PatientIdentityRemoved for each in datasets.values()} == {"YES"}
    images = [each for each in datasets.values() if each.Modality == "MR"]
    assert len({str(each.FrameOfReferenceUID) for each in [*images, segmentation]}) == 1
    codes = [item.CodeValue for item in report.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113104"]


def test_pixels_and_figures_are_what_they_were(originals: list[tuple[str, Path]], export: AnonymousExport) -> None:
    anonymiser = Anonymiser(KEY)
    copies = {file.sop_instance_uid: dcmread(file.path) for file in export.files}
    for role, path in originals:
        original = dcmread(path)
        copy = copies.get(anonymiser._pseudonyms.uid(str(original.SOPInstanceUID)))
        if copy is None:
            continue
        if "PixelData" in original:
            assert np.array_equal(original.pixel_array, copy.pixel_array), role
        else:
            figures = [
                [str(e.value) for e in each.iterall() if e.keyword == "NumericValue"] for each in (original, copy)
            ]
            assert figures[0] == figures[1] != []


def test_same_key_same_bytes_other_key_other_names(case: Case, originals: list[tuple[str, Path]]) -> None:
    original = dcmread(originals[0][1])
    first, again = (encoded(Anonymiser(KEY).anonymise(original)) for _ in range(2))
    assert first == again
    other = Anonymiser(b"o" * 32).anonymise(original)
    copy = dcmread(BytesIO(first))
    assert not set(_uids(copy)).intersection(uid for uid in _uids(other) if uid.startswith("2.25."))
    assert copy.PatientID != other.PatientID


@pytest.mark.peer
def test_copies_satisfy_the_validator(export: AnonymousExport) -> None:
    for role in ("seg", "measurements", IMAGE_ROLE):
        file = next(each for each in export.files if each.role == role)
        done = subprocess.run(
            [require("dciodvfy"), str(file.path)], capture_output=True, text=True, check=False, timeout=60
        )
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
        assert not errors, (role, errors)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: setattr(d, "BurnedInAnnotation", "YES"), MayShowIdentity),
        (lambda d: setattr(d, "ImageType", ["DERIVED", "SECONDARY", "SCREEN SAVE"]), MayShowIdentity),
        (lambda d: setattr(d, "ConversionType", "WSD"), MayShowIdentity),
        (lambda d: setattr(d, "PhotometricInterpretation", "RGB"), MayShowIdentity),
        (lambda d: setattr(d, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.7"), MayShowIdentity),
        (lambda d: setattr(d, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.6.1"), MayShowIdentity),
        (lambda d: setattr(d, "SOPClassUID", "1.2.3.4"), MayShowIdentity),
        (lambda d: d.add_new(0x60000100, "US", 16), MayShowIdentity),
        (lambda d: setattr(d, "ProtocolName", "Kopf"), None),
        # Attributes that the profile keeps, in which somebody wrote a name.
        (lambda d: setattr(d, "SequenceName", "Ottilie-seq"), IdentityRemains),
        (lambda d: setattr(d, "ManufacturerModelName", "of secret-id-77"), IdentityRemains),
    ],
)
def test_doubt_is_refused(
    case: Case, change: Callable[[Any], None], expected: type[AnonymisationRefused] | None
) -> None:
    dataset = dcmread(case.files[0])
    change(dataset)
    if expected is None:
        Anonymiser(KEY).anonymise(dataset)
        return
    with pytest.raises(expected) as caught:
        Anonymiser(KEY).anonymise(dataset)
    assert not [secret for secret in SECRETS if secret.casefold() in str(caught.value).casefold()]


def test_free_text_and_documents_are_refused(originals: list[tuple[str, Path]]) -> None:
    text = next(path for role, path in originals if role.startswith("text"))
    with pytest.raises(NotAnonymisable):
        Anonymiser(KEY).anonymise(dcmread(text))


def test_words_in_a_measurement_report_go(originals: list[tuple[str, Path]]) -> None:
    report = dcmread(next(path for role, path in originals if role == "measurements"))
    item = Dataset()
    item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", "seen by somebody on ward 7"
    concept = Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = "121106", "DCM", "Comment"
    item.ConceptNameCodeSequence = Sequence([concept])
    report.ContentSequence.append(item)
    copy = encoded(Anonymiser(KEY).anonymise(report))
    assert b"ward 7" not in copy
    assert b"REMOVED" in copy


@pytest.mark.parametrize(
    ("signed", "value", "refused"), [(0, 0x0FFF, False), (0, 0x1FFF, True), (1, -5, False), (1, 0x17FF, True)]
)
def test_spare_bits_of_pixels(case: Case, signed: int, value: int, refused: bool) -> None:
    dataset = dcmread(case.files[0])
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, signed
    pixels = np.full(dataset.Rows * dataset.Columns, 7, np.int32)
    pixels[3] = value
    dataset.PixelData = pixels.astype(np.int16).tobytes()
    if refused:
        with pytest.raises(MayShowIdentity, match="unused bits"):
            Anonymiser(KEY).anonymise(dataset)
    else:
        Anonymiser(KEY).anonymise(dataset)


def test_overlays_and_curves_go_as_a_whole(case: Case) -> None:
    dataset = dcmread(case.files[0])
    dataset.add_new(0x60000010, "US", 8)
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60003000, "OW", b"Geheim12")
    dataset.add_new(0x60001500, "LO", "label")
    copy = Anonymiser(KEY).anonymise(dataset)
    assert not [element for element in copy if element.tag.group & 0xFF00 == 0x6000]


def test_table_is_the_standards() -> None:
    """Some rows of PS3.15 table E.1-1, as read there."""
    table = attribute_table()
    dataset = Dataset()
    for keyword, action in {
        "AccessionNumber": Action.EMPTY,
        "PatientComments": Action.REMOVE,
        "StudyInstanceUID": Action.UID,
        "ContentDate": Action.DUMMY,
        "InstitutionName": Action.DUMMY,
        "ReferencedImageSequence": Action.CLEAN,
        "SliceThickness": None,
    }.items():
        setattr(dataset, keyword, None if "Sequence" not in keyword else [])
        assert table.action(dataset[keyword].tag) is action, keyword
    from pydicom.tag import Tag

    assert table.action(Tag(0x60003000)) is Action.REMOVE
    assert table.action(Tag(0x50100010)) is Action.REMOVE
