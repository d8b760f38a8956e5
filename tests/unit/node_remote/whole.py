"""A whole run: a phantom study on disk, a real model-host child without network, a chat server on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian

from dicom_sr.identity import OFFLINE
from dicom_sr.phantom_headers import PatientFacts
from dicom_sr.phantom_study import write_phantom_study
from models.chat import ChatAnswer, ChatRequest, Origin
from models.phantom import Phantom
from node.jobs import wire
from node.jobs.chat_pipe import ChatPipe
from node.jobs.executors.local import LocalExecutor
from node.jobs.specification import JobSpec, ResultBundle
from node.remote.desk import RemoteDesk
from node.settings import ProfileSection, Settings
from tests.migrated import upgrade
from tests.unit.node_remote import scene

PATIENT = PatientFacts(
    name="Yamada^Tarou=山田^太郎=やまだ^たろう",
    patient_id="00123456",
    birth_date="19600131",
    accession_number="ACC98765",
)


def study(folder: Path, phantom: Phantom, *, reason: str = "", report: str = "") -> list[Path]:
    """Files of a phantom study that says it has no text in its pixels; with a reason for the request and a text SR."""
    written = write_phantom_study(phantom, folder, seed=5, patient=PATIENT)
    for path in written.files:
        image = dcmread(path)
        image.BurnedInAnnotation, image.StationName = "NO", "MR7"
        image.ReasonForTheRequestedProcedure = reason
        image.save_as(path)
    return [*written.files, *([_report(image, folder, report)] if report else [])]


def _report(image: Dataset, folder: Path, words: str) -> Path:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(made, keyword, image.get(keyword, ""))
    for keyword in ("StudyInstanceUID", "StudyDate", "StudyTime", "SpecificCharacterSet", "ReferringPhysicianName"):
        setattr(made, keyword, image.get(keyword, ""))
    made.SOPClassUID, made.SOPInstanceUID, made.SeriesInstanceUID = BasicTextSRStorage, "2.25.4711", "2.25.4712"
    made.Modality, made.SeriesNumber, made.InstanceNumber, made.Manufacturer = "SR", 90, 1, "RIS"
    made.ContentDate, made.ContentTime = "20260102", "101010"
    made.ValueType, made.ContinuityOfContent = "CONTAINER", "SEPARATE"
    item = Dataset()
    item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", words
    made.ContentSequence = [item]
    path = folder / "report.dcm"
    made.save_as(path, enforce_file_format=True)
    return path


def settings(folder: Path, url: str, **remote: Any) -> Settings:
    """Settings with every remote card's endpoint on loopback."""
    made = scene.settings(folder, url, deadline_seconds=30.0, daily_calls=10_000, daily_tokens=10_000_000, **remote)
    made.data_dir.mkdir(parents=True, exist_ok=True)
    upgrade(made)
    return made


def specification(files: list[Path], out: Path, **more: Any) -> JobSpec:
    """One run; ``out`` is made."""
    out.mkdir(parents=True)
    profile = ProfileSection(text_documents="shown_as_draft", languages=more.pop("languages", ["en"]), maximum_series=9)
    given: dict[str, Any] = {"model_id": "infarct-adc-baseline", "rule": "r", "threads": 1, **more}
    return JobSpec(
        job_id=1,
        study_uid="1",
        files=files,
        profiles={"default": profile},
        languages=["en"],
        identity=OFFLINE,
        output_dir=out,
        **{"deadline_seconds": 60.0, **given},
    )


def run(executor: LocalExecutor, spec: JobSpec) -> ResultBundle:
    return executor.run(spec, abandoned=lambda: False)


def texts(bundle: ResultBundle) -> dict[str, list[str]]:
    """Role → findings and impression of every document that a run wrote."""
    found = {}
    for each in bundle.objects:
        if each.role.startswith(("text", "status")):
            found[each.role] = _words(dcmread(each.path))
    return found


def _words(item: Dataset) -> list[str]:
    concept = (item.get("ConceptNameCodeSequence") or [Dataset()])[0].get("CodeValue", "")
    said = [str(item.TextValue)] if concept in ("121071", "121073") and "TextValue" in item else []
    for each in item.get("ContentSequence", ()) or ():
        said += _words(each)
    return said


def document(bundle: ResultBundle, role: str) -> Dataset:
    """The document of a role."""
    (path,) = [each.path for each in bundle.objects if each.role == role]
    return dcmread(path)


class DeskChat:
    """The chat port of a model in this process, with the real desk behind it: everything but the pipe and the child."""

    def __init__(self, desk: RemoteDesk, spec: JobSpec) -> None:
        ours, theirs = socket.socketpair()
        self._pipe, self._ours, self._desk, self._spec = ChatPipe(theirs), ours, desk, spec

    def look_at(self, origins: Mapping[str, Sequence[Origin]]) -> None:
        self._pipe.look_at(origins)

    def complete(self, request: ChatRequest) -> ChatAnswer:
        threading.Thread(target=self._serve, daemon=True).start()
        return self._pipe.complete(request)

    def _serve(self) -> None:
        wish = wire.receive(self._ours)
        assert wish is not None
        call = self._desk.begin(self._spec, wish)
        call.done.wait(20)
        wire.send(self._ours, call.reply)
