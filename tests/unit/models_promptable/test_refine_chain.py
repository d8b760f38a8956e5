"""The chain redraws outlines, keeps what was found where the two disagree, and measures again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.chains.refining import RefineChain
from models.errors import CardInvalid, ModelNotFound, OutsideLimits
from models.phantom import LesionSpec, Phantom, make_phantom
from models.registry import Registry
from models.results import Outcome, StudyResult
from tests.unit.models_promptable.conftest import write_model

CHAIN, FINDER = "stroke-dwi-medsam", "infarct-adc-baseline"


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(9, lesions=[LesionSpec(25.0, "left"), LesionSpec(8.0, "right")])


def run(catalogue: Path | None, phantom: Phantom, model: str = CHAIN) -> StudyResult:
    registry = Registry([catalogue] if catalogue else [], threads=1)
    return registry.get(model).run({"dwi": phantom.dwi, "adc": phantom.adc}, {})


def refiner(tmp_path: Path, threshold: str = "0.5") -> Path:
    """A catalogue whose `medsam` draws what is brighter than half inside the box."""
    write_model(tmp_path / "site" / "medsam", changes={"\nthreshold = 0.5\n": f"\nthreshold = {threshold}\n"})
    return tmp_path / "site"


def test_outlines_are_redrawn_and_measured_again(tmp_path: Path, phantom: Phantom) -> None:
    before, after = run(None, phantom, FINDER), run(refiner(tmp_path), phantom)
    assert after.outcome is Outcome.FOUND
    assert after.segmentation is not None
    assert before.segmentation is not None
    mask, found = after.segmentation.mask_zyx, before.segmentation.mask_zyx
    assert after.evidence["refined"]["redrawn"] > 0
    assert not np.array_equal(mask > 0, found > 0)
    regions = after.segmentation.regions
    assert [r.number for r in regions] == list(range(1, len(regions) + 1)) == list(np.unique(mask)[1:])
    for region in regions:
        where = mask == region.number
        assert region.volume_ml == pytest.approx(np.count_nonzero(where) * phantom.dwi.voxel_ml)
        adc = phantom.adc.array_zyx[where]
        assert region.quantities[1].value == pytest.approx(adc[adc > 0].mean(), abs=0.1)
    assert after.total_ml == pytest.approx(sum(r.volume_ml for r in regions))
    # Never further from what was found than the reach, in the plane.
    from scipy import ndimage

    allowed = ndimage.binary_dilation(found > 0, structure=np.ones((1, 3, 3)), iterations=2)
    assert not (mask.astype(bool) & ~allowed).any()


def test_the_result_names_every_model_of_the_chain(tmp_path: Path, phantom: Phantom) -> None:
    site = refiner(tmp_path)
    result = run(site, phantom)
    registry = Registry([site])
    assert result.model.model_id == CHAIN
    assert registry.get(FINDER).digest in result.model.parameters[f"member.{FINDER}"]
    assert registry.get("medsam").digest in result.model.parameters["member.medsam"]


def test_another_version_of_a_member_takes_over_from_the_next_run_on(tmp_path: Path, phantom: Phantom) -> None:
    write_model(tmp_path / "site" / "medsam")
    write_model(tmp_path / "site" / "medsam-2", changes={'version = "1.0.0"': 'version = "1.1.0"'})
    registry = Registry([tmp_path / "site"], threads=1)
    chain, versions = registry.get(CHAIN), registry.versions("medsam")
    assert len(versions) == 2
    for each in (*versions, versions[0]):
        registry.serve({"medsam": each.digest})
        result = chain.run({"dwi": phantom.dwi, "adc": phantom.adc}, {})
        told = f"{each.card.version} {each.digest} CPUExecutionProvider"
        assert result.model.parameters["member.medsam"] == told
        loaded = [bool(other.graphs.sessions) for other in versions]
        assert loaded == [other is each for other in versions]
        each.unload()


def test_a_member_that_left_a_device_makes_another_work(tmp_path: Path) -> None:
    """The finder runs where it ran before; the outlines have other last digits."""
    registry = Registry([refiner(tmp_path)], threads=1)
    session = registry.get("medsam").session("encoder")
    session.provider = "CUDAExecutionProvider"
    before = registry.get(CHAIN).reference({})
    assert registry.get("medsam").fall_back_to_cpu()
    after = registry.get(CHAIN).reference({})
    assert before.provider == after.provider and before.parameters != after.parameters


def test_the_limits_of_a_member_hold(tmp_path: Path, phantom: Phantom) -> None:
    card = write_model(tmp_path / "site" / "medsam") / "model.toml"
    card.write_text(card.read_text(encoding="utf-8") + "\n[limits]\nslice_spacing_mm = [0, 1]\n", encoding="utf-8")
    with pytest.raises(OutsideLimits, match="the distance between slices"):
        run(tmp_path / "site", phantom)


def test_a_refiner_that_sees_something_else_changes_nothing(
    tmp_path: Path, phantom: Phantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run(None, phantom, FINDER)
    assert before.segmentation is not None
    for nonsense in (np.zeros, np.ones):
        registry = Registry([refiner(tmp_path / nonsense.__name__)], threads=1)
        monkeypatch.setattr(
            type(registry.get("medsam")),
            "planes",
            lambda self, volume, prompts, made=nonsense: (
                (box, made(volume.array_zyx.shape[1:], np.float32)) for box in prompts
            ),
        )
        after = registry.get(CHAIN).run({"dwi": phantom.dwi, "adc": phantom.adc}, {})
        assert after.segmentation is not None
        assert np.array_equal(after.segmentation.mask_zyx, before.segmentation.mask_zyx)
        assert after.evidence["refined"]["redrawn"] == 0
        assert after.evidence["refined"]["disagreed"] > 0


def test_nothing_found_stays_nothing_found(tmp_path: Path) -> None:
    result = run(refiner(tmp_path), make_phantom(101, lesions=[]))
    assert result.outcome is Outcome.NOTHING_FOUND
    assert result.model.model_id == CHAIN
    assert result.detection_limit_ml is not None


def test_without_the_refiner_it_says_what_is_missing(phantom: Phantom) -> None:
    with pytest.raises(ModelNotFound, match="medsam"):
        run(None, phantom)


def test_a_chain_card_must_make_sense(tmp_path: Path) -> None:
    model = Registry().get(CHAIN)
    model.card.options["recipe"] = "pray"
    with pytest.raises(CardInvalid, match="recipe"):
        RefineChain(model)
