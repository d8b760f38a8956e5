"""Every kind of object, of every study, under every name, before the full judge: ``python -m tests.conformance.product PAGE.md``;
``--study`` and ``--name`` choose some of them.

It takes a quarter of an hour and more, so the suite judges pairs of these (``test_report_objects``, ``test_pixel_objects``).
Results of studies are made by the tests' generators; whatever the judge says against an object stands in the table.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.uid import UID

from dicom_sr.character_set import fit
from dicom_sr.check import check
from dicom_sr.combined_status import Account, render_combined
from dicom_sr.document import RenderedObject, render
from dicom_sr.frames import LABEL_MAP_SEGMENTATION
from dicom_sr.rendering import EarlierObject
from dicom_sr.retraction import Taken, render_retractions
from dicom_sr.source_header import normalise
from dicom_sr.versions import header_of
from dicom_sr.write import write_objects
from models.results import Outcome, Replaced, StudyResult
from tests.conformance.judging import (
    UNCERTAINTY,
    earned_by_sources,
    less_label_maps,
    less_study_references,
    verdict,
)
from tests.conformance.real_studies import IMAGES, patient_of, real_case
from tests.conftest import SHARED
from tests.generators.results import not_assessed, nothing_found
from tests.unit.dicom_sr_objects.cases import Case, context
from tests.unit.dicom_sr_objects.pixel_cases import FORMS, with_pixels

NAMES = {
    "Latin": "chrFrenMulti.dcm",
    "Japanese": "chrJapMulti.dcm",
    "Korean": "chrKoreanMulti.dcm",
    "Chinese": "chrX1.dcm",
    "Cyrillic": "chrRuss.dcm",
}
_TABLES = "<!-- tables: written by `make product` -->"
_PICTURES = ("secondary_capture", "summary", "pdf")
_REPORTS: dict[str, dict[str, object]] = {
    "measurements, 3D": {"objects": ("measurements", "text", "key_objects")},
    "measurements, comprehensive": {"objects": ("measurements", "text"), "measurements": "comprehensive"},
    "measurements, enhanced": {"objects": ("measurements", "text"), "measurements": "enhanced"},
    "presentation states": {"objects": ("presentation", "text")},
    "pictures and PDF": {"objects": (*_PICTURES, "text")},
    "single pictures": {"objects": ("secondary_capture", "text"), "secondary_capture": "single_frame"},
}
_VOLUMES: dict[str, dict[str, object]] = {
    **{f"SEG {form}": {"objects": ("seg", "measurements", "text"), **profile} for form, profile in FORMS.items()},
    "SEG labelmap, comprehensive": {
        "objects": ("seg", "measurements"),
        "segmentation": "labelmap",
        "measurements": "comprehensive",
    },
    "one object a lesion": {"objects": ("seg", "measurements", "text"), "per_lesion": True},
    "maps and contours": {"objects": ("parametric_map", "rtstruct", "text")},
}
_STATUS: dict[str, dict[str, object]] = {"objects": ("status", *_PICTURES)}
_JAPANESE = {"character_set": "iso-2022-jp"}
_BYTES = re.compile(
    r"^FAIL dcentvfy study Error - String attribute has different value - Element=<PatientName> IE=<Patient>$"
)
"""dcentvfy compares the bytes of a name, whatever its character set: the images' are UTF-8."""


@dataclass(frozen=True)
class Judged:
    """One study under one name: how many objects of each kind, and what the judge said against them."""

    study: str
    name: str
    kinds: Counter[str]
    failures: list[str]


def judged(shared_data: Path, study: str, name: str, folder: Path) -> Judged:
    """Write everything that fits the study, in English and Japanese, and ask the judge once."""
    case = real_case(shared_data, study, patient_of(shared_data, NAMES[name]), folder / "study")
    is_volume = case.result.segmentation is not None
    kinds: Counter[str] = Counter()
    if is_volume:
        case = replace(case, result=with_pixels(case))
    result = case.complete if is_volume else case.result
    sets = {**_REPORTS, **(_VOLUMES if is_volume else {})}
    for key, profile in sets.items():
        plain = key.startswith(("SEG", "one object", "maps"))
        kinds += _write(case, case.result if plain else result, folder / "out", key, profile)
    kinds += _write(case, nothing_found(), folder / "out", "nothing found", _STATUS)
    kinds += _write(case, not_assessed(), folder / "out", "not assessed", _STATUS)
    for combined in (False, True):
        kinds += later_versions(case, result, folder / "out", combined=combined)
    failures = less_study_references(verdict(folder / "study", folder / "out"), case.study.study_uid)
    if name == "Japanese":
        for key in ("measurements, 3D", "pictures and PDF"):
            kinds += _write(case, result, folder / "japanese", f"{key}, ISO 2022", {**sets[key], **_JAPANESE})
        kinds += later_versions(case, result, folder / "japanese", combined=True, **_JAPANESE)
        failures += [each for each in verdict(folder / "study", folder / "japanese") if not _BYTES.search(each)]
    failures = less_label_maps(failures, folder)
    left = [each for each in failures if not UNCERTAINTY.search(each) and not earned_by_sources(each, case.files)]
    return Judged(study, name, kinds, left)


def later_versions(case: Case, result: StudyResult, folder: Path, *, combined: bool, **profile: object) -> Counter[str]:
    """A set, a later one that takes its place, and the notes that say so; of a result or of the combined status."""
    objects = ("status", "summary") if combined else ("seg", "measurements", "text")
    wanted = {"objects": objects, **profile}
    name = "combined status" if combined else "versions"
    later = replace(result, replaces=Replaced("2026-01-31 03:12", 1, Outcome.FOUND, 12.0, 14, 0, ("FLAIR",)))
    first = (
        _status(case, result, f"{name}, first", wanted) if combined else _made(case, result, f"{name}, first", wanted)
    )
    earlier = tuple(
        EarlierObject(each.role, str(d.SOPClassUID), str(d.SOPInstanceUID), str(d.SeriesInstanceUID))
        for each in first
        for d in [each.dataset]
    )
    make = _status if combined else _made
    second = make(case, later, f"{name}, second", wanted, earlier)
    kinds = _placed(first, folder / f"{name}-1") + _placed(second, folder / f"{name}-2")
    taken = Taken(earlier, "2026-01-31 03:12", 1, later.replaces, later.outcome, later.total_ml)
    for how in ("words", "rejection"):
        asked = context(key=f"{name}, {how}", **wanted)
        header = normalise(case.study, None)
        notes = render_retractions(
            taken, header, asked, not_assessed(), as_rejection=how == "rejection", languages=["en", "ja"]
        )
        for each in notes:
            fit(each.dataset, asked.profile)
        known = [header_of(each, str(case.study.study_uid)) for each in earlier]
        check(notes, case.study, not_assessed(), None, profile=asked.profile, known=known)
        kinds += _placed(notes, folder / f"{name}-{how}")
    return kinds


def _status(
    case: Case, result: StudyResult, key: str, profile: dict[str, object], earlier: tuple[EarlierObject, ...] = ()
) -> list[RenderedObject]:
    """The combined status of an analysis that found something, one that found nothing, and one that did not run."""
    accounts = [Account(replace(result, drafts=())), Account(nothing_found()), Account(not_assessed())]
    wanted = replace(context(key=key, **profile), earlier=earlier)
    objects = render_combined(accounts, ["en", "ja"], normalise(case.study, None), wanted, result.replaces)
    for each in objects:
        fit(each.dataset, wanted.profile)
    known = [header_of(each, str(case.study.study_uid)) for each in earlier]
    check(objects, case.study, accounts[0].result, None, profile=wanted.profile, known=known, accounts=accounts)
    return objects


def _made(
    case: Case, result: StudyResult, key: str, profile: dict[str, object], earlier: tuple[EarlierObject, ...] = ()
) -> list[RenderedObject]:
    wanted = replace(context(key=key, **profile), earlier=earlier)
    source = None if result.refusal else case.source
    objects = render(result, case.study, wanted, source)
    known = [header_of(each, str(case.study.study_uid)) for each in earlier]
    check(objects, case.study, result, source, profile=wanted.profile, known=known)
    return objects


def _write(case: Case, result: StudyResult, folder: Path, key: str, profile: dict[str, object]) -> Counter[str]:
    return _placed(_made(case, result, key, profile), folder / key)


def _placed(objects: Sequence[RenderedObject], place: Path) -> Counter[str]:
    folder = place.with_name(place.name.replace(" ", "-").replace(",", ""))
    folder.mkdir(parents=True)
    write_objects(objects, folder)
    return Counter(_class_of(each.dataset.SOPClassUID) for each in objects)


def _class_of(uid: UID) -> str:
    # Its name is younger than pydicom's dictionary.
    return "Label Map Segmentation" if uid == LABEL_MAP_SEGMENTATION else uid.name.removesuffix(" Storage")


def table(all_judged: list[Judged]) -> str:
    """Markdown: a row for each study, a column for each name."""
    cells = {(each.study, each.name): each for each in all_judged}
    lines = ["| Study | " + " | ".join(NAMES) + " |", "|---" * (len(NAMES) + 1) + "|"]
    for study in IMAGES:
        row = [cells[study, name] for name in NAMES if (study, name) in cells]
        told = [f"{each.kinds.total()} objects, {len(each.failures) or 'no'} failures" for each in row]
        lines.append(f"| {study} | " + " | ".join(told) + " |")
    kinds = sum((each.kinds for each in all_judged), Counter())
    lines += ["", "| SOP class | objects judged |", "|---|---|"]
    lines += [f"| {kind} | {count} |" for kind, count in sorted(kinds.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Judge the product, renew the tables at the end of the page where it was the whole, and fail where the judge did."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("page", type=Path, help="Markdown page; rewritten only by a whole run")
    arguments.add_argument("--study", action="append", choices=IMAGES, help="only this study; may be repeated")
    arguments.add_argument("--name", action="append", choices=NAMES, help="only under this name; may be repeated")
    asked = arguments.parse_args()
    studies, names = asked.study or list(IMAGES), asked.name or list(NAMES)
    done = []
    for study in studies:
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                done.append(judged(SHARED / "data", study, name, Path(folder)))
            print(study, name, done[-1].kinds.total(), "objects", *done[-1].failures, sep="\n  ", flush=True)
    if len(studies) == len(IMAGES) and len(names) == len(NAMES):
        page = asked.page.read_text(encoding="utf-8")
        asked.page.write_text(page[: page.index(_TABLES)] + _TABLES + "\n\n" + table(done), encoding="utf-8")
    sys.exit(min(1, sum(len(each.failures) for each in done)))


if __name__ == "__main__":
    main()
