"""What pictures show: grey in the right direction, slices in true proportions, outlines and letters on the right side."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr.check import check
from dicom_sr.colours import colour_of
from dicom_sr.document import RenderedObject, render
from dicom_sr.errors import ObjectInvalid
from dicom_sr.illustration import Illustration
from dicom_sr.pictures.lettering import can_show, face, legible, wrapped
from dicom_sr.pictures.orientation import letters, position, sides
from dicom_sr.pictures.painter import Painter, key_slices
from dicom_sr.pictures.window import Window, window_of
from dicom_sr.subject_line import printed_name
from models.results import CodedTerm, Finding, Laterality, Mark, MarkShape, StudyResult
from models.volume import Volume
from tests.generators.results import INFARCT, not_assessed, nothing_found
from tests.unit.dicom_sr_objects.cases import Case, context, phantom_case

SHOWN = ("secondary_capture",)


def objects_of(case: Case, result: StudyResult, **changes: object) -> dict[str, Dataset]:
    objects = render(result, case.study, context(**{"objects": SHOWN, **changes}), case.source)
    check(objects, case.study, result, case.source)
    return {o.role: dcmread(BytesIO(o.encoded)) for o in objects}


def volume_of(array: np.ndarray, *, spacing: tuple[float, float, float] = (3.0, 1.0, 1.0)) -> Volume:
    affine = np.diag([spacing[2], spacing[1], spacing[0], 1.0])
    return Volume(array.astype(np.float32), affine)


def windowed(case: Case, **attributes: object) -> Window:
    headers = []
    for header in case.study.source_datasets(case.source):
        changed = deepcopy(header)
        for keyword, value in attributes.items():
            setattr(changed, keyword, value)
        headers.append(changed)
    return window_of(replace(case.source, header=headers[0]), headers)


def test_window_of_the_images_counts_where_it_fits_the_values(case: Case) -> None:
    top = float(case.source.volume.array_zyx.max())
    assert windowed(case, WindowCenter=top / 2, WindowWidth=top) == Window(0.0, top - 1.0)
    exact = windowed(case, WindowCenter=[top / 2, 7], WindowWidth=[top, 7], VOILUTFunction="LINEAR_EXACT")
    assert exact == Window(0.0, top)


@pytest.mark.parametrize(
    ("centre", "width"), [(1e6, 2e6), (-1e6, 10.0), (0.001, 0.002), ("", ""), (5.0, 0.0), (float("nan"), 100.0)]
)
def test_window_that_shows_nothing_is_not_believed(centre: object, width: object, case: Case) -> None:
    plain = windowed(case, WindowCenter=None, WindowWidth=None)
    assert windowed(case, WindowCenter=centre, WindowWidth=width) == plain
    grey = plain.grey(case.source.volume.array_zyx)
    assert grey.min() == 0
    assert grey.max() == 255


def test_monochrome1_shows_low_values_bright(case: Case) -> None:
    window = windowed(case, PhotometricInterpretation="MONOCHROME1")
    assert window.inverted
    grey = window.grey(np.array([window.low, window.high], np.float32))
    assert list(grey) == [255, 0]


def test_constant_and_non_finite_values_have_a_picture() -> None:
    values = np.full((3, 4, 4), np.nan, np.float32)
    assert Window(0.0, 0.0).grey(values).shape == values.shape
    assert Painter(volume_of(np.zeros((3, 4, 4))), Window(0.0, 0.0)).slice(0, 64).size == (64, 64)


@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [
        ((1, 0, 0), (0, 1, 0), ("R", "L", "A", "P")),
        ((-1, 0, 0), (0, 1, 0), ("L", "R", "A", "P")),
        ((1, 0, 0), (0, 0, -1), ("R", "L", "H", "F")),
        ((0, 1, 0), (0, 0, -1), ("A", "P", "H", "F")),
        ((0.866, 0.5, 0), (-0.5, 0.866, 0), ("RA", "LP", "AL", "PR")),
    ],
)
def test_letters_follow_the_direction_cosines(row: tuple, column: tuple, expected: tuple) -> None:
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = np.array(row) * 0.7, np.array(column) * 2.0
    affine[:3, 2] = np.cross(row, column) * 5
    found = sides(affine)
    assert (found.left, found.right, found.top, found.bottom) == expected
    assert letters(np.array([0.0, 0.0, -3.0])) == "F"


def test_slice_position_is_that_of_its_middle() -> None:
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    affine[:3, 3] = (-10.0, -20.0, -12.5)
    assert position(affine, (40, 20), 0) == "F 12.5 mm"
    assert position(affine, (40, 20), 4) == "H 7.5 mm"


def test_proportions_are_the_patients_not_the_matrix() -> None:
    painter = Painter(volume_of(np.zeros((3, 20, 40)), spacing=(3.0, 4.0, 1.0)), Window(0.0, 1.0))
    box = painter.box(400)
    assert (box.width, box.height) == (200, 400)
    assert (box.left, box.top) == (100, 0)


def test_outline_encloses_exactly_the_region() -> None:
    array, mask = np.zeros((3, 20, 40)), np.zeros((3, 20, 40), np.uint8)
    mask[1, 3:7, 30:36] = 2
    painter = Painter(volume_of(array, spacing=(3.0, 2.0, 1.0)), Window(0.0, 1.0), mask)
    picture = np.asarray(painter.slice(1, 800, numbered=False)).astype(int)
    coloured = np.argwhere(np.abs(picture - np.array(colour_of(2))).max(axis=2) < 40)
    # Voxels are 20 pixels wide and 40 high; the border of row 3 is at 120, of row 7 at 280; of columns at 600 and 720.
    assert np.abs(coloured.min(axis=0) - (120, 600)).max() <= 3
    assert np.abs(coloured.max(axis=0) - (280, 720)).max() <= 3
    assert np.asarray(painter.slice(0, 800, numbered=False))[300:500, 300:500].max() == 0


def test_marks_are_drawn_where_they_are() -> None:
    box = Mark("dwi", MarkShape.BOX, 1, ((2.0, 3.0), (6.0, 9.0)), "nodule")
    point = Mark("dwi", MarkShape.POINT, 2, ((10.0, 10.0),), "centre")
    painter = Painter(volume_of(np.zeros((3, 20, 20))), Window(0.0, 1.0), None, (box, point))
    picture = np.asarray(painter.slice(1, 400, numbered=False)).astype(int)
    drawn = np.argwhere((picture[..., 1] > 200) & (picture[..., 0] < 60))
    assert np.abs(drawn.min(axis=0) - (50, 70)).max() <= 3
    assert np.abs(drawn.max(axis=0) - (130, 190)).max() <= 3
    assert key_slices(painter, (), 8) == [1, 2]


def test_slices_without_findings_are_evenly_spaced() -> None:
    painter = Painter(volume_of(np.zeros((30, 4, 4))), Window(0.0, 1.0))
    assert key_slices(painter, (), 3) == [4, 14, 24]
    assert key_slices(painter, (), 50) == list(range(30))


def test_text_is_legible_in_both_languages() -> None:
    assert can_show("拡散強調像で高信号 – 髙橋 Müller Иванов µm²")
    assert legible("10⁻⁶ mm²/s\x07") == "10^-6 mm²/s"
    assert legible("한ℌ") == "〓H"
    lines = wrapped("両側の脳実質に急性期梗塞を示唆する。" * 4 + "Total volume 24.5 mL", 20, 300)
    assert len(lines) > 3
    assert all(face(20).getlength(line) <= 320 for line in lines)
    assert not any(line.startswith("。") for line in lines)


def test_name_is_printed_in_the_groups_the_font_has() -> None:
    header = Dataset()
    for name, printed in (
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "山田 太郎 / Yamada Tarou / やまだ たろう"),
        ("Hong^Gildong=洪^吉洞=홍^길동", "洪 吉洞 / Hong Gildong"),
        ("홍^길동", ""),
        ("", ""),
    ):
        header.PatientName = name
        assert printed_name(header) == printed


def test_multi_frame_names_a_source_for_each_frame(case: Case) -> None:
    made = objects_of(case, case.result)["secondary_capture"]
    assert made.NumberOfFrames == len(made.SourceImageSequence) > 1
    assert (made.Modality, made.BurnedInAnnotation) == ("OT", "YES")
    assert list(made.PatientOrientation) == ["L", "P"]
    assert made.pixel_array.shape == (made.NumberOfFrames, made.Rows, 512, 3)


def test_single_frames_where_the_destination_wants_them(enhanced: Case) -> None:
    made = objects_of(enhanced, enhanced.result, secondary_capture="single_frame")
    captures = [dataset for role, dataset in made.items() if role.startswith("secondary_capture")]
    assert len(captures) > 1
    assert len({c.SeriesInstanceUID for c in captures}) == 1
    assert [c.InstanceNumber for c in captures] == list(range(1, len(captures) + 1))
    assert all(c.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7" for c in captures)
    assert all(len(c.SourceImageSequence) == 1 for c in captures)


def test_nothing_found_is_a_picture_too(case: Case) -> None:
    made = objects_of(case, nothing_found(), objects=("secondary_capture", "summary", "pdf"))
    assert list(made) == ["secondary_capture", "summary", "pdf-en", "pdf-ja"]
    assert made["secondary_capture"].NumberOfFrames == 8


def test_a_destination_of_pictures_sees_that_nothing_was_assessed(case: Case) -> None:
    result = not_assessed()
    objects = render(result, case.study, context(objects=("summary",)), None)
    check(objects, case.study, result, None)
    assert [o.role for o in objects] == ["status", "status-ja", "summary"]
    picture = objects[-1].dataset
    assert picture.ImageComments.startswith("AI STATUS - NOT A REPORT")
    assert "SourceImageSequence" not in picture
    picture.PixelData = picture.PixelData[:3] * (len(picture.PixelData) // 3)
    with pytest.raises(ObjectInvalid):
        check([RenderedObject("summary", picture)], case.study, result, None)


def test_a_study_without_identity_does_not_claim_to_be_identified(case: Case) -> None:
    headers = []
    for header in case.study.headers:
        changed = deepcopy(header)
        changed.PatientID = ""
        headers.append(changed)
    by_uid = {str(h.SOPInstanceUID): h for h in headers}
    study = replace(case.study, headers=tuple(headers), _by_uid=by_uid)
    source = replace(case.source, header=by_uid[str(case.source.header.SOPInstanceUID)])
    made = objects_of(Case(case.files, study, source, case.result), case.result)
    assert {dataset.BurnedInAnnotation for dataset in made.values()} == {"NO"}


def test_probabilities_and_marks_stand_in_the_table(case: Case) -> None:
    concept = CodedTerm("36118008", "SCT", "Pneumothorax")
    finding = Finding(concept, 0.913, 0.5, True, laterality=Laterality.LEFT)
    result = replace(case.result, findings=(finding,))
    from dicom_sr.tables import tables

    shown = Illustration.of(result, case.study, case.source)
    regions, findings = tables(result, shown.words)
    assert findings[1] == ["Pneumothorax", "left", "0.91", "0.50", "present"]
    assert regions[1][:3] == ["1", INFARCT.meaning, "left"]
    assert len({len(row) for row in regions}) == 1


def test_outlines_are_right_in_every_plane(tmp_path: Path) -> None:
    for plane in ("coronal", "sagittal"):
        turned = phantom_case(tmp_path / plane, plane=plane)
        made = objects_of(turned, turned.result)
        expected = {"coronal": ["L", "F"], "sagittal": ["P", "F"]}[plane]
        assert list(made["secondary_capture"].PatientOrientation) == expected
