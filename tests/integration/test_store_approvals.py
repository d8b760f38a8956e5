"""Approval of models, on SQLite and PostgreSQL, in the command line, and in a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from models.errors import ModelNotApproved
from models.registry import Registry
from node.archive import approvals
from node.archive.engine import Store, open_store, upgrade
from node.archive.tables import ledger
from node.cli import main
from node.settings import load
from tests.unit.models_registry.conftest import spots, write_graph  # noqa: F401

pytest_plugins = ["tests.store_fixtures"]

ONE, TWO = "a" * 64, "b" * 64


def approve(store: Store, model: str, digest: str, at: float) -> None:
    with store.write() as connection:
        approvals.approve(connection, at, model_id=model, version="1", digest=digest, by="Dr Test", licence="MIT")


def test_the_newest_approval_counts_and_all_are_kept(store: Store) -> None:
    approve(store, "m", ONE, 1.0)
    approve(store, "n", ONE, 2.0)
    approve(store, "m", TWO, 3.0)
    with store.write() as connection:
        assert approvals.current(connection) == {"m": TWO, "n": ONE}
        assert approvals.revoke(connection, 4.0, model_id="n", by="Dr Other")
        assert not approvals.revoke(connection, 5.0, model_id="n", by="Dr Other")
        assert approvals.current(connection) == {"m": TWO}
        rows = approvals.listed(connection, "m")
        assert [(row.digest, row.revoked_at) for row in rows] == [(TWO, None), (ONE, 3.0)]
        assert len(approvals.listed(connection)) == 3
        told = connection.execute(select(ledger.c.kind, ledger.c.detail).order_by(ledger.c.id)).all()
    assert [row.kind for row in told] == ["model.approved"] * 3 + ["model.revoked"]
    assert told[0].detail["by"] == "Dr Test"


def test_going_back_goes_back_and_never_to_what_a_person_took_back(store: Store) -> None:
    def back(expected: str | None, at: float) -> None:
        with store.read() as connection:
            found = approvals.before(connection, "m")
        assert found == expected
        if found is not None:
            approve(store, "m", found, at)

    def take_back(at: float) -> None:
        with store.write() as connection:
            assert approvals.revoke(connection, at, model_id="m", by="Dr Other")

    three = "c" * 64
    for at, digest in enumerate((ONE, TWO, three), start=1):
        approve(store, "m", digest, float(at))
    back(TWO, 4.0)
    back(ONE, 5.0)  # not to the third again, from which somebody has just fled
    back(None, 6.0)
    approve(store, "m", three, 7.0)
    take_back(8.0)
    back(ONE, 9.0)  # not to the third, whose approval was taken back
    take_back(10.0)
    approve(store, "m", TWO, 11.0)
    back(None, 12.0)  # not to the first, whose approval was taken back before the second came
    approve(store, "m", ONE, 13.0)
    back(TWO, 14.0)


def test_only_these_very_files_may_serve(spots: Path) -> None:  # noqa: F811
    model = Registry([spots]).get("bright-spots")
    model.require_approved({"bright-spots": model.digest})
    with pytest.raises(ModelNotApproved, match="not approved"):
        model.require_approved({})
    card = spots / "spots" / "model.toml"
    card.write_text(card.read_text() + "\n# changed\n")
    with pytest.raises(ModelNotApproved, match="changed"):
        Registry([spots]).get("bright-spots").require_approved({"bright-spots": model.digest})
    Registry().get("infarct-adc-baseline").require_approved({})


def test_a_named_person_approves(spots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\n[models]\nfolders = ["{spots}"]\n')
    settings = load(config)
    upgrade(settings)
    words = ["--config", str(config), "models"]
    assert main([*words, "approve", "bright-spots", "--by", "Dr Test"]) == 2
    assert "Apache-2.0" in capsys.readouterr().err
    assert main([*words, "approve", "infarct-adc-baseline", "--by", "Dr Test", "--accept-licence"]) == 2
    assert main([*words, "approve", "bright-spots", "--by", "Dr Test", "--accept-licence"]) == 0
    store = open_store(settings)
    with store.read() as connection:
        assert approvals.current(connection) == {"bright-spots": Registry([spots]).get("bright-spots").digest}
    assert main([*words, "revoke", "bright-spots", "--by", "Dr Test"]) == 0
    with store.read() as connection:
        assert approvals.current(connection) == {}
    store.close()
    # One that came with the product and asks for a person all the same; accepting its terms is part of it.
    assert main([*words, "approve", "infarct-network", "--by", "Dr Test"]) == 2
    assert main([*words, "approve", "infarct-network", "--by", "Dr Test", "--accept-licence"]) == 0
    # A model that answers wrong, or whose files are not the pinned ones, cannot be approved.
    write_graph(spots / "spots" / "main.onnx", constant=3.0)
    assert main([*words, "approve", "bright-spots", "--by", "Dr Test", "--accept-licence"]) == 1
    assert json.dumps("MOD-002")[1:-1] in capsys.readouterr().err
