"""Objects of a follow-up study that replace an earlier set, before the check and before the full judge."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr.check import check
from dicom_sr.checks.subject import concept, walk
from dicom_sr.document import RenderedObject, render
from dicom_sr.errors import ObjectInvalid
from dicom_sr.rendering import EarlierObject, RenderContext
from dicom_sr.retraction import Taken, render_retractions
from dicom_sr.series import load_study
from dicom_sr.source_header import normalise
from dicom_sr.versions import header_of
from dicom_sr.write import write_objects
from models.comparison import Followed, compare
from models.composer import compose
from models.results import Outcome, Replaced, StudyResult, Tracking
from models.stored_result import Grid
from node.jobs.comparing import prior_objects
from tests.conformance.judging import judge
from tests.generators.results import found
from tests.unit.dicom_sr_objects.cases import Case, context, phantom_case, trace_of


class Sets:
    """A prior study with its objects, and a follow-up whose first set a second one replaces."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prior = phantom_case(folder / "prior")
        objects = render(self.prior.result, self.prior.study, context(key="1" * 64), self.prior.source)
        self.written("prior-results", objects)
        self.now = self._follow_up(folder / "now")
        result = self._compared()
        self.prior_objects = prior_objects(folder / "prior-results" / "seg.dcm")
        first = replace(context(key="2" * 64), prior=self.prior_objects)
        self.first = render(result, self.now.study, first, self.now.source)
        self.written("first", self.first)
        self.earlier = tuple(
            EarlierObject(
                each.role,
                str(each.dataset.SOPClassUID),
                str(each.dataset.SOPInstanceUID),
                str(each.dataset.SeriesInstanceUID),
            )
            for each in self.first
        )
        replaced = Replaced("2026-01-31 03:12", 1, Outcome.FOUND, 12.0, 14, 0, ("FLAIR",))
        self.result = _with_drafts(replace(result, replaces=replaced))
        self.context: RenderContext = replace(context(key="3" * 64), prior=self.prior_objects, earlier=self.earlier)

    def second(self) -> list[RenderedObject]:
        return render(self.result, self.now.study, self.context, self.now.source)

    @property
    def known(self) -> list[Dataset]:
        headers = [header_of(each, str(self.now.study.study_uid)) for each in self.earlier]
        return [*headers, self.prior_objects.segmentation, *self.prior_objects.sources]

    def check(self, objects: list[RenderedObject]) -> int:
        return check(objects, self.now.study, self.result, self.now.source, known=self.known)

    def written(self, name: str, objects: list[RenderedObject]) -> None:
        folder = self.folder / name
        folder.mkdir()
        for file in write_objects(objects, folder):
            file.path.rename(folder / f"{file.role}.dcm")

    def _follow_up(self, folder: Path) -> Case:
        """The same head a week later, in another study."""
        folder.mkdir()
        for file in self.prior.files:
            dataset = dcmread(file)
            for element in dataset.iterall():
                if element.keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
                    element.value = f"{element.value[:-1]}{(int(element.value[-1]) + 1) % 10}"
                if element.keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
                    element.value = "20270108"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(folder / file.name)
        files = sorted(folder.iterdir())
        study = load_study(files)
        source = trace_of(study)
        assert self.prior.phantom is not None
        mask = self.prior.phantom.truth_zyx.copy()
        mask[:, :, 1:][mask[:, :, :-1] == 1] = 1
        mask[2:4, 4:8, 4:8][mask[2:4, 4:8, 4:8] == 0] = 3
        return Case(files, study, source, found(mask, source.volume.voxel_ml))

    def _compared(self) -> StudyResult:
        segmentation = dcmread(self.folder / "prior-results" / "seg.dcm", stop_before_pixels=True)
        volume = self.prior.source.volume
        z, y, x = volume.array_zyx.shape
        frame = self.prior.source.frame_of_reference_uid
        earlier = Followed(
            study_uid=str(self.prior.study.study_uid),
            date="20260101",
            series_uid=str(segmentation.SeriesInstanceUID),
            segmentation_uid=str(segmentation.SOPInstanceUID),
            segmentation_class_uid=str(segmentation.SOPClassUID),
            result=self.prior.result,
            grid=Grid(volume.affine_lps, (z, y, x), frame),
            tracking={
                int(s.SegmentNumber): Tracking(str(s.TrackingUID), str(s.TrackingID))
                for s in segmentation.SegmentSequence
            },
        )
        return _with_drafts(compare(self.now.result, self.now.source.volume, frame, earlier))


def _with_drafts(result: StudyResult) -> StudyResult:
    return replace(result, drafts=tuple(compose(result, language) for language in ("en", "ja")))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    return Sets(tmp_path_factory.mktemp("comparison"))


def test_the_check_passes_and_both_studies_are_referred_to(sets: Sets) -> None:
    objects = sets.second()
    assert sets.check(objects) > 10
    report = next(each.dataset for each in objects if each.role == "measurements")
    groups = [each for each in walk(report) if concept(each) == "125007"]
    assert sets.result.comparison is not None
    # Two lesions of now were there before, one is new: three groups of now and two of then.
    assert len(groups) == 5 and len(sets.result.comparison.lesions) == 3
    assert str(report.PertinentOtherEvidenceSequence[0].StudyInstanceUID) == str(sets.prior.study.study_uid)


Mutation = Callable[[dict[str, Dataset]], None]


def _number(objects: dict[str, Dataset], name: str) -> Dataset:
    return next(each for each in walk(objects["measurements"]) if concept(each) == name)


def _other_change(objects: dict[str, Dataset]) -> None:
    _number(objects, "442714003").MeasuredValueSequence[0].NumericValue = "99"


def _other_difference(objects: dict[str, Dataset]) -> None:
    entry = _number(objects, "111049").ConceptCodeSequence[0]
    entry.CodeValue, entry.CodeMeaning = "19776001", "Decrease in size"


def _lost_difference(objects: dict[str, Dataset]) -> None:
    for number in walk(objects["measurements"]):
        if number.get("ValueType") == "NUM":
            number.ContentSequence = [each for each in number.ContentSequence if concept(each) != "111049"]


def _prior_group(objects: dict[str, Dataset]) -> Dataset:
    groups = [each for each in walk(objects["measurements"]) if concept(each) == "125007"]
    return next(
        group for group in groups if any(str(each.get("TextValue", "")) == "prior" for each in group.ContentSequence)
    )


def _other_prior_volume(objects: dict[str, Dataset]) -> None:
    number = next(each for each in _prior_group(objects).ContentSequence if concept(each) == "118565006")
    number.MeasuredValueSequence[0].NumericValue = "1"


def _other_lesion(objects: dict[str, Dataset]) -> None:
    entry = next(each for each in _prior_group(objects).ContentSequence if concept(each) == "112040")
    entry.UID = "2.25.5"


def _prior_called_current(objects: dict[str, Dataset]) -> None:
    entry = next(each for each in _prior_group(objects).ContentSequence if concept(each) == "C2348792")
    entry.TextValue = "current"


def _invented_predecessor(objects: dict[str, Dataset]) -> None:
    series = objects["measurements"].PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "2.25.6"


def _lost_evidence(objects: dict[str, Dataset]) -> None:
    del objects["measurements"].PertinentOtherEvidenceSequence


@pytest.mark.parametrize(
    "mutation",
    [
        _other_change,
        _other_difference,
        _lost_difference,
        _other_prior_volume,
        _other_lesion,
        _prior_called_current,
        _invented_predecessor,
        _lost_evidence,
    ],
)
def test_a_fault_in_the_comparison_is_caught(sets: Sets, mutation: Mutation) -> None:
    objects = sets.second()
    mutation({each.role: each.dataset for each in objects})
    with pytest.raises(ObjectInvalid):
        sets.check(objects)


@pytest.mark.slow
@pytest.mark.peer
def test_full_judge_finds_nothing_in_a_comparison(sets: Sets, tmp_path: Path) -> None:
    sets.written("second", sets.second())
    taken = Taken(sets.earlier, "2026-01-31 03:12", 1, sets.result.replaces, Outcome.FOUND, sets.result.total_ml)
    names = ("note", "words")
    for n, name in enumerate(names):
        notes = render_retractions(
            taken,
            normalise(sets.now.study, None),
            context(key=str(n + 4) * 64),
            sets.result,
            as_rejection=name == "note",
            languages=["en", "ja"],
        )
        sets.written(name, notes)
    sources = ",".join(str(sets.folder / name) for name in ("now", "prior", "prior-results", "first"))
    outputs = [str(sets.folder / name) for name in ("second", *names)]
    done = subprocess.run(
        [sys.executable, str(judge()), "--src", sources, *outputs], capture_output=True, text=True, check=False
    )
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert failures == [] and done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
