"""HL7 v2 over real sockets: merges and corrections before, during and after a run; orders; results after signing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import select
from typer.testing import CliRunner

from node.archive import tables
from node.cli import app
from node.errors import StoreUnavailable
from node.hl7.inbox import Inbox
from node.hl7.listener import Listener
from node.settings import Hl7InboundSection
from tests.hl7_messages import Client, merge, message, order, patient, report
from tests.integration.test_corrections import Scene, stage
from tests.network import Node, instance, running_node, uid, wait_for
from tests.node_process import NodeProcess
from tests.peers import free_port

OLD = {
    "PatientID": "TEMP-0001",
    "PatientName": "Yamda^Taro",
    "AccessionNumber": "ACC-7",
    "PatientBirthDate": "19500102",
}
NEW = patient("REAL-4711", "Yamada^Taro^^^^^L^A~山田^太郎^^^^^L^I")


@contextmanager
def listening(node: Node, **section: Any) -> Iterator[tuple[str, int]]:
    """The listener in this process."""
    settings = Hl7InboundSection(enabled=True, **section)
    listener = Listener(settings, Inbox(settings, node.store, node.settings.data_dir / "run").take)
    try:
        yield listener.start(0)
    finally:
        listener.stop()


def _say(node: Node, *messages: bytes) -> list[str]:
    """Codes of the acknowledgements."""
    with listening(node) as address, Client(*address) as client:
        return [client.send(each)[1][1] for each in messages]


MERGE = message("ADT^A40^ADT_A39", NEW, "MRG|TEMP-0001", control_id="m1", charset="~ISO IR87")


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("timing", ["before", "during", "after"])
def test_merge(tmp_path: Path, timing: str) -> None:
    with stage(tmp_path, quiet_seconds=0.5) as scene:
        if timing == "before":
            assert _say(scene.node, MERGE) == ["AA"]
        scene.send(scene.images(OLD))
        scene.settle(uid("s"))
        if timing == "during":
            scene.executor.during = lambda: _during(scene)
        scene.work()
        if timing == "after":
            wait_for(lambda: scene.state_of("pacs") == ["stored"], "the first result")
            before = set(scene.pacs.objects)
            # Told twice, done once.
            assert _say(scene.node, MERGE, MERGE) == ["AA", "AA"]
            assert [row.state for row in scene.deliveries() if row.destination == "full"] == ["withdrawn"]
        else:
            before = set()
        scene.full.refuse = False
        scene.settle(uid("s"))
        scene.work()
        wait_for(lambda: scene.state_of("full")[-1:] == ["stored"], "the new result", seconds=20)
        wait_for(lambda: scene.state_of("pacs")[-1:] == ["stored"], "the new result", seconds=20)
        _only_the_new_identity(scene, before)
        assert len(scene.jobs()) == (1 if timing == "before" else 2)
        _the_archive_corrects_its_images_as_well(scene)


def _during(scene: Scene) -> None:
    assert _say(scene.node, MERGE) == ["AA"]
    (job,) = scene.jobs()
    assert job.state == "cancelled"


def _only_the_new_identity(scene: Scene, before: set[str]) -> None:
    (new,) = set(scene.pacs.objects) - before
    assert set(scene.full.objects) == {new}
    header = dcmread(scene.pacs.objects[new])
    assert (str(header.PatientID), str(header.PatientName)) == ("REAL-4711", "Yamada^Taro=山田^太郎")
    assert (header.PatientBirthDate, header.PatientSex, header.AccessionNumber) == ("19500102", "M", "ACC-7")
    assert "identity_corrected" in scene.jobs()[-1].specification["limitations"]
    if before:
        assert "CORRECTION: hl7 RIS HOSPITAL says by A40 that" in scene.why(uid("s"))
        assert "OLD IDENTITY: pacs has" in scene.why(uid("s"))
    with scene.node.store.read() as connection:
        told = json.dumps([row.detail for row in connection.execute(select(tables.ledger))], ensure_ascii=False)
    assert not any(value in told for value in ("TEMP-0001", "REAL-4711", "Yam", "山田", "19500102"))


def _the_archive_corrects_its_images_as_well(scene: Scene) -> None:
    """The images come again under the new number: one more run, and nothing has to be put right in it."""
    runs = len(scene.jobs())
    scene.send(scene.images({**OLD, "PatientID": "REAL-4711", "PatientName": "Yamada^Taro"}))
    scene.settle(uid("s"))
    assert len(scene.jobs()) == runs + 1
    assert scene.jobs()[-1].specification["corrected"] == {}


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_two_numbers_that_were_merged_are_one_patient(tmp_path: Path) -> None:
    with stage(tmp_path, quiet_seconds=0.5) as scene:
        first, *rest = scene.images(OLD)
        others = scene.images({**OLD, "PatientID": "REAL-4711", "PatientName": "Yamada^Taro"})[1:]
        assert len(rest) == len(others)
        scene.send([first, *others])
        scene.settle(uid("s"))
        assert (scene.held_reason(uid("s")) or "").startswith("mixed-patients")
        assert _say(scene.node, MERGE) == ["AA"]
        scene.settle(uid("s"))
        assert scene.held_reason(uid("s")) is None
        scene.work()
        wait_for(lambda: scene.state_of("pacs") == ["stored"], "the result")
        (path,) = scene.pacs.objects.values()
        assert str(dcmread(path).PatientID) == "REAL-4711"


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_updates_that_change_nothing_do_nothing_and_merges_can_be_taken_back(tmp_path: Path) -> None:
    with stage(tmp_path, quiet_seconds=0.5) as scene:
        scene.send(scene.images(OLD))
        scene.settle(uid("s"))
        scene.work()
        same = message("ADT^A08", patient("TEMP-0001", "YAMDA^TARO^^^^^L^A"), control_id="u1")
        other = message("ADT^A08", patient("TEMP-0001", "Yamada^Taro^^^^^L^A"), control_id="u2")
        again = other.replace(b"|u2|", b"|u3|")
        assert _say(scene.node, same, message("ADT^A01", patient("TEMP-0001"), control_id="a")) == ["AA", "AA"]
        assert not any(job.superseded_at for job in scene.jobs())
        assert _say(scene.node, other, again) == ["AA", "AA"]
        scene.settle(uid("s"))
        assert [job.specification["corrected"].get("PatientName") for job in scene.jobs()] == [None, "Yamada^Taro"]
        assert "PatientID" not in scene.jobs()[-1].specification["corrected"]
        # A merge, another one on top of it, and both taken back.
        for old, new in (("TEMP-0001", "B"), ("B", "C"), ("C", "B"), ("B", "TEMP-0001")):
            assert _say(scene.node, merge(old, patient(new), control_id=f"{old}{new}")) == ["AA"]
            scene.settle(uid("s"))
            expected = {"B": "B", "C": "C"}.get(new)
            assert scene.jobs()[-1].specification["corrected"].get("PatientID") == expected, (old, new)


def _signed(scene: Scene, seconds_ago: float = 60.0) -> bytes:
    signed = datetime.fromtimestamp(time.time() - seconds_ago).strftime("%Y%m%d%H%M%S")
    return report("ACC-7", signed=signed)


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("policy", ["mark", "withhold"])
@pytest.mark.parametrize("timing", ["before the run", "during the run"])
def test_result_one_minute_after_signing(tmp_path: Path, policy: str, timing: str) -> None:
    with stage(tmp_path, further={"hl7": {"late_results": policy}}) as scene:
        scene.send(scene.images(OLD))
        scene.settle(uid("s"))
        if timing == "before the run":
            assert _say(scene.node, _signed(scene)) == ["AA"]
        else:
            scene.executor.during = lambda: (_say(scene.node, _signed(scene)), None)[1]
        scene.work()
        (job,) = scene.jobs()
        assert (job.state, job.attempts) == ("done", 1)
        if policy == "mark":
            wait_for(lambda: scene.state_of("pacs") == ["stored"], "the result")
        else:
            assert scene.deliveries() == []
        became = "sent, and says so" if policy == "mark" else "withheld"
        story = scene.why(uid("s"))
        assert "report signed at" in story and f"LATE, 1.0 min after the report was signed: {became}" in story
        (late,) = scene.node.ledger("result.late")
        assert 60 <= late.detail["late_seconds"] < 120
        config = tmp_path / "node.toml"
        config.write_text(f'[node]\ndata_dir = "{scene.node.settings.data_dir}"\n')
        listed = CliRunner().invoke(app, ["--config", str(config), "discrepancies", "--json"])
        (row,) = json.loads(listed.stdout)
        assert (row["accession_number"], row["became"].split(",")[0]) == (
            "ACC-7",
            {"mark": "sent"}.get(policy, "withheld"),
        )


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_withheld_result_takes_nothings_place(tmp_path: Path) -> None:
    """What was there before the report was signed stays the answer, where it has come and where it is still to come."""
    with stage(tmp_path, further={"hl7": {"late_results": "withhold"}}) as scene:
        scene.send(scene.images(OLD))
        scene.settle(uid("s"))
        scene.work()
        wait_for(lambda: scene.state_of("pacs") == ["stored"], "the first result")
        wait_for(lambda: scene.state_of("full") == ["failed"], "the full one to refuse it")
        assert _say(scene.node, _signed(scene)) == ["AA"]
        scene.send([instance(tmp_path / "late", "late", **OLD)])
        scene.settle(uid("s"))
        scene.work()
        assert [job.kind for job in scene.jobs()] == ["run", "run"]
        assert [job.state for job in scene.jobs()] == ["done", "done"]
        assert {row.replaced_by for row in scene.deliveries()} == {None} and len(scene.deliveries()) == 2
        scene.full.refuse = False
        wait_for(lambda: scene.state_of("full") == ["stored"], "the first result at the second destination")
        assert set(scene.full.objects) == set(scene.pacs.objects)


def test_results_in_time_are_not_marked(tmp_path: Path) -> None:
    with stage(tmp_path, quiet_seconds=0.5) as scene:
        scene.send(scene.images(OLD))
        scene.settle(uid("s"))
        assert _say(scene.node, report("ANOTHER"), report("ACC-7", status="P", control_id="r2")) == ["AA", "AA"]
        scene.work()
        assert scene.node.ledger("result.late") == [] and len(scene.deliveries()) == 2


def test_acknowledgements_and_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        running_node(tmp_path) as node,
        listening(node, maximum_connections=2, maximum_message_bytes=4096, message_seconds=0.6) as address,
    ):
        with Client(*address) as client:
            taken = order("ACC-1", patient("P1"))
            assert [client.send(taken)[1][1] for _ in range(2)] == ["AA", "AA"]
            assert len(node.ledger("order.received")) == 1
            # The same number with other content is another message.
            assert client.send(order("ACC-2", patient("P1")))[1][1] == "AA"
            assert client.send(order("ACC-2", patient("P1"), control="CA", control_id="o2"))[1][1] == "AA"
            assert [row.gone_at is not None for row in node.rows(tables.orders)] == [False, True]
            answer = client.send(message("ADT^A40", patient("P1"), control_id="bad"))
            assert answer[1][1:3] == ["AE", "bad"] and answer[2][3].startswith("101^")
            assert client.send(message("SIU^S12", control_id="x"))[1][1] == "AR"
            assert client.send(b"no message")[1][1] == "AR"
            _store_away(node, client, monkeypatch)
            # What was not carried out is carried out when it comes again.
            assert client.send(order("ACC-3", patient("P1"), control_id="o3"))[1][1] == "AA"
            assert len(node.rows(tables.orders)) == 3
            with Client(*address), Client(*address) as third, pytest.raises((ConnectionError, TimeoutError)):
                third.send(taken)
        for size in (5000, 8_000_000):
            with Client(*address) as client:
                assert client.send(b"x" * size)[1][1] == "AR"
        with Client(*address) as client, pytest.raises(ConnectionError):
            client.socket.sendall(b"\x0bMSH|^~\\&|RIS")
            client.receive()


def _store_away(node: Node, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that no real store shows at will."""

    @contextmanager
    def away() -> Iterator[None]:
        raise StoreUnavailable
        yield

    with monkeypatch.context() as patch:
        patch.setattr(node.store, "write", away)
        answer = client.send(order("ACC-3", patient("P1"), control_id="o3"))
    assert answer[1][1] == "AR" and answer[2][3].startswith("207^")

    def broken() -> None:
        raise RuntimeError("Yamada^Taro")

    with monkeypatch.context() as patch:
        patch.setattr(node.store, "write", broken)
        answer = client.send(order("ACC-3", patient("P1"), control_id="o3"))
    assert answer[1][1] == "AR" and "Yamada" not in str(answer)


def test_nobody_uninvited(tmp_path: Path) -> None:
    with running_node(tmp_path) as node, listening(node, allow=["192.0.2.0/24"]) as address:
        with Client(*address) as client, pytest.raises((ConnectionError, TimeoutError)):
            client.send(order("ACC-1", patient("P1")))
        assert node.rows(tables.hl7_messages) == []


@pytest.mark.slow
def test_a_site_with_hl7_alone(tmp_path: Path) -> None:
    """The whole node: an order by HL7 is on the list, and its process stops with the others."""
    port = free_port()
    node = NodeProcess(
        tmp_path / "node",
        {},
        extra=f"[hl7]\nenabled = true\nport = {port}\n",
        rules='[[rule]]\nname = "stroke"\nmodel = "infarct-adc-baseline"\n[rule.match.order]\npriority = ["STAT"]\n',
    )
    node.start()
    try:
        wait_for(lambda: _connects(port), "the listener", seconds=30)
        starts = f"{datetime.now():%Y%m%d%H%M%S}"
        with Client("127.0.0.1", port) as client:
            assert client.send(order("ACC-1", patient("P1"), starts=starts))[1][1] == "AA"
        (entry,) = node.json("worklist")
        assert (entry["worklist"], entry["state"]) == ("hl7 RIS HOSPITAL", "expected")
        assert (entry["intends"], entry["procedure"]) == ("stroke (stat)", "MRI head")
    finally:
        node.stop()
    assert "Yamada" not in (node.folder / "log.txt").read_text(errors="replace")


def _connects(port: int) -> bool:
    try:
        Client("127.0.0.1", port).socket.close()
    except OSError:
        return False
    return True
