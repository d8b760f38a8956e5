"""Merlin's phenotypes and five-year risks: a CT volume to probabilities of the released names, in the released order."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.code_list import read_codes
from models.errors import CardInvalid, CheckpointMismatch, InferenceFailed
from models.model import Model
from models.results import Outcome
from models.slice_input import VolumeInput, volume_image
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export.checkpoint import Layout  # noqa: E402
from models.export.imported import CARDS_FOLDER  # noqa: E402
from models.export.merlin_heads import convert_phenotypes, convert_risks  # noqa: E402
from models.export.merlin_network import InflatedResNet  # noqa: E402
from tests.unit.models_image_text.released import randomised  # noqa: E402

OUTPUTS = 30
# The first lines of the released file (StanfordMIMI/Merlin documentation/phenotypes.csv), one of them quoted.
RELEASED = 'phecode,phecode_str\n8,Intestinal infection\n8.5,Bacterial enteritis\n71.1,"HIV infection, symptomatic"\n'
VOLUME = Volume(
    np.random.default_rng(0).uniform(-900, 900, (20, 50, 50)).astype(np.float32), np.diag([1.0, 1.0, 4.0, 1.0])
)


def names(count: int) -> str:
    return RELEASED + "".join(f"{n}.01,Condition {n}\r\n" for n in range(100, 100 + count - 3))


def network(outputs: int) -> InflatedResNet:
    """A small tower with random weights whose logits are of the order of one."""
    tower = randomised(InflatedResNet((1, 1, 1, 1), 4, 16, outputs), 3)
    with torch.no_grad():
        tower.classifier.bias.zero_()
        tower.classifier.weight.mul_(2 / tower(torch.rand(1, 1, 48, 48, 32))[1].std())
    return tower


def expected(outputs: int) -> np.ndarray:
    """What the original gives: the sigmoid of the classifier's outputs, of the volume as it is prepared."""
    recipe = VolumeInput(size_xyz=(48, 48, 32), spacing_mm_xyz=(1.5, 1.5, 3.0), low=-1000, high=1000)
    with torch.no_grad():
        return torch.sigmoid(network(outputs)(torch.from_numpy(volume_image(VOLUME, recipe)))[1])[0].numpy()


def checked(report: dict[str, Any], unused: int) -> None:
    graph = report["graphs"]["main.onnx"]
    print(report["system"], report["keys"], graph)
    assert report["unused"] == unused and len(graph["relative_differences"]) == 3
    assert 0 < max(graph["relative_differences"]) < 1e-4


def small(folder: Path) -> Model:
    card = folder / "model.toml"
    card.write_text(card.read_text().replace("[224, 224, 160]", "[48, 48, 32]"))
    return Model(folder)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the image–text model's is, and the list beside it."""
    folder = tmp_path_factory.mktemp("released")
    state = {f"encode_image.i3_resnet.{key}": value for key, value in network(OUTPUTS).state_dict().items()}
    torch.save(
        state | {"encode_text.linear_layer.bias": torch.zeros(4), "logit_scale": torch.zeros(())}, folder / "m.pt"
    )
    (folder / "phenotypes.csv").write_text(names(OUTPUTS), newline="")
    return folder


@pytest.fixture(scope="module")
def phenotypes(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phenotypes")
    checked(convert_phenotypes(released / "m.pt", folder).report(), 2)
    return folder


def test_the_released_layouts() -> None:
    whole, alone = Layout.load("merlin").shapes, Layout.load("merlin-five-year").shapes
    with torch.device("meta"):
        tower = InflatedResNet(phenotypes=6)
    assert {key: tuple(value.shape) for key, value in tower.state_dict().items()} == alone
    prefix = "encode_image.i3_resnet."
    image = {key.removeprefix(prefix): shape for key, shape in whole.items() if key.startswith(prefix)}
    assert len(alone) == 934 and image.keys() == alone.keys()
    assert {key for key in alone if alone[key] != image[key]} == {"classifier.weight", "classifier.bias"}


@pytest.mark.slow
def test_the_most_probable_codes_are_reported_in_the_released_words(phenotypes: Path) -> None:
    model = small(phenotypes)
    model.self_test()
    result = model.run({"image": VOLUME}, {})
    assert result.outcome is Outcome.FOUND and len(result.findings) == 20
    codes = [line.split(",")[0] for line in names(OUTPUTS).splitlines()[1:]]
    wanted = expected(OUTPUTS)
    order = np.argsort(-wanted)[:20]
    assert [each.concept.value for each in result.findings] == [codes[n] for n in order]
    assert [each.probability for each in result.findings] == pytest.approx(list(wanted[order]), abs=1e-5)
    assert {each.concept.scheme for each in result.findings} == {"99PHECODE"}
    present = int((wanted >= 0.5).sum())
    assert 0 < present < OUTPUTS and result.evidence["conditions"] == {"asked": OUTPUTS, "present": present}
    assert "codes_of_patients" in result.limitations


@pytest.mark.slow
def test_five_year_risks_have_the_released_order(tmp_path: Path) -> None:
    torch.save(network(6).state_dict(), tmp_path / "risks.pt")
    out = tmp_path / "out"
    out.mkdir()
    checked(convert_risks(tmp_path / "risks.pt", out).report(), 0)
    result = small(out).run({"image": VOLUME}, {})
    assert [each.concept.value.split("_")[0] for each in result.findings] == ["CVD", "IHD", "HTN", "DM", "CKD", "CLD"]
    assert [each.probability for each in result.findings] == pytest.approx(list(expected(6)), abs=1e-5)
    assert [each.present for each in result.findings] == list(expected(6) >= 0.5)
    assert all(each.concept.meaning.endswith("within five years") for each in result.findings)
    torch.save(network(7).state_dict(), tmp_path / "risks.pt")
    with pytest.raises(CheckpointMismatch, match="7 outputs, not 6"):
        convert_risks(tmp_path / "risks.pt", out)


def test_a_list_that_does_not_fit_is_refused(released: Path, tmp_path: Path) -> None:
    folder = tmp_path / "beside"
    folder.mkdir()
    (folder / "m.pt").write_bytes((released / "m.pt").read_bytes())
    with pytest.raises(CheckpointMismatch, match="cannot be read"):
        convert_phenotypes(folder / "m.pt", tmp_path)
    (folder / "phenotypes.csv").write_text(names(OUTPUTS - 1))
    with pytest.raises(CheckpointMismatch, match=f"names {OUTPUTS - 1} outputs, the checkpoint has {OUTPUTS}"):
        convert_phenotypes(folder / "m.pt", tmp_path)


@pytest.mark.slow
def test_a_card_whose_list_is_shorter_than_the_graph_is_refused(phenotypes: Path, tmp_path: Path) -> None:
    """As after an exchange of the file with its digest: every output is named, or nothing is."""
    import shutil

    from models.card import file_digest

    folder = tmp_path / "changed"
    shutil.copytree(phenotypes, folder)
    listed = folder / "phenotypes.csv"
    before = file_digest(listed)
    listed.write_text(names(OUTPUTS - 1))
    card = folder / "model.toml"
    card.write_text(card.read_text().replace(before, file_digest(listed)).replace("[224, 224, 160]", "[48, 48, 32]"))
    with pytest.raises(InferenceFailed, match="reads 29 values"):
        Model(folder).run({"image": VOLUME}, {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("code,words\n1,a\n1,b\n", "stands once"),
        ("code,words\n1,a,b\n", "a code and its meaning"),
        ("code,words\n", "a code and its meaning"),
        ("code,words\n12345678901234567,a\n", "at most 16"),
    ],
)
def test_lists_of_another_form(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(CardInvalid, match=words):
        read_codes(tmp_path / "list.csv", "99X")


def test_meanings_fit_into_dicom(tmp_path: Path) -> None:
    long = "Infection/inflammation of internal prosthetic device; implant; and graft"
    (tmp_path / "list.csv").write_text(RELEASED + f"81,{long}\n9,a\\b\n")
    terms = read_codes(tmp_path / "list.csv", "99PHECODE")
    assert [each.value for each in terms] == ["8", "8.5", "71.1", "81", "9"]
    assert terms[2].meaning == "HIV infection, symptomatic" and terms[4].meaning == "a/b"
    assert len(terms[3].meaning) <= 64 and terms[3].meaning.endswith("...") and long.startswith(terms[3].meaning[:-3])


@pytest.mark.parametrize("name", ["merlin-phenotypes", "merlin-five-year"])
def test_cards_say_that_they_are_no_findings(name: str) -> None:
    card = tomllib.loads((CARDS_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    assert card["clinical"] is False and {"codes_of_patients", "later_diagnoses"} & set(card["limitations"])
