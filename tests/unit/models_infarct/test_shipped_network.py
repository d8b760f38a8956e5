"""The infarct network that is shipped: it finds what was planted, leaves a healthy head alone, and serves nobody unasked."""

from __future__ import annotations

import json
import tomllib

import pytest

from models.card import CARD_FILE, EMBEDDED
from models.errors import ModelNotApproved
from models.export.imported import CARDS_FOLDER
from models.export.infarct_table import BASELINE, dice, model_finder, phantom_head, standard_phantoms
from models.model import Model
from models.registry import Registry

NETWORK = "infarct-network"


@pytest.fixture(scope="module")
def network() -> Model:
    return Registry([], threads=1).get(NETWORK)


def test_it_is_whole_small_and_answers_as_it_did(network: Model) -> None:
    network.verify()
    assert max(network.self_test().values()) < 1e-3
    assert sum(path.stat().st_size for path in (EMBEDDED / NETWORK).iterdir()) < 10e6
    log = json.loads((EMBEDDED / NETWORK / "training.json").read_text())
    assert log["scans"] == network.card.provenance["scans"]
    assert log["steps"] == log["log"][-1]["step"]


@pytest.mark.slow
def test_it_finds_planted_infarcts_and_none_in_a_healthy_head(network: Model) -> None:
    find = model_finder(network)
    for head in standard_phantoms(2):
        found = find(head)
        assert found is not None
        assert dice(found, head.truth_zyx) > 0.9
    healthy = find(phantom_head(5501, healthy=True))
    assert healthy is not None and not healthy.any()


def test_its_card_is_the_recipes_and_says_what_it_is(network: Model) -> None:
    recipe = tomllib.loads((CARDS_FOLDER / f"{NETWORK}.toml").read_text(encoding="utf-8"))
    shipped = tomllib.loads((network.folder / CARD_FILE).read_text(encoding="utf-8"))
    told = {"caveats", "graphs", "golden", "provenance", "evidence"}
    assert {key: value for key, value in shipped.items() if key not in told} == {
        key: value for key, value in recipe.items() if key not in told
    }
    assert not network.card.clinical and network.card.needs_approval
    assert "not clinically validated" in network.card.caveats[0]


def test_it_came_with_the_product_and_needs_approval_all_the_same(network: Model) -> None:
    assert network.embedded and not network.serves_unasked
    with pytest.raises(ModelNotApproved, match="not approved"):
        network.require_approved({})
    network.require_approved({NETWORK: network.digest})
    baseline = Registry([], threads=1).get(BASELINE)
    assert baseline.serves_unasked
    baseline.require_approved({})
