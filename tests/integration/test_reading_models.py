"""Known answers through DICOM: sentences in two languages, and a box around a planted square."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from node.cli import main
from tests.generators.radiographs import write_radiograph

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("transformers", reason="training needs transformers")

from models.export.florence import convert_florence  # noqa: E402
from tests.unit.models_generation import trained, trained_ofa  # noqa: E402

pytestmark = pytest.mark.slow
BANNER = "AI DRAFT - NOT REVIEWED BY A PHYSICIAN"


def config_of(folder: Path, site: Path) -> Path:
    path = folder / "node.toml"
    path.write_text(
        f'[node]\ndata_dir = "{folder / "data"}"\n[models]\nfolders = ["{site}"]\n'
        '[profile.default]\nobjects = ["seg", "measurements", "text", "key_objects"]\nlanguages = ["en", "ja"]\n'
        'text_documents = "shown_as_draft"\nmaximum_series = 4\n'
    )
    return path


def processed(config: Path, image: Path, out: Path, model: str) -> dict[str, Dataset]:
    arguments = ["--config", str(config), "process", str(image), "--out", str(out)]
    assert main([*arguments, "--model", model, "--profile", "default"]) == 0
    return {path.stem: dcmread(path) for path in out.glob("*.dcm")}


def items(entry: Dataset) -> Iterator[Dataset]:
    for item in entry.get("ContentSequence", []):
        yield item
        yield from items(item)


def text_of(document: Dataset) -> str:
    return "\n".join(str(item.TextValue) for item in items(document) if "TextValue" in item)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of the report generator."""
    return trained.report_generator(tmp_path_factory.mktemp("checkpoint"))


def imported_generator(checkpoint: Path, site: Path, *options: str) -> Path:
    """Site folder with the report generator, imported as an engineer imports it, its card filled in."""
    folder = site / "vision-encoder-decoder"
    told = ["models", "import", "vision-encoder-decoder", str(checkpoint), "--out", str(folder), *options]
    assert main(told) == 0
    card = folder / "model.toml"
    tokens = ", ".join(f"{language} = [{number}]" for language, number in trained.LANGUAGES.items())
    text = card.read_text(encoding="utf-8").replace('languages = ["en"]', 'languages = ["en", "ja"]')
    text = text.replace("[options.decoding]\n", f"[options.decoding]\nlanguage_tokens = {{ {tokens} }}\n")
    card.write_text(text, encoding="utf-8")
    return site


@pytest.fixture(scope="module")
def generator(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return imported_generator(taught, tmp_path_factory.mktemp("site"))


@pytest.mark.parametrize("side", ["left", "right"])
def test_known_sentences_come_out_as_a_draft(tmp_path: Path, generator: Path, side: str) -> None:
    values = np.full((96, 64), 300, np.uint16)
    values[:, slice(0, 32) if side == "left" else slice(32, 64)] = 3900
    values[0, 0] = 0
    image = write_radiograph(tmp_path / "in" / "a.dcm", values)
    objects = processed(config_of(tmp_path, generator), image, tmp_path / "out", "vision-encoder-decoder")
    assert set(objects) == {"text-en", "text-ja"}
    for language in ("en", "ja"):
        document = objects[f"text-{language}"]
        said = text_of(document)
        assert "".join(trained.SENTENCES[side, language]) in said
        assert BANNER in said
        assert document.VerificationFlag == "UNVERIFIED"
        assert document.ContentTemplateSequence[0].TemplateIdentifier == "2000"
    assert "nothing in it was measured" in text_of(objects["text-en"])
    assert "nothing of this was measured" in text_of(objects["text-en"])
    assert "計測に基づく記載ではない" in text_of(objects["text-ja"])


def test_weights_of_four_bits_say_the_same_sentences(
    tmp_path: Path, taught: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Not all of the words compared are taught ones: the card as it comes names no language.
    site = imported_generator(taught, tmp_path / "site", "--weights", "int4", "--most-changed", "0.5")
    told = json.loads((site / "vision-encoder-decoder" / "import.json").read_text())["weights"]
    assert told["kind"] == "int4" and told["bytes"] < told["bytes_float"] and told["drift"]["changed"] <= 0.5
    assert f"int4 weights: {told['drift']['changed']:.1%} of {told['drift']['places']} words" in capsys.readouterr().out
    for side in ("left", "right"):
        values = np.full((96, 64), 300, np.uint16)
        values[:, slice(0, 32) if side == "left" else slice(32, 64)] = 3900
        values[0, 0] = 0
        image = write_radiograph(tmp_path / side / "a.dcm", values)
        runs = [
            processed(config_of(tmp_path, site), image, tmp_path / f"{side}-{n}", "vision-encoder-decoder")
            for n in range(2)
        ]
        for language in ("en", "ja"):
            said = text_of(runs[0][f"text-{language}"])
            assert "".join(trained.SENTENCES[side, language]) in said and BANNER in said
            assert said == text_of(runs[1][f"text-{language}"])
        assert "+int4" in text_of(runs[0]["text-en"])


def test_a_destination_without_text_documents_is_told_why(tmp_path: Path, generator: Path) -> None:
    image = write_radiograph(tmp_path / "in" / "a.dcm", np.full((64, 64), 300, np.uint16))
    config = config_of(tmp_path, generator)
    config.write_text(config.read_text().replace('text_documents = "shown_as_draft"\n', ""))
    arguments = ["--config", str(config), "process", str(image), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--model", "vision-encoder-decoder", "--profile", "default"]) == 1
    (status,) = [dcmread(path) for path in (tmp_path / "out").glob("status.dcm")]
    assert "text_documents" in text_of(status)


@pytest.fixture(scope="module")
def pointing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Site folder with the grounding model, its card asking for the square."""
    checkpoint = trained.grounding_model(tmp_path_factory.mktemp("florence"))
    site = tmp_path_factory.mktemp("pointing")
    folder = site / "ag-kd"
    folder.mkdir()
    convert_florence("ag-kd", checkpoint, folder, inner=trained.SIDE, size=trained.SIDE)
    card = folder / "model.toml"
    text = card.read_text(encoding="utf-8")
    start, end = text.index("[[options.targets]]"), text.index("[provenance]")
    target = '[[options.targets]]\nphrase = "bright square"\n'
    target += 'concept = { value = "SQUARE", scheme = "99TEST", meaning = "Bright square" }\n\n'
    text = text[:start] + target + text[end:]
    text = text.replace("<s>Locate the phrases in the caption: {question}</s>", "<s>{question}</s>")
    text = text.replace("Locate the phrases in the caption: {target} means {definition}.", "find the {target}")
    card.write_text(text, encoding="utf-8")
    return site


@pytest.mark.parametrize(("row", "column"), [(0, 3), (2, 1)])
def test_a_planted_square_is_boxed_on_the_right_image(tmp_path: Path, pointing: Path, row: int, column: int) -> None:
    # Twice the size of the model's picture, and taller than wide: padded left and right.
    values = np.random.default_rng(row).integers(0, 700, (128, 128)).astype(np.uint16)
    values[32 * row : 32 * row + 32, 32 * column : 32 * column + 32] += 3300
    values[127, 127 if column != 3 else 0] = 0
    image = write_radiograph(tmp_path / "in" / "a.dcm", values)
    objects = processed(config_of(tmp_path, pointing), image, tmp_path / "out", "ag-kd")
    report = objects["measurements-marks"]
    graphics = [item for item in items(report) if item.ValueType == "SCOORD"]
    assert len(graphics) == 1
    points = np.array(graphics[0].GraphicData, dtype=float).reshape(-1, 2)
    found = [*points.min(0), *points.max(0)]
    expected = [32 * column, 32 * row, 32 * column + 32, 32 * row + 32]
    assert np.abs(np.array(found) - expected).max() < 1.5, (found, expected)
    source = dcmread(image)
    selected = graphics[0].ContentSequence[0].ReferencedSOPSequence[0]
    assert selected.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert "bright square" in text_of(objects["text-en"])


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Site folder with a BiomedGPT, imported as an engineer imports it, its card as it comes."""
    checkpoint = trained_ofa.biomedgpt(tmp_path_factory.mktemp("biomedgpt"))
    site = tmp_path_factory.mktemp("answering")
    assert main(["models", "import", "biomedgpt", str(checkpoint), "--out", str(site / "biomedgpt")]) == 0
    return site


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_the_image_describes_comes_out_as_a_draft(tmp_path: Path, answering: Path, side: str) -> None:
    values = np.random.default_rng(5).integers(0, 700, (96, 64)).astype(np.uint16)
    values[:, slice(0, 32) if side == "left" else slice(32, 64)] += 3300
    image = write_radiograph(tmp_path / "in" / "a.dcm", values)
    objects = processed(config_of(tmp_path, answering), image, tmp_path / "out", "biomedgpt")
    said = text_of(objects["text-en"])
    assert trained_ofa.ANSWERS[trained_ofa.SEEN, side] in said
    assert BANNER in said
    assert objects["text-en"].VerificationFlag == "UNVERIFIED"


def test_its_terms_are_accepted_before_it_serves(
    tmp_path: Path, answering: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = ["--config", str(config_of(tmp_path, answering))]
    assert main([*node, "db", "upgrade"]) == 0
    config = [*node, "models", "approve", "biomedgpt"]
    assert main([*config, "--by", "A. Person"]) != 0
    printed = capsys.readouterr()
    assert "no clinical use" in printed.out + printed.err
    assert "--accept-licence" in printed.out + printed.err
    assert main([*config, "--by", "A. Person", "--accept-licence"]) == 0
