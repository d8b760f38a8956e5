"""An archive that speaks DICOMweb only: watched, reconciled with, counted at, fetched from, asked for earlier studies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from node.archive import orders, priors, tables
from node.cli import app
from node.dicom.outside import Outside
from node.dicom.reconciliation import Reconciler
from node.orders import Order
from tests.archive_peers import dated_images
from tests.arrival.ward import open_ward
from tests.dicomweb_peer import WebOrthanc, running_web_orthanc
from tests.network import running_node, uid

pytestmark = [pytest.mark.slow, pytest.mark.peer]

RULES = [{"name": "mr", "model": "m", "match": {"modality": ["MR"]}}]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebOrthanc]:
    with running_web_orthanc(tmp_path_factory.mktemp("orthanc")) as peer:
        yield peer


def test_verified_with_an_object_that_is_removed_again(tmp_path: Path, orthanc: WebOrthanc) -> None:
    config = tmp_path / "node.toml"
    config.write_text(
        f'[node]\ndata_dir = "{tmp_path / "data"}"\n[web_source.web]\nurl = "{orthanc.url}"\n'
        '[destination.gone]\nurl = "http://127.0.0.1:9/dicom-web"\n'
    )
    before = orthanc.instances()
    done = CliRunner().invoke(app, ["--config", str(config), "verify-peer", "web", "--json"])
    assert done.exit_code == 0, done.output
    trial = json.loads(done.stdout)["trial"]
    assert (trial["stored"], trial["found"], trial["same"], trial["charset"]) == (True, True, True, "kept")
    assert trial["removed"] == (orthanc.instances().keys() == before.keys())
    shown = CliRunner().invoke(app, ["--config", str(config), "verify-peer", "web"])
    assert "given back as it was: yes" in shown.stdout
    away = CliRunner().invoke(app, ["--config", str(config), "verify-peer", "gone"])
    assert away.exit_code == 1 and "no connection" in str(away.exception)


def test_watched_and_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orthanc: WebOrthanc) -> None:
    begun = datetime.now() - timedelta(minutes=20)
    watch = {"web": {"settle_seconds": 60, "modalities": ["MR"], "jitter_seconds": 0}}
    files = [*dated_images(tmp_path / "i", "s", 3, begun), *dated_images(tmp_path / "i", "ct", 1, begun, Modality="CT")]
    for file in files:
        orthanc.add(file)
    with open_ward(tmp_path, monkeypatch, rules=RULES, web_source={"web": {"url": orthanc.url}}, watch=watch) as ward:
        outside = Outside(ward.node.settings, ward.node.store)
        assert outside.watch("web") == 0, "it may still grow"
        ward.clock.offset += 61
        assert outside.watch("web") == 1
        assert outside.fetch_studies() == 1
        ward.settle()
        assert [len(run.specification["files"]) for run in ward.runs("s")] == [3]
        assert {row.study_uid for row in ward.node.rows(tables.studies)} == {uid("s")}
        assert {row.calling_ae_title for row in ward.node.rows(tables.instances)} == {"WEB"}
        assert outside.watch("web") == 0 and outside.fetch_studies() == 0
        assert "seen at web: 3 image(s) in 1 series; it sends none" in ward.story("s")
        ward.check("s")


def test_reconciled_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orthanc: WebOrthanc) -> None:
    files = dated_images(tmp_path / "i", "r", 2, datetime.now() - timedelta(hours=2))
    for file in files:
        orthanc.add(file)
    sections = {"web_source": {"web": {"url": orthanc.url}}, "arrival": {"archive": "web"}}
    with open_ward(tmp_path, monkeypatch, rules=RULES, **sections) as ward:
        told = Reconciler(ward.node.settings, ward.node.store).reconcile(
            "web", ward.clock.time() - 6 * 3600, fetch=True
        )
        found = {each.study.study_uid: str(each.verdict.finding) for each in told.found}
        assert found[uid("r")] == "missing"
        # Sent by the modality before it was fetched: the archive's own count decides.
        ward.modality().store(files)
        ward.ask_archive = True
        ward.settle()
        assert ward.decisions("r")[-1].detail["reason"] == "archive"
        assert "2 of 2 instances by the archive's count" in ward.story("r")


def test_earlier_studies(tmp_path: Path, orthanc: WebOrthanc) -> None:
    month_ago = datetime.now() - timedelta(days=30)
    same = {"PatientID": "P-a"}
    for file in (
        *dated_images(tmp_path / "i", "head", 3, month_ago, StudyDescription="Brain MR", **same),
        *dated_images(tmp_path / "i", "knee", 1, month_ago, StudyDescription="Knee MR", **same),
        *dated_images(tmp_path / "i", "other", 1, month_ago, StudyDescription="Brain MR", PatientID="P-x"),
    ):
        orthanc.add(file)
    with running_node(
        tmp_path,
        web_source={"web": {"url": orthanc.url}},
        priors={"archive": "web"},
        rule=[{"name": "r", "model": "m"}],
    ) as node:
        order = Order(
            study_uid=uid("today"), patient_id="P-a", modality="MR", requested_procedure_description="MRI of the brain"
        )
        with node.store.write() as connection:
            orders.take(connection, datetime.now().timestamp(), "ris", [order])
        outside = Outside(node.settings, node.store)
        assert outside.fetch_priors() == 1
        (row,) = node.rows(tables.orders)
        (fetched,) = row.priors
        assert (fetched["study_uid"], fetched["method"], fetched["completed"]) == (uid("head"), "wado", 3)
        with node.store.read() as connection:
            rows = priors.instances_of_study(connection, uid("head"))
        assert len(rows) == 3 and all((node.settings.data_dir / "priors" / each.path).is_file() for each in rows)
        assert node.rows(tables.studies) == [] and node.rows(tables.instances) == [] and node.files() == []
