"""The main job on real images: study in by C-STORE, SEG, measurements and text out in a PACS, committed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from demo.timing import latency_of
from node.archive.part10 import dataset_offset
from node.dicom.association import Peer
from node.dicom.pacs import TestPacs
from node.dicom.storage_scu import send_paths
from tests.node_process import NodeProcess
from tests.peers import free_port, require

pytestmark = [pytest.mark.slow, pytest.mark.peer, pytest.mark.timeout(600)]

PROFILE = '[profile.default]\nlanguages = ["en", "ja"]\ntext_documents = "shown_as_draft"\nmaximum_series = 3'


class Scene:
    """A node with its PACS, and one real study sent to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        port = free_port()
        self.pacs = TestPacs(folder / "pacs", port=port, ae_title="PACS")
        self.pacs.start()
        self.node = NodeProcess(folder / "node", {"pacs": ("PACS", port)}, extra=PROFILE)
        self.node.start()

    def close(self) -> None:
        self.node.stop()
        self.pacs.stop()

    def analyse(self, study: Path) -> list[dict[str, Any]]:
        """Send a folder, wait for the last commitment, return the deliveries."""
        peer = Peer(ae_title="AINODE", host="127.0.0.1", port=self.node.port, calling_ae_title="MR1")
        study_uid = str(
            dcmread(next(path for path in study.rglob("*") if path.is_file()), stop_before_pixels=True).StudyInstanceUID
        )
        assert send_paths(peer, [study]).complete
        deadline = time.monotonic() + 240
        # A node of its own, and no other study in it.
        while set(self.node.delivery_states()) != {"committed"}:
            assert time.monotonic() < deadline, f"not committed\n{self.node.log()[-3000:]}"
            time.sleep(0.05)
        found = [each for each in self.node.json("deliveries") if each["study_uid"] == study_uid]
        assert {each["state"] for each in found} == {"committed"}
        return found

    def objects(self, deliveries: list[dict[str, Any]]) -> dict[str, Path]:
        """Role → file in the PACS."""
        return {each["role"]: self.pacs.objects[each["sop_instance_uid"]] for each in deliveries}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


def _data_set(path: Path) -> bytes:
    """The data set alone: whoever stores an object writes file meta information of their own (PS3.10 7.1)."""
    return path.read_bytes()[dataset_offset(path) :]


def _uid(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def _judged(sources: Path, results: list[Path], shared: Path) -> None:
    """The independent judge of result objects, where it is at hand.

    Results in order of role: dcentvfy words its remark on AccessionNumber, which the judge knows, by the order of files.
    """
    judge = shared.parent / "conformance" / "conform.py"
    if not judge.exists():
        return
    for tool in ("dciodvfy", "dcentvfy", "segimage2itkimage", "tid1500reader", "dsrdump", "java"):
        require(tool)
    done = subprocess.run(
        [sys.executable, str(judge), "--src", str(sources), *map(str, results)],
        capture_output=True,
        text=True,
        check=False,
    )
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    of_sources = _faults_of(sources)
    unexplained = [line for line in failures if not _is_fault_of_sources(line, of_sources)]
    assert not unexplained, "\n".join(unexplained)
    assert failures or done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def _faults_of(sources: Path) -> str:
    """What the external validators say of the images themselves, before any result exists."""
    files = [str(path) for path in sources.rglob("*") if path.is_file()]
    study = subprocess.run([require("dcentvfy"), *files], capture_output=True, text=True, check=False)
    image = subprocess.run([require("dciodvfy"), files[0]], capture_output=True, text=True, check=False)
    return study.stdout + study.stderr + image.stdout + image.stderr


def _is_fault_of_sources(line: str, of_sources: str) -> bool:
    """Whether a failure only repeats faults of the images: dangling references among them, the form of the patient's name.

    A result must carry the patient's name as it is (PS3.3 C.7.1.1), also in a form that PS3.5 6.2 calls retired.
    """
    faults = line.split(" ", 3)[-1].split("; ")
    said = (fault.removeprefix("study ").split(" for file")[0].removesuffix("...").strip() for fault in faults)
    return all(each in of_sources or each[:60] in of_sources for each in said if len(each) > 40)


def test_stroke_study(scene: Scene, shared_data: Path) -> None:
    study = shared_data / "mr_stroke_isles22_case0001"
    objects = scene.objects(scene.analyse(study))
    assert set(objects) == {"seg", "measurements", "text-en", "text-ja"}

    offline = scene.folder / "offline"
    assert scene.node.cli("process", str(study), "--out", str(offline), timeout_seconds=120).returncode == 0
    for role, path in objects.items():
        assert _data_set(offline / f"{role}.dcm") == _data_set(path), role
        frozen = next((scene.node.data / "outbox").rglob(f"*{_uid(path)}*"))
        assert frozen.read_bytes() == (offline / f"{role}.dcm").read_bytes(), role

    _judged(study, [objects[role] for role in sorted(objects)], shared_data)
    latency = latency_of(scene.node.json("why", str(dcmread(objects["seg"], stop_before_pixels=True).StudyInstanceUID)))
    print(f"\nlast image to committed: {latency}, of that ours {latency.ours:.2f} s")


def test_healthy_enhanced_study(scene: Scene, shared_data: Path) -> None:
    study = shared_data / "mr_brain_enhanced_siemens_xa30"
    objects = scene.objects(scene.analyse(study))
    job = scene.node.json("jobs")[0]
    assert job["total_ml"] <= 0.3
    assert job["outcome"] == "nothing_found"
    assert set(objects) == {"measurements", "text-en", "text-ja"}
    _judged(study, [objects[role] for role in sorted(objects)], shared_data)
