"""Released folders of image–text models convert, equal torch, run, and nothing else is taken for them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import CheckpointMismatch
from models.model import Model
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export.imported import Imported  # noqa: E402
from models.export.systems import SYSTEMS  # noqa: E402
from models.export.text_tower import batch, tokenizer  # noqa: E402
from tests.unit.models_image_text import released  # noqa: E402

pytestmark = pytest.mark.slow

WRITERS: dict[str, Callable[[Path], Any]] = {
    "medclip": released.write_medclip,
    "medclip-resnet": lambda folder: released.write_medclip(folder, resnet=True),
    "flair": released.write_flair,
    "biomedclip": lambda folder: released.write_open_clip(folder, "biomedclip"),
    "unimed-clip": lambda folder: released.write_open_clip(folder, "unimed-clip"),
    "knobo": released.write_knobo,
    "medsiglip": released.write_medsiglip,
}


def convert(system: str, source: Path, out: Path) -> Imported:
    module = importlib.import_module(SYSTEMS[system.removesuffix("-resnet")])
    return module.convert(source / "unimed.pt" if system == "unimed-clip" else source, out)


@dataclass(frozen=True)
class Conversion:
    """A folder of the released layout, the network it was written from, and the folder it was converted to."""

    system: str
    network: Any
    source: Path
    out: Path


@pytest.fixture(scope="module")
def conversions(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Conversion]:
    """Converts each system once."""

    @cache
    def converted(system: str) -> Conversion:
        source, out = (tmp_path_factory.mktemp(system) for _ in range(2))
        network = WRITERS[system](source)
        report = convert(system, source, out).report()
        assert (report["missing"], report["unexpected"]) == (0, 0)
        differences = report["graphs"]["main.onnx"]["relative_differences"]
        print(system, report["keys"], report["graphs"]["main.onnx"]["exporter"], differences)
        assert len(differences) == 3 and max(differences) < 1e-4
        return Conversion(system, network, source, out)

    return converted


@pytest.fixture(params=sorted(WRITERS))
def imported(request: pytest.FixtureRequest, conversions: Callable[[str], Conversion]) -> Conversion:
    return conversions(request.param)


def image_for(system: str, seed: int = 0) -> Volume:
    rng = np.random.default_rng(seed)
    if system == "flair":
        colour = rng.integers(0, 256, (3, 90, 120)).astype(np.uint8)
        grey = colour.mean(0, keepdims=True).astype(np.float32)
        return Volume(grey, np.eye(4), facts={"maximum_value": 255}, colour=colour)
    return Volume(rng.integers(0, 4096, (1, 130, 110)).astype(np.float32), np.eye(4), facts={"maximum_value": 4095})


def test_the_model_runs_and_knows_its_answer(imported: Conversion) -> None:
    system, folder = imported.system, imported.out
    model = Model(folder)
    model.verify()
    assert max(model.self_test().values()) < 1e-4
    volume = image_for(system)
    result = model.run({"image": volume}, {})
    other = model.run({"image": image_for(system, 1)}, {})
    assert result.embedding is not None and np.linalg.norm(result.embedding) == pytest.approx(1.0, abs=1e-5)
    assert [f.probability for f in result.findings] != [f.probability for f in other.findings]
    assert all(0.0 <= each.probability <= 1.0 for each in result.findings)
    assert len(result.heat_maps) == sum(each.present for each in result.findings)
    for each in (*result.heat_maps, *other.heat_maps):
        assert each.values_zyx.shape == volume.array_zyx.shape and np.isfinite(each.values_zyx).all()


def test_the_scale_is_the_learnt_one(imported: Conversion) -> None:
    system, folder = imported.system, imported.out
    learnt = {"medclip": 2.0, "medclip-resnet": 2.0, "flair": np.log(100), "medsiglip": 4.7}.get(system, 3.0)
    assert Model(folder).card.options["scale"] == pytest.approx(np.exp(learnt), rel=1e-4)


def test_medclip_averages_all_phrases_of_a_class_with_their_padding(
    conversions: Callable[[str], Conversion],
) -> None:
    made = conversions("medclip-resnet")
    network, model = made.network, Model(made.out)
    words = tokenizer(made.source)
    with np.load(made.out / "phrases.npz") as stored:
        vector = stored["edema/positive"]
    severities = ("", "mild", "improvement in", "presistent", "moderate", "decreased")
    kinds = ("pulmonary edema", "trace interstitial edema", "pulmonary interstitial edema")
    phrases = [f"{severity} {kind} " for severity in severities for kind in kinds]
    ids, mask = batch(phrases, words)
    with torch.no_grad():
        states = network.text_model.model(ids, mask)
        pooled = (states[1] + states[2] + states[-1]).div(3).mean(1)
        unit = torch.nn.functional.normalize(network.text_model.projection_head(pooled), dim=-1)
        alone = network.text_model(*batch(phrases[1:2], words))[0]
    assert np.allclose(vector, unit.mean(0).numpy(), atol=1e-5)
    # Padding counts: a phrase by itself has another vector than among longer ones.
    assert not np.allclose(torch.nn.functional.normalize(alone, dim=0).numpy(), unit[1].numpy(), atol=1e-3)
    assert model.card.provenance["padded_tokens"][3] == ids.shape[1]


@pytest.mark.parametrize("system", ["medclip", "biomedclip", "unimed-clip", "medsiglip", "flair"])
@pytest.mark.parametrize("change", ["missing", "unexpected", "another shape"])
def test_other_layouts_are_refused(tmp_path: Path, system: str, change: str) -> None:
    WRITERS[system](tmp_path)
    (path,) = [*tmp_path.glob("*.bin"), *tmp_path.glob("*.pt")]
    state = torch.load(path, weights_only=True)
    state = state.get("state_dict", state)
    endings = ("norm2.weight", "layernorm_after.weight", "ln_2.weight", "bn2.weight")
    key = next(key for key in state if key.endswith(endings))
    if change == "missing":
        del state[key]
    elif change == "unexpected":
        state["another_head.weight"] = torch.zeros(2)
    else:
        state[key] = torch.zeros(3)
    torch.save(state, path)
    with pytest.raises(CheckpointMismatch, match=r"another_head|" + key.removeprefix("module.").replace(".", r"\.")):
        convert(system, tmp_path, tmp_path)
    assert not list(tmp_path.glob("*.onnx"))


def test_knobo_weighs_concepts(conversions: Callable[[str], Conversion], tmp_path: Path) -> None:
    made = conversions("knobo")
    image, text = made.network
    volume = image_for("knobo")
    model = Model(made.out)
    (finding,) = model.run({"image": volume}, {}).findings
    pixels = torch.from_numpy(model._adapter._network_image(volume))  # type: ignore[union-attr]
    ids = torch.tensor([[0, 1, 2, 8], [0, 3, 4, 8], [0, 5, 6, 8]])
    with torch.no_grad():
        vectors = torch.nn.functional.normalize(text(torch.nn.functional.pad(ids, (0, 8))), dim=-1)
        cosines = torch.nn.functional.normalize(image(pixels)[0], dim=-1) @ vectors.T
        head = torch.load(made.source / "head.pt", weights_only=True)
        likely = (cosines @ head["linear.weight"].T + head["linear.bias"]).softmax(-1)[0, 1]
    assert finding.concept.meaning == "Pneumonia"
    assert finding.probability == pytest.approx(float(likely), abs=1e-4)
    released.write_knobo(tmp_path)
    (tmp_path / "head.pt").unlink()
    with pytest.raises(CheckpointMismatch, match="a site trains the head"):
        convert("knobo", tmp_path, tmp_path)
