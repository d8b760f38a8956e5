"""A chain takes the first of its finders that may serve, says which, and why not another."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from models.card import EMBEDDED
from models.chains.refining import FELL_BACK, Refine
from models.comparison import _made_alike
from models.errors import CardInvalid, ModelNotApproved, NoFinder, OutsideLimits, SelfTestFailed
from models.lineage import PASSED_OVER
from models.model import Model
from models.phantom import LesionSpec, Phantom, make_phantom
from models.prompts import boxes_of
from models.registry import Registry
from models.results import Outcome, StudyResult
from node.jobs.self_tests import SelfTests
from tests.unit.models_promptable.conftest import write_model

CHAIN, THRESHOLD, NETWORK = "site-chain", "infarct-adc-baseline", "site-network"


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(9, shape_zyx=(24, 72, 72), spacing_mm_zyx=(6.0, 3.2, 3.2), lesions=[LesionSpec(25.0, "left")])


def run(
    registry: Registry, phantom: Phantom, parameters: dict[str, str] | None = None, model: str = CHAIN
) -> StudyResult:
    return registry.get(model).run({"dwi": phantom.dwi, "adc": phantom.adc}, parameters or {})


def edit(card: Path, old: str, new: str) -> None:
    text = card.read_text(encoding="utf-8")
    assert old in text
    card.write_text(text.replace(old, new), encoding="utf-8")


def install_network(site: Path, *, version: str = "1.0.0", more: str = "", folder: str = NETWORK) -> Path:
    """A quick stand-in for a network: the baseline's arithmetic under another id, with nothing a rule may adjust."""
    shutil.copytree(EMBEDDED / THRESHOLD, site / folder)
    card = site / folder / "model.toml"
    edit(card, f'id = "{THRESHOLD}"', f'id = "{NETWORK}"')
    edit(card, 'version = "', f'version = "{version}-')
    edit(card, 'adjustable = ["reporting_threshold_ml", "subacute"]', "")
    if more:
        card.write_text(f"{card.read_text(encoding='utf-8')}\n{more}\n", encoding="utf-8")
    return card


def install_chain(site: Path, finders: str | None = None) -> Path:
    shutil.copytree(EMBEDDED / "stroke-dwi-medsam", site / CHAIN)
    card = site / CHAIN / "model.toml"
    edit(card, 'id = "stroke-dwi-medsam"', f'id = "{CHAIN}"')
    text = card.read_text(encoding="utf-8")
    start, end = text.index("finders = ["), text.index("refiner =")
    made = finders or (
        f'finders = [{{ model = "{NETWORK}", outlines = "kept" }}, {{ model = "{THRESHOLD}", outlines = "redrawn" }}]\n'
    )
    card.write_text(text[:start] + made + text[end:], encoding="utf-8")
    return card


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A chain whose network is not there, with the refiner that the threshold needs."""
    folder = tmp_path / "site"
    install_chain(folder)
    write_model(folder / "medsam")
    return folder


def opened(site: Path) -> Registry:
    return Registry([site], threads=1)


def members(result: StudyResult) -> set[str]:
    return {name for name in result.model.parameters if name.startswith("member.")}


def test_a_preferred_model_that_is_not_there_is_no_error(site: Path, phantom: Phantom) -> None:
    registry = opened(site)
    result = run(registry, phantom)
    assert result.outcome is Outcome.FOUND
    assert result.model.parameters["finder"] == THRESHOLD
    assert result.model.parameters[PASSED_OVER] == f"{NETWORK} MOD-003"
    assert members(result) == {f"member.{THRESHOLD}", "member.medsam"}
    assert result.evidence["finder"]["taken"] == THRESHOLD
    assert "no model named" in result.evidence["finder"]["passed_over"][NETWORK]
    # A site that has none has not been let down.
    assert FELL_BACK not in result.limitations
    assert registry.missing(registry.get(CHAIN)) == ()


def test_the_preferred_model_takes_the_place_once_it_is_approved(site: Path, phantom: Phantom) -> None:
    install_network(site)
    shutil.rmtree(site / "medsam")  # its outlines stand: nobody is needed to draw them again
    registry = opened(site)
    network, chain = registry.get(NETWORK), registry.get(CHAIN)
    registry.serve({CHAIN: chain.digest})
    assert registry.asks_approvals(CHAIN)
    assert chain.needs == (THRESHOLD, "medsam") and registry.missing(chain) == ("medsam",)
    with pytest.raises(ModelNotApproved, match=NETWORK):
        registry.admit(NETWORK)
    registry.serve({CHAIN: chain.digest, NETWORK: network.digest})
    assert chain.needs == (NETWORK,) and registry.missing(chain) == ()
    chain.require_approved({CHAIN: chain.digest, NETWORK: network.digest})
    result, alone = run(registry, phantom), run(registry, phantom, model=NETWORK)
    assert result.segmentation is not None and alone.segmentation is not None
    assert np.array_equal(result.segmentation.mask_zyx, alone.segmentation.mask_zyx)
    assert result.total_ml == alone.total_ml and result.totals == alone.totals
    assert result.model.parameters["finder"] == NETWORK
    assert result.model.parameters[f"member.{NETWORK}"].split()[1] == network.digest
    assert members(result) == {f"member.{NETWORK}"} and PASSED_OVER not in result.model.parameters
    # The site need not want approvals for those that ask for none; one that asks for it gets it.
    registry.serve({}, required=False)
    assert chain.needs == (NETWORK,)


@pytest.mark.slow
def test_the_shipped_network_fills_the_shipped_chain_where_a_person_has_approved_it(tmp_path: Path) -> None:
    write_model(tmp_path / "site" / "medsam")
    registry, phantom = opened(tmp_path / "site"), make_phantom(9, lesions=[LesionSpec(25.0, "left")])
    chain, network = registry.get("stroke-dwi-medsam"), registry.get("infarct-network")
    for served in (None, {}, {"infarct-network": "0" * 64}):
        if served is not None:
            registry.serve(served, required=False)
        assert chain.needs == (THRESHOLD, "medsam")
    before = run(registry, phantom, model="stroke-dwi-medsam")
    absent = ", ".join(f"deepisles-{name} MOD-003" for name in ("seals", "nvauto", "swan"))
    passed_over = f"{absent}, infarct-network MOD-017"
    assert before.model.parameters[PASSED_OVER] == passed_over
    registry.serve({"infarct-network": network.digest, "medsam": registry.get("medsam").digest})
    after = run(registry, phantom, model="stroke-dwi-medsam")
    assert after.model.parameters["finder"] == "infarct-network"
    assert after.segmentation is not None
    truth, mask = phantom.truth_zyx > 0, after.segmentation.mask_zyx > 0
    assert 2 * np.count_nonzero(truth & mask) / (np.count_nonzero(truth) + np.count_nonzero(mask)) > 0.8
    # The network measures volumes only; what the report wants beside them the chain measures.
    region = after.segmentation.regions[0]
    adc = phantom.adc.array_zyx[after.segmentation.mask_zyx == 1]
    assert [each.name.value for each in region.quantities].count("113041") == 1
    assert region.quantities[-1].value == pytest.approx(adc[adc > 0].mean(), abs=0.1)


def test_a_study_outside_of_its_limits_is_for_the_next_one(site: Path, phantom: Phantom) -> None:
    install_network(site, more="[limits]\nslice_spacing_mm = [0, 1]")
    result = run(opened(site), phantom)
    assert result.model.parameters["finder"] == THRESHOLD
    assert result.model.parameters[PASSED_OVER] == f"{NETWORK} SUI-006"
    assert "the distance between slices" in result.evidence["finder"]["passed_over"][NETWORK]
    assert FELL_BACK in result.limitations


def test_an_input_that_is_not_there_is_for_the_next_one(site: Path, phantom: Phantom) -> None:
    card = install_network(site)
    edit(card, "required = false\n", "")
    registry = opened(site)
    result = run(registry, phantom)
    assert result.model.parameters[PASSED_OVER] == f"{NETWORK} SUI-006"
    # With one, as a chain takes it that has an input for it, the place is the network's; the threshold alone is not given it.
    inputs = {"dwi": phantom.dwi, "adc": phantom.adc, "flair": phantom.b0}
    assert registry.get(CHAIN).run(inputs, {}).model.parameters["finder"] == NETWORK
    plain = registry.get(CHAIN).run(inputs, {"reporting_threshold_ml": "0.05"})
    assert plain.model.parameters["finder"] == THRESHOLD and "flair" not in plain.evidence
    assert not any(each.startswith("flair") for each in plain.limitations)
    assert "flair" in result.evidence["finder"]["passed_over"][NETWORK]


def test_what_a_rule_asks_for_the_model_must_have(site: Path, phantom: Phantom) -> None:
    install_network(site)
    registry = opened(site)
    assert run(registry, phantom).model.parameters["finder"] == NETWORK
    asked = run(registry, phantom, {"reporting_threshold_ml": "1"})
    assert asked.model.parameters["finder"] == THRESHOLD
    assert asked.model.parameters[PASSED_OVER] == f"{NETWORK} MOD-009"
    assert asked.model.parameters["reporting_threshold_ml"] == "1"


def test_changed_files_are_passed_over(site: Path, phantom: Phantom) -> None:
    install_network(site)
    (site / NETWORK / "main.onnx").write_bytes(b"something else")
    result = run(opened(site), phantom)
    assert result.model.parameters[PASSED_OVER] == f"{NETWORK} MOD-002"
    assert FELL_BACK in result.limitations


def test_one_that_answers_wrong_is_set_aside_until_it_answers_right(
    site: Path, phantom: Phantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_network(site)
    registry, tests = opened(site), SelfTests()
    network = registry.get(NETWORK)
    real, wrong = Model.self_test, [NETWORK]

    def self_test(model: Model) -> dict[str, float]:
        if model.card.id in wrong:
            raise SelfTestFailed(f"{model.card.id}: graph main is far from its known answer")
        return real(model)

    monkeypatch.setattr(Model, "self_test", self_test)
    tests.require(registry, CHAIN)
    assert tests.state[NETWORK]["passed"] is False and tests.state[THRESHOLD]["passed"] is True
    result = run(registry, phantom)
    assert result.model.parameters[PASSED_OVER] == f"{NETWORK} MOD-016" and FELL_BACK in result.limitations
    wrong.clear()
    tests.require(registry, CHAIN)
    assert network.fault is None and run(registry, phantom).model.parameters["finder"] == NETWORK
    # Where nobody is left, the test refuses as it does for any model.
    wrong.extend([NETWORK, THRESHOLD])
    with pytest.raises(SelfTestFailed, match=THRESHOLD):
        SelfTests().require(registry, CHAIN)


@pytest.mark.slow
def test_another_version_of_the_preferred_model_takes_over(site: Path, phantom: Phantom) -> None:
    for version in ("1.0.0", "2.0.0"):
        install_network(site, version=version, folder=f"network-{version}")
    registry = opened(site)
    chain, versions = registry.get(CHAIN), registry.versions(NETWORK)
    others = {CHAIN: chain.digest, "medsam": registry.get("medsam").digest}
    registry.serve(others)
    assert run(registry, phantom).model.parameters[PASSED_OVER] == f"{NETWORK} MOD-034"
    told = []
    for each in (*versions, versions[0]):
        registry.serve({**others, NETWORK: each.digest})
        told.append(run(registry, phantom).model)
        assert told[-1].parameters[f"member.{NETWORK}"] == f"{each.card.version} {each.digest} CPUExecutionProvider"
    assert told[0] == told[2] != told[1]


def test_nobody_left_is_a_refusal_with_every_reason(site: Path, phantom: Phantom) -> None:
    card = site / CHAIN / "model.toml"
    text = card.read_text(encoding="utf-8")
    edit(card, THRESHOLD, "other-network")
    with pytest.raises(NoFinder, match=rf"{NETWORK}: MOD-003.*other-network: MOD-003") as refused:
        run(opened(site), phantom)
    assert refused.value.detail["passed_over"] == {NETWORK: "MOD-003", "other-network": "MOD-003"}
    card.write_text(text.replace(THRESHOLD, "other-network"), encoding="utf-8")
    install_network(site, more="[limits]\nslice_spacing_mm = [0, 1]")
    # One is there, and the study is not for it: a status object goes out, as for any study outside of a card's limits.
    with pytest.raises(OutsideLimits, match="the distance between slices"):
        run(opened(site), phantom)


@pytest.mark.slow
def test_which_one_was_passed_over_is_no_other_way_of_measuring(site: Path, phantom: Phantom) -> None:
    before = run(opened(site), phantom)
    install_network(site, more="[limits]\nslice_spacing_mm = [0, 1]")
    after = run(opened(site), phantom)
    assert before.model.parameters != after.model.parameters and _made_alike(before, after)
    shutil.rmtree(site / NETWORK)
    install_network(site)
    assert not _made_alike(before, run(opened(site), phantom))


def test_where_a_person_points_the_refiner_draws(site: Path, phantom: Phantom) -> None:
    registry = opened(site)
    inputs = {"dwi": phantom.dwi, "adc": phantom.adc}
    result = registry.get(CHAIN).segment(inputs, boxes_of(phantom.truth_zyx), {})
    assert result.outcome is Outcome.FOUND and result.segmentation is not None
    assert result.segmentation.role == "dwi" and result.model.model_id == CHAIN
    assert members(result) == {"member.medsam"} and "prompted" in result.limitations
    assert np.count_nonzero((result.segmentation.mask_zyx > 0) & (phantom.truth_zyx > 0))
    assert any(each.name.value == "113041" for each in result.segmentation.regions[0].quantities)


def test_finders_are_named_once_and_a_single_one_may_be_named_plainly(site: Path) -> None:
    one = Refine.model_validate({"recipe": "refine", "finder": THRESHOLD, "refiner": "medsam"})
    assert [(each.model, each.outlines) for each in one.finders] == [(THRESHOLD, "redrawn")]
    for finders in (
        "finders = []\n",
        f'finders = [{{ model = "{THRESHOLD}" }}, {{ model = "{THRESHOLD}" }}]\n',
        'finders = [{ model = "medsam" }]\n',
        f'finders = [{{ model = "{CHAIN}" }}]\n',
    ):
        shutil.rmtree(site / CHAIN)
        install_chain(site, finders)
        with pytest.raises(CardInvalid, match="options"):
            _ = opened(site).get(CHAIN).needs
