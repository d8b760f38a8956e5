"""MPPS, Instance Availability and commitment requests over the listener: statuses, access rules, answers."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
)

from node.archive import tables
from node.dicom.outside import Outside
from node.dicom.pacs import TestPacs
from tests.modality_simulator import Modality
from tests.network import file_delivery, instance, running_node, uid, wait_for
from tests.peers import free_port


def test_a_performed_step_obeys_the_standard(tmp_path: Path) -> None:
    """PS3.4 F.7.2: begun once, IN PROGRESS; ended once; then it may no longer be updated."""
    with running_node(tmp_path) as node:
        modality = Modality(node.host, node.port)
        files = [instance(tmp_path / "i", n, study="s") for n in range(2)]
        assert modality.end_step("1.2.3", files) == 0x0112
        assert modality.begin_step("1.2.3", uid("s")) == 0x0000
        assert modality.begin_step("1.2.3", uid("s")) == 0x0111
        assert modality.end_step("1.2.3", files, status="DONE") == 0x0106
        assert modality.end_step("1.2.3", files, status="IN PROGRESS") == 0x0000
        assert modality.end_step("1.2.3", files) == 0x0000
        assert modality.end_step("1.2.3", files) == 0x0110
        (row,) = node.rows(tables.evidence)
        assert (row.source, row.study_uid, row.status) == ("MPPS", uid("s"), "COMPLETED")
        assert [len(each) for each in row.named.values()] == [2]
        assert modality.begin_step("1.2.4", "not-a-uid") == 0x0106
        assert modality.begin_step("1.2..4", uid("s")) == 0x0106
        assert len(node.rows(tables.evidence)) == 1


def test_a_notification_about_our_own_results_is_no_evidence(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        ours = instance(tmp_path / "o", 0, study="s")
        file_delivery(node.store, node.settings, [ours], [], now=1.0)
        modality = Modality(node.host, node.port)
        assert modality.notify("1.2.5", [ours]) == 0x0000
        assert node.rows(tables.evidence) == []
        assert modality.notify("1.2.6", [ours, instance(tmp_path / "i", 1, study="s")]) == 0x0000
        (row,) = node.rows(tables.evidence)
        assert [len(each) for each in row.named.values()] == [1]


def test_what_is_switched_off_is_not_negotiated(tmp_path: Path) -> None:
    with running_node(tmp_path, evidence={"performed_steps": False}) as node:
        entity = AE(ae_title="MODALITY")
        entity.add_requested_context(ModalityPerformedProcedureStep)
        association = entity.associate(node.host, node.port, ae_title="AINODE")
        assert not association.is_established
        association.abort() if association.is_alive() else None


def test_access_rules_hold_for_every_service(tmp_path: Path) -> None:
    with running_node(tmp_path, receive={"allow": [{"ae_title": "MR1"}]}) as node:
        entity = AE(ae_title="STRANGER")
        entity.add_requested_context(ModalityPerformedProcedureStep)
        assert entity.associate(node.host, node.port, ae_title="AINODE").is_rejected
        assert Modality(node.host, node.port, "MR1").begin_step("1.2.3", uid("s")) == 0x0000
        wait_for(lambda: node.ledger("association.rejected"), "the ledger row")


def test_a_data_set_of_nonsense_costs_a_status_and_no_association(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        nonsense = Dataset()
        nonsense.PerformedProcedureStepStatus = "IN PROGRESS"
        nonsense.ScheduledStepAttributesSequence = [Dataset()]
        with Modality(node.host, node.port).association(ModalityPerformedProcedureStep) as association:
            for _ in range(2):
                response, _ = association.send_n_create(nonsense, ModalityPerformedProcedureStep, UID("1.2.3"))
                assert response.Status == 0x0106
        assert node.rows(tables.evidence) == []


@pytest.mark.parametrize("stored", [3, 2])
def test_commitment_is_answered_only_when_the_archive_has_it(tmp_path: Path, stored: int) -> None:
    """Neither before, nor for what the archive has not got: a modality may delete its only copy on our word."""
    answers: list[Any] = []
    taken = threading.Event()
    port = free_port()

    def take(event: evt.Event) -> tuple[int, None]:
        answers.append((event.event_type, event.event_information))
        taken.set()
        return 0x0000, None

    entity = AE(ae_title="MR1")
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    modality_scp = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)])
    pacs = TestPacs(tmp_path / "pacs")
    try:
        with (
            pacs.running() as (host, pacs_port),
            running_node(
                tmp_path,
                destination={"pacs": {"ae_title": "TESTPACS", "host": host, "port": pacs_port}},
                evidence={
                    "answer_commitment": True,
                    "commitment_archive": "pacs",
                    "commitment_wait_seconds": 1.0,
                    "requestor": [{"ae_title": "MR1", "host": "127.0.0.1", "port": port}],
                },
            ) as node,
        ):
            outside = Outside(node.settings, node.store)
            files = [instance(tmp_path / "i", n, study="s") for n in range(3)]
            modality = Modality(node.host, node.port, "MR1")
            modality.store(files)
            assert modality.ask_commitment("1.2.9", files) == 0x0000
            assert outside.answer_commitments() == 0 and not answers
            Modality(host, pacs_port, called_ae_title="TESTPACS").store(files[:stored])
            if stored < 3:
                assert outside.answer_commitments() == 0 and not answers
                time.sleep(1.1)
            assert outside.answer_commitments() == 1
            assert taken.wait(5)
            (kind, content) = answers[0]
            assert content.TransactionUID == "1.2.9"
            assert (kind, len(content.ReferencedSOPSequence)) == (1 if stored == 3 else 2, stored)
            assert len(content.get("FailedSOPSequence") or ()) == 3 - stored
            assert outside.answer_commitments() == 0
            # Who is not configured gets no promise.
            assert Modality(node.host, node.port, "MR2").ask_commitment("1.2.10", files) == 0x0124
    finally:
        modality_scp.shutdown()
