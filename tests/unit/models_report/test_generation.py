"""The committed report model through registry and adapter: right side, right numbers, both languages, pinned files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.card import EMBEDDED
from models.consistency import contradictions, omissions
from models.errors import CardInvalid, DigestMismatch, InferenceFailed
from models.model import Model
from models.phantom import LesionSpec, Phantom, make_phantom
from models.report import draft
from models.report_facts import format_ml
from models.results import Laterality, Segmentation, StudyResult
from models.volume import Volume
from tests.unit.models_report.builders import found, not_assessed, nothing_found

FOLDER = EMBEDDED / "stroke-impression-demo"


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(FOLDER, threads=1)


def phantom_of(*sides: str) -> Phantom:
    return make_phantom(
        7,
        shape_zyx=(20, 64, 64),
        spacing_mm_zyx=(7.5, 3.6, 3.6),
        lesions=[LesionSpec(30.0 / number, side) for number, side in enumerate(sides, 1)],
    )


@pytest.fixture(scope="module")
def phantoms() -> dict[str, Phantom]:
    return {
        "left": phantom_of("left"),
        "right": phantom_of("right"),
        "bilateral": phantom_of("left", "right"),
        "none": phantom_of(),
    }


def volumes_of(phantom: Phantom) -> Mapping[str, Volume]:
    return {"dwi": phantom.dwi, "adc": phantom.adc}


def marked(result: StudyResult, phantom: Phantom) -> StudyResult:
    """``result`` with the phantom's lesions as its mask, whatever its figures say."""
    assert result.segmentation is not None
    mask = (phantom.truth_zyx > 0).astype(np.uint8)
    return replace(result, segmentation=Segmentation("dwi", mask, result.segmentation.regions))


KNOWN = [
    (
        "left", [(12.4, "left", None)],
        "Restricted diffusion on the left side of the brain, consistent with acute infarct: 1 lesion, "
        "total volume 12.4 mL.",
        "左側の脳実質に急性期梗塞に合致する拡散制限域を1か所認める。総体積は12.4 mLである。",
    ),
    (
        "right", [(87.6, "right", None), (0.53, "right", None)],
        "Restricted diffusion on the right side of the brain, consistent with acute infarct: 2 lesions, "
        "total volume 88.1 mL, the largest 87.6 mL.",
        "右側の脳実質に急性期梗塞に合致する拡散制限域を2か所認める。総体積は88.1 mLで、最大の病変は87.6 mLである。",
    ),
    (
        "bilateral", [(103.0, "left", None), (9.0, "right", None), (0.2, "right", None)],
        "Restricted diffusion on both sides of the brain, consistent with acute infarct: 3 lesions, "
        "total volume 112 mL, the largest 103 mL.",
        "両側の脳実質に急性期梗塞に合致する拡散制限域を3か所認める。総体積は112 mLで、最大の病変は103 mLである。",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("side", "lesions", "english", "japanese"), KNOWN, ids=[k[0] for k in KNOWN])
def test_known_facts_give_the_known_sentence(
    model: Model,
    phantoms: dict[str, Phantom],
    side: str,
    lesions: list[tuple[float, str, None]],
    english: str,
    japanese: str,
) -> None:
    result = marked(found(lesions), phantoms[side])
    inputs = volumes_of(phantoms[side])
    assert model.write(result, inputs, "en").impression == english
    assert model.write(result, inputs, "ja").impression == japanese


def test_nothing_found_states_its_detection_limit(model: Model, phantoms: dict[str, Phantom]) -> None:
    inputs = volumes_of(phantoms["none"])
    assert model.write(nothing_found(limit=0.37), inputs, "en").impression == (
        "No restricted diffusion was found (detection limit 0.37 mL); this does not exclude acute infarct."
    )
    assert model.write(nothing_found(limit=0.37), inputs, "ja").impression == (
        "拡散制限域を認めない（検出限界は0.37 mL）。ただし、急性期梗塞を否定するものではない。"
    )


@pytest.mark.parametrize("volume", [0.001, 0.03, 0.99, 1.0, 5.67, 10.05, 26.19, 48.3, 73.8, 99.94, 100.4, 215.0, 388.0])
def test_numbers_of_any_size_are_copied(model: Model, phantoms: dict[str, Phantom], volume: float) -> None:
    result = marked(found([(volume, "left", None)]), phantoms["left"])
    for language in ("en", "ja"):
        written = model.write(result, volumes_of(phantoms["left"]), language)
        assert f"{format_ml(volume)} mL" in written.impression
        assert contradictions(written, result) == ()


def test_the_same_input_gives_the_same_draft(model: Model, phantoms: dict[str, Phantom]) -> None:
    result = marked(found([(12.4, "left", None)]), phantoms["left"])
    inputs = volumes_of(phantoms["left"])
    first = draft(result, "ja", generator=model, inputs=inputs)
    again = draft(result, "ja", generator=Model(FOLDER, threads=2), inputs=inputs)
    assert first == again


def test_the_draft_names_its_author_and_that_it_is_a_demonstration(model: Model, phantoms: dict[str, Phantom]) -> None:
    result = marked(found([(12.4, "left", None)]), phantoms["left"])
    made = draft(result, "en", generator=model, inputs=volumes_of(phantoms["left"]))
    assert made.author is not None
    assert made.author.model_id == "stroke-impression-demo"
    assert made.author.digest == model.digest
    assert any("demonstration" in note for note in made.notes)
    assert any(model.digest[:12] in note for note in made.notes)
    assert contradictions(made, result) == () == omissions(made, result)
    assert any("emonstration" in line for line in model.card.caveats)
    assert not model.card.clinical


def test_what_it_cannot_say_right_is_replaced(model: Model, phantoms: dict[str, Phantom]) -> None:
    # It knows one side a text: with a third lesion in the midline its count is wrong for the side it names.
    result = marked(found([(12.4, "left", None), (3.0, "left", None), (1.0, "midline", None)]), phantoms["left"])
    made = draft(result, "en", generator=model, inputs=volumes_of(phantoms["left"]))
    assert made.author is None
    assert made.notes[-1].startswith("MOD-007")
    assert contradictions(made, result) == ()


def test_facts_that_do_not_fit_the_prompt_are_refused_not_truncated(model: Model, phantoms: dict[str, Phantom]) -> None:
    result = marked(found([(123456.0, "left", None)]), phantoms["left"])
    inputs = volumes_of(phantoms["left"])
    with pytest.raises(InferenceFailed, match="do not fit"):
        model.write(result, inputs, "en")
    assert draft(result, "en", generator=model, inputs=inputs).notes[-1].startswith("MOD-005")


def test_it_refuses_what_it_cannot_write_about(model: Model, phantoms: dict[str, Phantom]) -> None:
    inputs = volumes_of(phantoms["left"])
    with pytest.raises(InferenceFailed, match="nothing was assessed"):
        model.write(not_assessed(), inputs, "en")
    with pytest.raises(InferenceFailed, match="does not write fr"):
        model.write(nothing_found(), inputs, "fr")
    with pytest.raises(InferenceFailed, match="adc"):
        model.write(nothing_found(), {"dwi": inputs["dwi"]}, "en")
    with pytest.raises(InferenceFailed, match="shape"):
        model.write(found([(12.4, Laterality.LEFT, None)]), inputs, "en")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "copy"))


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx", "tokenizer.json"])
def test_a_changed_file_never_runs(copied: Path, phantoms: dict[str, Phantom], name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(bytes(content))
    with pytest.raises(DigestMismatch, match=name):
        Model(copied).write(nothing_found(), volumes_of(phantoms["none"]), "en")


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ('stop_token = "[end]"', 'stop_token = "[stop]"', "stop"),
        ("size = 32", "size = 32\ncolour = true", "colour"),
        ('channels = ["dwi", ', 'channels = ["flair", ', "channels"),
        ("heads = 4", "heads = 0", "heads"),
    ],
)
def test_a_wrong_recipe_is_named(copied: Path, before: str, after: str, named: str) -> None:
    card = copied / "model.toml"
    text = card.read_text(encoding="utf-8")
    assert before in text
    card.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(CardInvalid, match=named):
        Model(copied).warm()


def test_a_wrong_cache_shape_fails_as_inference(copied: Path, phantoms: dict[str, Phantom]) -> None:
    card = copied / "model.toml"
    card.write_text(card.read_text(encoding="utf-8").replace("heads = 4", "heads = 3"), encoding="utf-8")
    with pytest.raises(InferenceFailed):
        Model(copied).write(nothing_found(), volumes_of(phantoms["none"]), "en")


def test_the_committed_files_are_small_and_tell_nothing_of_the_machine_they_were_made_on() -> None:
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 4 * 2**20
    for path in files:
        content = path.read_bytes()
        assert b"site-packages" not in content
        assert b".venv" not in content
        assert b'File "/' not in content
