"""A node whose chain prefers a model: approved, it finds from the next job on; taken back, the next in order does again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.card import EMBEDDED
from node.cli import main
from node.jobs import queue
from node.web.model_view import model_views
from node.why import tell
from tests.dispatch_bench import small_studies
from tests.integration.test_node_jobs import ROOT, Bench

CHAIN, NETWORK, THRESHOLD = "site-chain", "site-network", "infarct-adc-baseline"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    site = tmp_path / "site"
    for source, name in ((THRESHOLD, NETWORK), ("stroke-dwi-medsam", CHAIN)):
        shutil.copytree(EMBEDDED / source, site / name)
        card = site / name / "model.toml"
        text = card.read_text(encoding="utf-8").replace(f'id = "{source}"', f'id = "{name}"')
        card.write_text(text, encoding="utf-8")
    start, end = text.index("finders = ["), text.index("refiner =")
    kept = f'finders = [{{ model = "{NETWORK}", outlines = "kept" }}, {{ model = "{THRESHOLD}", outlines = "kept" }}]\n'
    card.write_text(text[:start] + kept + text[end:], encoding="utf-8")
    made = Bench(tmp_path, "real-chain", f'[models]\nfolders = ["{site}"]', model=CHAIN)
    yield made
    made.executor.close()
    made.store.close()


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, ...]]:
    return small_studies(tmp_path_factory.mktemp("studies"), range(31, 34))


def models(bench: Bench, *words: str) -> int:
    return main(["--config", str(bench.config), "models", *words])


def ran(bench: Bench, files: tuple[Path, ...]) -> tuple[Any, str, str]:
    """The job that a study made, what its objects hold, and its story."""
    study = bench.receive(files)
    while bench.dispatcher.run_once():
        pass
    with bench.store.read() as connection:
        (row,) = [each for each in queue.list_jobs(connection, study_uid=study) if each.kind == "run"]
        story = tell(connection, study)
    return row, "\n".join(bench.text_of(each) for each in bench.objects(row.id)), story


def test_who_finds_follows_the_approvals_and_is_told(
    bench: Bench, studies: list[tuple[Path, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert models(bench, "approve", CHAIN, "--by", "Dr Test", "--accept-licence") == 0
    _, told, story = ran(bench, studies[0])
    assert f"finder={THRESHOLD}" in told and f"passed_over={NETWORK} MOD-017" in told
    assert f"member.{THRESHOLD}=" in told and f"member.{NETWORK}=" not in told
    assert f"found by {THRESHOLD}" in story and f"passed over: {NETWORK}, MOD-017" in story
    child = bench.executor.child_pid

    assert models(bench, "approve", NETWORK, "--by", "Dr Test", "--accept-licence") == 0
    row, told, story = ran(bench, studies[1])
    assert f"finder={NETWORK}" in told and "passed_over=" not in told
    assert f"member.{NETWORK}=" in told and f"member.{THRESHOLD}=" not in told
    assert "passed over" not in story and bench.executor.child_pid == child

    # Files by hand, with the node's configuration: the same model finds, and the same bytes come of it.
    folder = tmp_path / "by-hand"
    out = ["process", *map(str, studies[1]), "--out", str(folder)]
    assert main(["--config", str(bench.config), *out]) == 0
    outbox = bench.settings.data_dir / "outbox"
    sent = {each.sop_instance_uid: (outbox / each.path).read_bytes() for each in bench.objects(row.id)}
    by_hand = [path.read_bytes() for path in folder.glob("*.dcm")]
    assert sent and all(content in by_hand for content in sent.values())

    capsys.readouterr()
    assert models(bench, "info", CHAIN) == 0
    made_of = {each["model"]: each for each in json.loads(capsys.readouterr().out)["made_of"]}
    assert {name: each["now"] for name, each in made_of.items()} == {NETWORK: True, THRESHOLD: False, "medsam": False}
    assert "why_not" not in made_of[NETWORK] and "MOD-003" in made_of["medsam"]["why_not"]
    assert models(bench, "verify", CHAIN) == 0
    assert f"    made of {NETWORK} " in capsys.readouterr().out
    assert models(bench, "list", "--json") == 0
    (listed,) = [each for each in json.loads(capsys.readouterr().out) if each["model"] == CHAIN]
    assert listed["status"] == "runs"
    with bench.store.read() as connection:
        (view,) = [each for each in model_views(connection, 0.0, bench.settings).models if each.card.id == CHAIN]
    assert view.may_serve

    assert models(bench, "revoke", NETWORK, "--by", "Dr Test") == 0
    _, told, _ = ran(bench, studies[2])
    assert f"finder={THRESHOLD}" in told and bench.executor.child_pid == child
