"""Every way a study comes: what decides, how long after the last image, and how often it ran.

Protocol over real sockets; only the waits are not waited for.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from node.archive import orders, tables
from node.archive.tables import rhythms
from node.dicom.pacs import TestPacs
from node.orders import Code, Order
from node.replay import replay_since
from tests.arrival.ward import Clock, Ward, open_ward
from tests.chaos.durability_page import Findings
from tests.network import uid

TABLE = "Scenarios"
COLUMNS = ("scenario", "decided by", "evidence", "after the last image", "runs")
_WITH_EVIDENCE: list[float] = []

Opened = Callable[..., Ward]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    stack = []

    def open_one(**sections: Any) -> Ward:
        context = open_ward(tmp_path, monkeypatch, **sections)
        stack.append(context)
        return context.__enter__()

    yield open_one
    for context in reversed(stack):
        context.__exit__(None, None, None)


@pytest.fixture
def told(findings: Findings) -> Callable[..., None]:
    """Check a study and put it into the table."""

    def tell(ward: Ward, study: str, scenario: str, *, runs: int, reason: str, evidence: bool = True) -> None:
        ward.check(study)
        last = ward.decisions(study)[-1]
        assert (last.detail["reason"], len(ward.runs(study))) == (reason, runs), ward.story(study)
        latency = ward.latency(study)
        if evidence:
            _WITH_EVIDENCE.append(latency)
        words = last.detail["evidence"][1]
        assert words in ward.story(study)
        findings.add(TABLE, COLUMNS, scenario, reason, words, f"{latency:.2f} s", runs)

    return tell


def test_mpps_present(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    modality = ward.modality()
    files = [*ward.images("s", 1, 4), *ward.images("s", 2, 6), *ward.images("s", 3, 2)]
    assert modality.begin_step("1.2.3", uid("s")) == 0
    modality.store(files)
    ward.look()
    assert not ward.decisions("s")
    ward.pass_time(280)
    assert not ward.decisions("s"), "the step is in progress"
    # As modalities do it: the last image, then the end of the step.
    late = ward.images("s", 3, 1, first=2)
    modality.store(late)
    assert modality.end_step("1.2.3", [*files, *late]) == 0
    ward.look()
    assert "3 of 3 series, 13 of 13 instances by MPPS" in ward.story("s")
    told(ward, "s", "MPPS present", runs=1, reason="mpps")


def test_mpps_before_the_images(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    modality = ward.modality()
    files = ward.images("s", 1, 5)
    assert modality.begin_step("1.2.3", uid("s")) == 0
    assert modality.end_step("1.2.3", files) == 0
    modality.store(files[:3])
    ward.pass_time(60)
    assert not ward.decisions("s"), "two images are announced and not here"
    modality.store(files[3:])
    ward.look()
    told(ward, "s", "MPPS first, the images in two associations after it", runs=1, reason="mpps")


def test_mpps_late(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    modality = ward.modality()
    files = ward.images("s", 1, 5)
    modality.store(files)
    ward.settle()
    modality.begin_step("1.2.3", uid("s"))
    modality.end_step("1.2.3", files)
    ward.settle()
    told(ward, "s", "MPPS late: it confirms", runs=1, reason="association_end", evidence=False)


def test_mpps_count_wrong(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    modality = ward.modality()
    files = ward.images("s", 1, 6)
    modality.begin_step("1.2.3", uid("s"))
    modality.store(files[:5])
    modality.end_step("1.2.3", files)
    ward.settle()
    assert "INCOMPLETE: 0 of 1 series, 5 of 6 instances by MPPS" in ward.story("s")
    assert ward.runs("s")[0].specification["limitations"] == ["images_incomplete"]
    told(ward, "s", "MPPS count wrong: it names an image that never comes", runs=1, reason="missing", evidence=False)


def test_mpps_discontinued(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    modality = ward.modality()
    files = ward.images("s", 1, 2)
    modality.begin_step("1.2.3", uid("s"))
    with modality.association() as held:
        modality.store(files, over=held)
        modality.end_step("1.2.3", files, status="DISCONTINUED")
        ward.settle()
    assert "1 performed procedure step(s) discontinued" in ward.story("s")
    told(ward, "s", "MPPS discontinued: what came is answered all the same", runs=1, reason="quiet", evidence=False)


def test_no_mpps_but_the_archive_counts(opened: Opened, told: Callable[..., None], tmp_path: Path) -> None:
    pacs = TestPacs(tmp_path / "pacs")
    with pacs.running() as (host, port):
        ward = opened(
            destination={"pacs": {"ae_title": "TESTPACS", "host": host, "port": port}}, arrival={"archive": "pacs"}
        )
        ward.ask_archive = True
        files = [*ward.images("s", 1, 4), *ward.images("s", 2, 4)]
        from tests.modality_simulator import Modality

        Modality(host, port, called_ae_title="TESTPACS").store(files)
        ward.modality().store(files[:5])
        ward.pass_time(10)
        assert not ward.decisions("s"), "the archive has more"
        ward.modality().store(files[5:])
        ward.pass_time(16)
    assert "8 of 8 instances by the archive's count" in ward.story("s")
    told(ward, "s", "no MPPS, but the archive's count", runs=1, reason="archive")


def test_archive_counts_at_once(opened: Opened, told: Callable[..., None], tmp_path: Path) -> None:
    pacs = TestPacs(tmp_path / "pacs")
    with pacs.running() as (host, port):
        ward = opened(
            destination={"pacs": {"ae_title": "TESTPACS", "host": host, "port": port}}, arrival={"archive": "pacs"}
        )
        ward.ask_archive = True
        files = ward.images("s", 1, 4)
        from tests.modality_simulator import Modality

        Modality(host, port, called_ae_title="TESTPACS").store(files)
        ward.modality().store(files)
        ward.look()
        ward.look()
    told(ward, "s", "routed by the archive, which has the same count", runs=1, reason="archive")


def test_notification(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    modality = ward.modality()
    files = ward.images("s", 1, 3)
    with modality.association() as held:
        modality.store(files, over=held)
        assert modality.notify("1.2.4", files) == 0
        ward.look()
    told(ward, "s", "Instance Availability Notification, association still open", runs=1, reason="notification")


def test_commitment_request_seen(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    modality = ward.modality()
    files = ward.images("s", 1, 3)
    with modality.association() as held:
        modality.store(files, over=held)
        assert modality.ask_commitment("1.2.5", files) == 0x0124, "noted, and refused"
        ward.settle()
    told(ward, "s", "commitment request seen, association still open", runs=1, reason="commitment", evidence=False)


def test_two_associations_with_a_gap(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    modality = ward.modality()
    modality.store(ward.images("s", 1, 3))
    ward.pass_time(90)
    modality.store(ward.images("s", 2, 3))
    ward.settle()
    told(ward, "s", "two associations, 90 s apart, nothing known", runs=2, reason="association_end", evidence=False)


def test_two_associations_with_a_gap_and_mpps(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    modality = ward.modality()
    first, second = ward.images("s", 1, 3), ward.images("s", 2, 3)
    modality.begin_step("1.2.3", uid("s"))
    modality.store(first)
    ward.pass_time(90)
    modality.store(second)
    modality.end_step("1.2.3", [*first, *second])
    ward.look()
    told(ward, "s", "two associations, 90 s apart, MPPS", runs=1, reason="mpps")


def test_two_associations_from_a_sender_that_is_known(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    with ward.node.store.write() as connection:
        for number in range(40):
            connection.execute(
                insert(rhythms).values(
                    association_id=f"a{number}",
                    study_uid=f"1.{number // 2}",
                    calling_ae_title="MODALITY",
                    modality="MR",
                    within_seconds=1.0,
                    after_seconds=80.0 + number / 10 if number % 2 == 0 else 0.0,
                    at=time.time(),
                )
            )
    modality = ward.modality()
    modality.store(ward.images("s", 1, 3))
    ward.pass_time(90)
    assert not ward.decisions("s")
    modality.store(ward.images("s", 2, 3))
    ward.settle()
    assert "learnt: MR of MODALITY, 40 associations observed" in ward.story("s")
    told(
        ward,
        "s",
        "two associations, 90 s apart, sender's rhythm learnt",
        runs=1,
        reason="association_end",
        evidence=False,
    )
    # The quantiles used are among the events: a replay decides the same, whatever was learnt since.
    with ward.node.store.write() as connection:
        connection.execute(rhythms.delete())
    with ward.node.store.read() as connection:
        (again,) = replay_since(connection, 0.0, ward.node.settings)
    assert [(each["run"], each["reason"]) for each in again.decisions] == [(1, "association_end")]
    assert again.decisions[0]["at"] == pytest.approx(ward.decisions("s")[0].at, abs=1.0)


def test_a_series_sent_again(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    modality = ward.modality()
    files = [*ward.images("s", 1, 3), *ward.images("s", 2, 3)]
    modality.begin_step("1.2.3", uid("s"))
    modality.store(files)
    modality.end_step("1.2.3", files)
    ward.look()
    modality.store(files[:3])
    ward.settle()
    assert len(ward.decisions("s")) == 1
    ward.check("s")
    # What comes again does not count as a last image: nothing is decided about it.
    told_at = ward.decisions("s")[0].at
    assert told_at and len(ward.runs("s")) == 1
    told(ward, "s", "a series sent again: nothing happens", runs=1, reason="mpps")


def test_images_after_completion(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    modality = ward.modality()
    files = ward.images("s", 1, 4)
    modality.begin_step("1.2.3", uid("s"))
    modality.store(files)
    modality.end_step("1.2.3", files)
    ward.look()
    ward.pass_time(600)
    modality.store(ward.images("s", 2, 2))
    ward.settle()
    assert "run 2 supersedes run 1" in ward.story("s")
    told(ward, "s", "images after completion", runs=2, reason="association_end", evidence=False)


def test_interleaved_studies_of_four_modalities(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    names = ["a", "b", "c", "d"]
    files = {name: [*ward.images(name, 1, 3), *ward.images(name, 2, 3)] for name in names}
    modalities = {name: ward.modality(f"MR{number}") for number, name in enumerate(names)}
    for name in names:
        modalities[name].begin_step(f"1.2.{ord(name)}", uid(name))
    for number in range(6):
        for name in names:
            modalities[name].store([files[name][number]])
            ward.look()
        ward.pass_time(3)
    for name in names:
        modalities[name].end_step(f"1.2.{ord(name)}", files[name])
        ward.look()
    for name in names:
        told(ward, name, f"four modalities interleaved, study {names.index(name) + 1}", runs=1, reason="mpps")


def test_a_study_spanning_midnight_and_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Callable[..., None]
) -> None:
    local = time.localtime()
    midnight = time.mktime((local.tm_year, local.tm_mon, local.tm_mday + 1, 0, 0, 0, 0, 0, -1))
    clock = Clock(offset=midnight - time.time() - 60)
    with open_ward(tmp_path, monkeypatch, clock=clock) as ward:
        modality = ward.modality()
        modality.begin_step("1.2.3", uid("s"))
        first = ward.images("s", 1, 3)
        modality.store(first)
        ward.look()
    # Switched off over midnight; the monotonic clock begins anew.
    monkeypatch.undo()
    clock.boot = "next"
    clock.offset += 300.0
    with open_ward(tmp_path, monkeypatch, clock=clock) as ward:
        ward.pass_time(60)
        assert not ward.decisions("s")
        second = ward.images("s", 2, 3)
        modality = ward.modality()
        modality.store(second)
        modality.end_step("1.2.3", [*first, *second])
        ward.look()
        told(ward, "s", "a study over midnight and a restart", runs=1, reason="mpps")


def _order(study: str, **changes: Any) -> Order:
    values = {
        "study_uid": uid(study),
        "accession_number": "A1",
        "patient_id": f"P-{study}",
        "modality": "MR",
        "starts_at": time.time(),
        "requested_procedure_id": "RP1",
        "procedure_codes": (Code("MRHEAD", "L", "MR head"),),
        "priority": "STAT",
        **changes,
    }
    return Order(**values)


def _expect(ward: Ward, *found: Order) -> None:
    with ward.node.store.write() as connection:
        orders.take(connection, time.time(), "ris", found)


def test_worklist_entry_that_never_comes(opened: Opened, findings: Findings) -> None:
    ward = opened()
    _expect(ward, _order("s"))
    ward.settle()
    assert ward.runs("s") == []
    assert ward.node.rows(tables.studies) == []
    findings.add(
        TABLE, COLUMNS, "worklist entry that never comes", "nothing", "`ainode worklist` shows it as overdue", "", 0
    )


def test_order_that_agrees(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    _expect(ward, _order("s"))
    modality = ward.modality()
    files = ward.images("s", 1, 3)
    modality.begin_step("1.2.3", uid("s"))
    modality.store(files)
    modality.end_step("1.2.3", files)
    ward.look()
    (run,) = ward.runs("s")
    assert run.priority == 0, "STAT by the order"
    assert run.specification["procedures"][0]["requested_procedure_id"] == "RP1"
    assert "order from the worklist (MRHEAD, STAT): Study Instance UID and patient agree" in ward.story("s")
    told(ward, "s", "order on the worklist, STAT", runs=1, reason="mpps")


def test_accession_mismatch(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    _expect(ward, _order("s", accession_number="A2"))
    modality = ward.modality()
    files = ward.images("s", 1, 3)
    modality.begin_step("1.2.3", uid("s"))
    modality.store(files)
    modality.end_step("1.2.3", files)
    ward.look()
    (run,) = ward.runs("s")
    assert run.specification["procedures"] == [] and run.specification["limitations"] == ["order_mismatch"]
    assert "ORDER MISMATCH: the images carry another accession number" in ward.story("s")
    told(ward, "s", "accession number differs from the order's", runs=1, reason="mpps")


def test_two_accessions_over_one_acquisition(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    _expect(ward, _order("s"), _order("s", accession_number="A2", requested_procedure_id="RP2"))
    modality = ward.modality()
    files = ward.images("s", 1, 3)
    modality.begin_step("1.2.3", uid("s"))
    modality.store(files)
    modality.end_step("1.2.3", files)
    ward.look()
    assert [each["requested_procedure_id"] for each in ward.runs("s")[0].specification["procedures"]] == ["RP1"]
    assert "1 of 2 orders that name it are accepted" in ward.story("s")
    told(ward, "s", "two accession numbers over one acquisition", runs=1, reason="mpps")


def test_one_accession_over_two_studies(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    _expect(ward, _order("a", patient_id="P"))
    modality = ward.modality()
    for name in ("a", "b"):
        files = ward.images(name, 1, 3, PatientID="P")
        modality.begin_step(f"1.2.{ord(name)}", uid(name))
        modality.store(files)
        modality.end_step(f"1.2.{ord(name)}", files)
        ward.look()
        assert ward.runs(name)[0].specification["procedures"][0]["requested_procedure_id"] == "RP1"
    assert "the modality gave the study another UID" in ward.story("b")
    told(ward, "b", "one accession number over two studies, the second", runs=1, reason="mpps")


def test_an_order_of_the_same_patient_that_nothing_came_for(opened: Opened) -> None:
    """Another accession number and UID, but patient, modality and day: said. An order that has its study is no news."""
    ward = opened()
    _expect(ward, _order("x", patient_id="P-s", accession_number="A9"))
    ward.modality().store(ward.images("s", 1, 2))
    ward.settle()
    assert "ORDER MISMATCH: the images carry another accession number and neither" in ward.story("s")
    ward.modality().store(ward.images("x", 1, 2, PatientID="P-s", AccessionNumber="A9"))
    ward.modality().store(ward.images("z", 1, 2, PatientID="P-s", AccessionNumber="A7"))
    ward.settle()
    assert "MISMATCH" not in ward.story("x") + ward.story("z")
    assert ward.runs("z")[0].specification["limitations"] == []


def test_temporary_patient(opened: Opened, told: Callable[..., None]) -> None:
    ward = opened()
    _expect(ward, _order("s", patient_id="12345"))
    modality = ward.modality()
    files = ward.images("s", 1, 3, PatientID="TEMP-7", PatientName="Unknown^Male")
    modality.begin_step("1.2.3", uid("s"))
    modality.store(files)
    modality.end_step("1.2.3", files)
    ward.look()
    (run,) = ward.runs("s")
    assert run.specification["procedures"] == [] and run.specification["limitations"] == ["order_mismatch"]
    story = ward.story("s")
    assert "the images carry another patient" in story and "TEMP-7" not in story and "12345" not in story
    told(ward, "s", "temporary patient", runs=1, reason="mpps")


def test_late_order_starts_the_rule_that_waited_for_it(opened: Opened, findings: Findings) -> None:
    rule = {"name": "stroke", "model": "m", "match": {"order": {"priority": ["STAT"]}}}
    ward = opened(rules=[rule])
    ward.modality().store(ward.images("s", 1, 3))
    ward.settle()
    assert ward.runs("s") == []
    _expect(ward, _order("s"))
    ward.look()
    (run,) = ward.runs("s")
    assert run.run == 1
    assert "it came after the images" in ward.story("s")
    ward.settle()
    assert len(ward.runs("s")) == 1
    words = ward.decisions("s")[-1].detail["evidence"][0]
    findings.add(TABLE, COLUMNS, "order after the images", "order", words, "", 1)


@pytest.mark.parametrize("late", [False, True])
def test_provisional_then_final(opened: Opened, told: Callable[..., None], late: bool) -> None:
    rule = {
        "name": "early",
        "model": "m",
        "early": True,
        "role": [{"name": "dwi", "candidate": [{"series_description": ["*diff*"]}]}],
    }
    ward = opened(rules=[rule])
    modality = ward.modality()
    wanted = ward.images("s", 1, 4, SeriesDescription="ep2d_diff")
    other = ward.images("s", 2, 4, SeriesDescription="t2_tse")
    modality.begin_step("1.2.3", uid("s"))
    modality.store(wanted)
    ward.pass_time(30)
    assert ward.runs("s") == []
    modality.store(other[:1])
    ward.pass_time(15)
    (run,) = ward.runs("s")
    assert run.provisional and len(run.specification["files"]) == 4
    more = ward.images("s", 1, 2, first=4, SeriesDescription="ep2d_diff") if late else []
    modality.store([*other[1:], *more])
    modality.end_step("1.2.3", [*wanted, *other, *more])
    ward.look()
    runs = ward.runs("s")
    assert len(runs) == (2 if late else 1)
    assert not runs[-1].provisional and len(runs[-1].specification["files"]) == (6 if late else 4)
    story = ward.story("s")
    assert "1 series complete, the study is not" in story and "matched early, on what is complete" in story
    assert late or "it is provisional no more" in story
    ward.settle()
    scenario = "early run, then images that change its input" if late else "early run on what the complete study has"
    told(ward, "s", scenario, runs=len(runs), reason="mpps")


def test_median_latency_with_evidence(findings: Findings) -> None:
    """Runs last: what the scenarios above took where there was evidence."""
    if len(_WITH_EVIDENCE) < 5:
        pytest.skip("the scenarios ran elsewhere")
    median = statistics.median(_WITH_EVIDENCE)
    assert median <= 1.0, sorted(_WITH_EVIDENCE)
    row = ("median where there is evidence", "", f"{len(_WITH_EVIDENCE)} studies", f"{median:.2f} s", "")
    findings.add(TABLE, COLUMNS, *row)
