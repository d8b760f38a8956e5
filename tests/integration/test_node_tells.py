"""The whole node: a study in, people told, results in a PACS and anonymous in a research archive over DICOMweb."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_sr.phantom_study import write_phantom_study
from models.phantom import LesionSpec, make_phantom
from node.dicom.association import Peer
from node.dicom.pacs import TestPacs
from node.dicom.storage_scu import send_paths
from tests.dicomweb_peer import running_web_orthanc
from tests.node_process import NodeProcess
from tests.notification_peers import MllpListener, WebhookReceiver
from tests.peers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.peer, pytest.mark.timeout(400)]

_SECRETS = ("Geheim", "SECRET-ID-77", "SECRET-ACC", "19440229")

_RULES = """
[[rule]]
name = "infarct"
model = "infarct-adc-baseline"
destinations = ["pacs"]
priority = "stat"
[rule.match]
modality = ["MR"]
diffusion = true

[[notify]]
name = "large"
channels = ["pager", "ris"]
destinations = ["research"]
[notify.when]
volume_ml_over = 1.0
priority = ["stat"]
[[notify.escalate]]
after_seconds = 1.0
channels = ["senior"]

[[notify]]
name = "never"
channels = ["senior"]
[notify.when]
refusal = ["*"]
"""


def _extra(url: str, listener: MllpListener, secret: Path, web: str) -> str:
    return f"""
[profile.research]
objects = ["seg", "measurements"]
anonymous = true
images = true
[destination.research]
url = "{web}"
profile = "research"
[channel.pager]
kind = "webhook"
url = "{url}/pager"
secret_file = "{secret}"
[channel.senior]
kind = "webhook"
url = "{url}/senior"
secret_file = "{secret}"
[channel.ris]
kind = "hl7"
host = "127.0.0.1"
port = {listener.port}
identity = "patient"
"""


def _study(folder: Path) -> list[Path]:
    phantom = make_phantom(
        5,
        shape_zyx=(18, 64, 72),
        spacing_mm_zyx=(6.0, 3.0, 3.0),
        lesions=(LesionSpec(30.0, "left"),),
        orientation="axial",
    )
    files = write_phantom_study(phantom, folder, seed=5).files
    for file in files:
        dataset = dcmread(file)
        dataset.PatientName, dataset.PatientID = "Geheim^Ottilie", "SECRET-ID-77"
        dataset.PatientBirthDate, dataset.AccessionNumber = "19440229", "SECRET-ACC"
        dataset.save_as(file)
    return list(files)


def _wait(condition: Callable[[], Any], node: NodeProcess, what: str) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until, f"{what}\n{node.cli('deliveries').stdout}\n{node.log()[-4000:]}"
        time.sleep(0.2)


def test_people_are_told_and_research_gets_nobodys_images(tmp_path: Path) -> None:
    files = _study(tmp_path / "study")
    (tmp_path / "secret").write_text("word\n")
    port = free_port()
    pacs = TestPacs(tmp_path / "pacs", port=port, ae_title="PACS")
    pacs.start()
    with (
        running_web_orthanc(tmp_path / "orthanc") as archive,
        WebhookReceiver(b"word").running() as hooks,
        MllpListener().running() as ris,
    ):
        node = NodeProcess(
            tmp_path / "node",
            {"pacs": ("PACS", port)},
            extra=_extra(hooks.url, ris, tmp_path / "secret", archive.url),
            rules=_RULES,
        )
        node.start()
        try:
            sender = Peer(ae_title="AINODE", host="127.0.0.1", port=node.port, calling_ae_title="MR1")
            assert send_paths(sender, files).complete
            _wait(lambda: len(hooks.bodies) >= 2 and ris.processed, node, "nobody was told")
            alert, escalation = hooks.messages()[:2]
            assert (alert["event"], alert["notify"], escalation["event"]) == ("alert", "large", "escalation")
            assert alert["result"]["total_ml"] > 1.0
            (message,) = ris.processed.values()
            assert "SECRET-ID-77" in message
            assert "Geheim^Ottilie" in message
            done = node.cli("notifications", "ack", alert["acknowledge"]["token"], "--by", "Dr A")
            assert done.returncode == 0, done.stderr
            (row,) = node.json("notifications", "alerts")
            assert (row["state"], row["acknowledged_by"]) == ("acknowledged", "Dr A")

            def delivered() -> bool:
                found = node.rows("SELECT destination, proof FROM deliveries")
                return {destination for destination, _ in found} == {"pacs", "research"} and all(
                    proof in ("commitment", "query") for _, proof in found
                )

            _wait(delivered, node, "not everything was delivered")
            told = {(each["destination"], each["proof"]) for each in node.json("deliveries", "--limit", "1000")}
            assert {destination for destination, _ in told} == {"pacs", "research"}
            assert {proof for _, proof in told} <= {"commitment", "query"}
            assert "large: HOLDS" in node.cli("notifications", "explain", str(row["job"])).stdout
            assert "told ris" in node.cli("why", row["study_uid"]).stdout
            assert not [secret for secret in _SECRETS if secret in node.log()]
        finally:
            node.stop()
            pacs.stop()
        exported = {uid: archive.file(uid) for uid in archive.instances()}
    assert len(exported) >= len(files) + 2
    for content in exported.values():
        assert not [secret for secret in _SECRETS if secret.encode() in content]
