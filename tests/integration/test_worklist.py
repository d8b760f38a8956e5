"""The worklist of real providers, and earlier studies from real archives before the images of an order come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from node.archive import priors, tables
from node.cli import app
from node.dicom.outside import Outside
from node.orders import Order
from tests.archive_peers import dcmqrscp_archive, orthanc_archive
from tests.modality_simulator import Modality
from tests.network import Node, instance, node_settings, run_tool, running_node, tool_server, uid, wait_for
from tests.orthanc_peer import running_orthanc
from tests.peers import free_port
from tests.worklist_files import worklist_file


def _today(hour: int, minute: int = 0) -> datetime:
    return datetime.now().replace(hour=hour, minute=minute, second=0, microsecond=0)


@contextmanager
def _wlmscpfs(folder: Path) -> Iterator[int]:
    """DCMTK's worklist provider over ``folder``/RIS."""
    (folder / "RIS" / "lockfile").touch()
    port = free_port()
    with tool_server("wlmscpfs", "-csk", "-dfp", folder, port, port=port):
        yield port


@contextmanager
def _orthanc_worklist(folder: Path) -> Iterator[int]:
    plugin = Path("/usr/share/orthanc/plugins/libModalityWorklists.so")
    if not plugin.exists():
        pytest.skip("Orthanc's worklist plug-in is not installed (see `make peers`)")
    worklists = {"Enable": True, "Database": str(folder / "RIS"), "FilterIssuerAet": False}
    with running_orthanc(
        folder / "orthanc",
        node_port=free_port(),
        Plugins=[str(plugin)],
        Worklists=worklists,
        DicomAet="RIS",
        DefaultEncoding="Utf8",
    ) as orthanc:
        yield orthanc.port


def _section(port: int, **changes: Any) -> dict[str, Any]:
    hours = {"hours_back": 48, "hours_ahead": 48}
    return {"ris": {"ae_title": "RIS", "host": "127.0.0.1", "port": port, **hours, **changes}}


@pytest.mark.parametrize("provider", [_wlmscpfs, _orthanc_worklist])
def test_worklist_in_japanese(tmp_path: Path, provider: Any) -> None:
    kanji = ["", "ISO 2022 IR 87"]
    folder = tmp_path / "worklists" / "RIS"
    worklist_file(folder, "a", _today(9), charset=kanji)
    worklist_file(folder, "b", _today(14), RequestedProcedurePriority="ROUTINE")
    worklist_file(folder, "ct", _today(10), Modality="CT", ScheduledStationAETitle="CT1")
    worklist_file(folder, "old", _today(9) - timedelta(days=9))
    with (
        provider(tmp_path / "worklists") as port,
        running_node(tmp_path, worklist=_section(port, modalities=["MR"])) as node,
    ):
        outside = Outside(node.settings, node.store)
        assert outside.poll("ris") == 2
        first, second = (Order.from_dict(row.content) for row in _orders(node))
        assert first.patient_name == "Yamada^Tarou=山田^太郎=やまだ^たろう"
        assert first.requested_procedure_description == "頭部MRI" and first.reason == "右片麻痺"
        assert first.starts_at == _today(9).timestamp()
        assert (first.priority, second.priority) == ("STAT", "ROUTINE")
        assert first.procedure_codes[0].value == "7000000100000000"
        # Nothing is new the second time; what has gone is noted, and stays.
        assert outside.poll("ris") == 2
        assert len(node.ledger("order.received")) == 2
        (folder / "b.wl").unlink()
        assert outside.poll("ris") == 1
        assert [row.gone_at is not None for row in _orders(node)] == [False, True]
        # No patient in what is logged.
        assert "山田" not in str([row.detail for row in node.ledger("order.received")])


def test_a_long_worklist_comes_in_parts(tmp_path: Path) -> None:
    folder = tmp_path / "worklists" / "RIS"
    for number in range(20):
        worklist_file(folder, f"n{number}", _today(1 + number))
    with (
        _wlmscpfs(tmp_path / "worklists") as port,
        running_node(tmp_path, worklist=_section(port, maximum_entries=3)) as node,
    ):
        assert Outside(node.settings, node.store).poll("ris") == 20
        assert len(_orders(node)) == 20


def test_a_worklist_that_is_away_changes_nothing(tmp_path: Path) -> None:
    with running_node(tmp_path, worklist=_section(free_port())) as node:
        assert Outside(node.settings, node.store).poll("ris") is None
        assert _orders(node) == []


def _orders(node: Node) -> list[Any]:
    return sorted(node.rows(tables.orders), key=lambda row: row.starts_at)


@pytest.mark.parametrize("method", ["get", "move"])
@pytest.mark.parametrize("archive", [dcmqrscp_archive, orthanc_archive])
def test_priors_are_here_before_the_images(tmp_path: Path, archive: Any, method: str) -> None:
    worklist_file(tmp_path / "worklists" / "RIS", "a", _today(12))
    node_port = free_port()
    with (
        archive(tmp_path, node_port) as port,
        _wlmscpfs(tmp_path / "worklists") as worklist_port,
        running_node(
            tmp_path,
            # Move Originator is read by either way of receiving.
            receive={"port": node_port, "lane": "stock" if archive is orthanc_archive else "auto"},
            worklist=_section(worklist_port),
            destination={"pacs": {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": port}},
            priors={"archive": "pacs", "method": method},
            rule=[{"name": "r", "model": "m"}],
        ) as node,
    ):
        _fill(tmp_path, node)
        outside = Outside(node.settings, node.store)
        outside.poll("ris")
        assert outside.fetch_priors() == 1
        (order,) = _orders(node)
        (fetched,) = order.priors
        assert (fetched["study_uid"], fetched["method"], fetched["completed"]) == (uid("head"), method, 3)
        assert "same region, same modality, 30 day(s) old" in fetched["why"]
        with node.store.read() as connection:
            rows = priors.instances_of_study(connection, uid("head"))
        assert len(rows) == 3 and all((node.settings.data_dir / "priors" / row.path).is_file() for row in rows)
        # In their own space: no study, no run, nothing to wait for.
        assert node.rows(tables.studies) == [] and node.rows(tables.instances) == [] and node.files() == []
        # Once is enough.
        assert outside.fetch_priors() == 0
        if method == "move" and archive is dcmqrscp_archive:
            _moved_by_somebody_else(node, port)


def _fill(folder: Path, node: Node) -> None:
    """An archive with the head of our patient, their knee, and somebody else's head."""
    month_ago = f"{datetime.now() - timedelta(days=30):%Y%m%d}"
    common = {"StudyDate": month_ago, "StudyTime": "101010", "StudyID": "1", "SeriesNumber": 1, "InstanceNumber": 1}
    files = [
        *(
            instance(folder / "old", n, study="head", PatientID="P-a", StudyDescription="Brain MR", **common)
            for n in range(3)
        ),
        instance(folder / "old", 0, study="knee", PatientID="P-a", StudyDescription="Knee MR", **common),
        instance(folder / "old", 0, study="other", PatientID="P-x", StudyDescription="Brain MR", **common),
    ]
    archive = node.settings.destination["pacs"]
    Modality(archive.host, archive.port, called_ae_title=archive.ae_title).store(files)


def _moved_by_somebody_else(node: Node, port: int) -> None:
    """The same study, routed here by a person at a workstation, is a study like any other."""
    done = run_tool(
        *("movescu", "-S", "-aet", "AINODE", "-aec", "ARCHIVE", "-aem", "AINODE", "127.0.0.1", port),
        *("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid('knee')}"),
    )
    assert done.returncode == 0, done.stdout
    wait_for(lambda: node.rows(tables.studies), "the study")
    assert [row.study_uid for row in node.rows(tables.studies)] == [uid("knee")]


def test_the_list_says_what_is_intended(tmp_path: Path) -> None:
    worklist_file(tmp_path / "worklists" / "RIS", "a", _today(12))
    config = tmp_path / "node.toml"
    with _wlmscpfs(tmp_path / "worklists") as port:
        sections = _section(port)["ris"]
        listed = "\n".join(f"{key} = {value!r}" for key, value in sections.items()).replace("'", '"')
        config.write_text(
            f'[node]\ndata_dir = "{tmp_path / "data"}"\nlanguage = "ja"\n[worklist.ris]\n{listed}\n'
            '[[rule]]\nname = "stroke"\nmodel = "m"\n[rule.match.order]\njj1017_kind = ["7"]\njj1017_part = ["100"]\n'
            '[[rule]]\nname = "chest"\nmodel = "m"\n[rule.match]\nmodality = ["CT"]\n'
        )
        with running_node(tmp_path, worklist=_section(port)) as node:
            Outside(node.settings, node.store).poll("ris")
    runner = CliRunner()
    told = runner.invoke(app, ["--config", str(config), "worklist"])
    assert told.exit_code == 0, told.output
    assert "頭部MRI" in told.output and "stroke (stat)" in told.output and "chest" not in told.output
    assert "Yamada" not in told.output and "P-a" not in told.output
    shown = runner.invoke(app, ["--config", str(config), "worklist", "--json"])
    assert '"accession_number": "ACC-a"' in shown.output and "P-a" not in shown.output.replace("RP-a", "")
    assert time.localtime().tm_hour >= 13 or "expected" in told.output
    (tmp_path / "order.json").write_text(shown.output)
    image = instance(tmp_path / "images", study="s")
    words = ["rules", "test", str(image), "--order", str(tmp_path / "order.json")]
    tested = runner.invoke(app, ["--config", str(config), *words])
    assert "rule stroke: FIRES" in tested.output and "(MR head)" in tested.output, tested.output


def test_node_settings_for_priors_name_a_destination(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"priors\.archive: there is no \[destination\.nowhere\]"):
        node_settings(tmp_path, priors={"archive": "nowhere"})
