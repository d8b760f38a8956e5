"""A reader draws a region and sends it: a promptable model outlines it, on the images it was drawn on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_sr.phantom_study import PhantomStudy, write_phantom_study
from models.phantom import LesionSpec, make_phantom
from models.prompts import BoxPrompt, boxes_of
from node import kill_switch
from node.archive import tables
from node.archive.engine import Store, open_store
from node.archive.pauses import Scope
from node.dicom.association import Peer
from node.dicom.outside import Outside
from node.dicom.pacs import TestPacs
from node.dicom.storage_scu import send_paths
from node.settings import load
from tests.archive_peers import archive_destination, dcmqrscp_archive
from tests.integration.test_corrections import stage
from tests.modality_simulator import Modality
from tests.network import instance, uid, wait_for
from tests.node_process import NodeProcess
from tests.peers import free_port
from tests.unit.models_promptable.conftest import write_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


class Reader:
    """A node with a promptable model, and somebody who draws."""

    def __init__(self, node: NodeProcess, pacs: TestPacs, study: PhantomStudy) -> None:
        self.node, self.pacs, self.study = node, pacs, study
        self.trace = [header for header in map(dcmread, study.files) if _is_trace(header)]
        self.store: Store = open_store(load(node.config))

    def draw(self, box: BoxPrompt, image: Dataset, folder: Path) -> Path:
        """A presentation state with an outline on an image."""
        left, top, right, bottom = box.left + 0.5, box.top + 0.5, box.right + 0.5, box.bottom + 0.5
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        layer = hd.pr.GraphicLayer("DRAWN", order=1)
        made = hd.pr.GrayscaleSoftcopyPresentationState(
            referenced_images=[image],
            series_instance_uid=hd.UID(),
            series_number=900,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="Viewer",
            manufacturer_model_name="m",
            software_versions="1",
            device_serial_number="1",
            content_label="DRAWN",
            graphic_layers=[layer],
            graphic_annotations=[
                hd.pr.GraphicAnnotation(
                    referenced_images=[image],
                    graphic_layer=layer,
                    graphic_objects=[hd.pr.GraphicObject("POLYLINE", np.array(ring), "PIXEL")],
                )
            ],
            voi_lut_transformations=[hd.pr.SoftcopyVOILUTTransformation(window_center=500, window_width=1000)],
        )
        folder.mkdir(exist_ok=True)
        made.save_as(path := folder / f"{made.SOPInstanceUID}.dcm", enforce_file_format=True)
        return path

    def send(self, *files: Path) -> None:
        peer = Peer(ae_title="AINODE", host="127.0.0.1", port=self.node.port, calling_ae_title="VIEWER")
        assert send_paths(peer, files).complete

    def runs(self) -> list[Any]:
        with self.store.read() as connection:
            return sorted(connection.execute(tables.jobs.select()).all(), key=lambda row: row.id)

    def answered(self, count: int) -> list[Any]:
        def done() -> bool:
            ended = [row for row in self.runs() if row.state in ("done", "dead", "failed")]
            with self.store.read() as connection:
                waiting = connection.execute(
                    tables.deliveries.select().where(tables.deliveries.c.state != "committed")
                ).all()
            return len(ended) >= count and not waiting

        wait_for(done, f"{count} answers", seconds=60)
        return self.runs()

    def segmentations(self) -> list[Dataset]:
        held = [dcmread(path) for path in self.pacs.objects.values()]
        return [each for each in held if each.Modality == "SEG"]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    phantom = make_phantom(
        41,
        shape_zyx=(12, 64, 64),
        spacing_mm_zyx=(11.0, 3.6, 3.6),
        lesions=(LesionSpec(30.0, "left"), LesionSpec(20.0, "right")),
    )
    study = write_phantom_study(phantom, tmp_path / "study", seed=41, plane="oblique", shuffled=True)
    write_model(tmp_path / "models" / "medsam")
    pacs = TestPacs(tmp_path / "pacs")
    with pacs.running() as (_, port):
        prompt = '[[prompt]]\nname = "outline"\nmodel = "medsam"\ndestinations = ["pacs"]\npatience_seconds = 1.0\n'
        node = NodeProcess(
            tmp_path / "node",
            {"pacs": ("TESTPACS", port)},
            extra=f'[models]\nfolders = ["{tmp_path / "models"}"]\nrequire_approval = false\n',
            rules=prompt,
        )
        node.start()
        made = Reader(node, pacs, study)
        try:
            yield made
        finally:
            made.store.close()
            node.stop()


def _is_trace(header: Dataset) -> bool:
    return float(header.get("DiffusionBValue", 0) or 0) > 500


def _boxes(study: PhantomStudy) -> dict[int, list[BoxPrompt]]:
    """Largest boxes of the truth by lesion."""
    by_target: dict[int, list[BoxPrompt]] = {}
    for box in boxes_of(study.truth_zyx):
        by_target.setdefault(box.target, []).append(box)
    return {t: sorted(found, key=lambda b: -(b.right - b.left) * (b.bottom - b.top)) for t, found in by_target.items()}


def test_two_regions_are_outlined_where_they_were_drawn(reader: Reader, tmp_path: Path) -> None:
    reader.send(*reader.study.files)
    images = _slices(reader.trace)
    drawn = []
    for number, (target, found) in enumerate(sorted(_boxes(reader.study).items())[:2], start=1):
        box = found[0]
        request = reader.draw(box, images[box.slice_index], tmp_path / "drawn")
        reader.send(request)
        drawn.append((request, target, box, images[box.slice_index]))
        runs = reader.answered(number)
    assert [row.state for row in runs] == ["done", "done"]
    hashes = [hashlib.sha256(dcmread(each[0]).SOPInstanceUID.encode()).hexdigest()[:8] for each in drawn]
    assert [row.rule for row in runs] == [f"outline@{each}" for each in hashes]
    # The second takes nothing of the first's place.
    found_there = reader.segmentations()
    assert len(found_there) == 2
    for seg in found_there:
        marked = {
            item.ReferencedSOPInstanceUID
            for frame in seg.PerFrameFunctionalGroupsSequence
            for item in frame.DerivationImageSequence[0].SourceImageSequence
        }
        fitting = [each for each in drawn if each[3].SOPInstanceUID in marked]
        assert fitting, "on the image it was drawn on"
    for _, target, box, image in drawn:
        truth = reader.study.truth_zyx[box.slice_index] == target
        assert max(_dice(seg, image, truth) for seg in found_there) > 0.5
    story = reader.node.cli("why", reader.study.study_uid).stdout
    assert "a request: 1 series named" in story


def test_a_request_without_its_images_is_answered(reader: Reader, tmp_path: Path) -> None:
    images = _slices(reader.trace)
    box = next(iter(_boxes(reader.study).values()))[0]
    reader.send(reader.draw(box, images[box.slice_index], tmp_path / "drawn"))
    (run,) = reader.answered(1)
    assert run.state == "done" and run.result["refusal"]["code"]
    (status,) = [dcmread(path) for path in reader.pacs.objects.values()]
    assert status.Modality == "SR" and status.StudyInstanceUID == reader.study.study_uid
    # The images come later: the same request is answered with an outline.
    reader.send(*reader.study.files)
    wait_for(lambda: len(reader.segmentations()) == 1, "the outline", seconds=60)
    assert [row.run for row in reader.runs()] == [1, 2]


def _slices(trace: list[Dataset]) -> list[Dataset]:
    """Along the normal, as a volume has them."""
    across, down = np.reshape(trace[0].ImageOrientationPatient, (2, 3)).astype(float)
    normal = np.cross(across, down)
    return sorted(trace, key=lambda each: float(np.dot(normal, np.asarray(each.ImagePositionPatient, float))))


def _dice(seg: Dataset, image: Dataset, truth: np.ndarray) -> float:
    """Of one slice, by the image that the frame names."""
    buffer = BytesIO()
    seg.save_as(buffer, enforce_file_format=True)
    planes = dcmread(BytesIO(buffer.getvalue())).pixel_array.reshape(-1, *truth.shape)
    mask = np.zeros(truth.shape, bool)
    for plane, frame in zip(planes, seg.PerFrameFunctionalGroupsSequence, strict=True):
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        if source.ReferencedSOPInstanceUID == image.SOPInstanceUID:
            mask |= plane > 0
    return 2.0 * np.count_nonzero(mask & truth) / max(np.count_nonzero(mask) + np.count_nonzero(truth), 1)


def test_images_of_a_request_are_fetched(tmp_path: Path) -> None:
    with dcmqrscp_archive(tmp_path, free_port()) as port:
        prompt = {"name": "outline", "model": "none", "destinations": ["pacs"], "archive": "archive", "method": "get"}
        further = {"prompt": [prompt], "rule": [], "destination": {"archive": archive_destination(port)["pacs"]}}
        with stage(tmp_path, further=further) as scene:
            files = scene.images({"PatientID": "P1"})
            Modality("127.0.0.1", port, called_ae_title="ARCHIVE").store(files)
            scene.send([_bare_request(tmp_path, files)])
            scene.settle(uid("s"))
            (waiting,) = scene.jobs()
            assert waiting.state == "queued" and waiting.not_before > time.time() + 60
            assert Outside(scene.node.settings, scene.node.store).fetch_studies() == 1
            scene.settle(uid("s"))
            cancelled, ready = scene.jobs()
            assert (cancelled.state, ready.state, ready.run) == ("cancelled", "queued", 2)
            assert len(ready.specification["files"]) == len(files)
            assert ready.specification["request"]["path"] not in ready.specification["files"]


def test_a_paused_prompt_stands_still(tmp_path: Path) -> None:
    prompt = {"name": "out_line", "model": "none", "destinations": ["pacs"]}
    with stage(tmp_path, further={"prompt": [prompt], "rule": []}) as scene:
        files = scene.images({"PatientID": "P1"})
        scene.send([*files, _bare_request(tmp_path, files)])
        scene.settle(uid("s"))
        with scene.node.store.write() as connection:
            kill_switch.pause(connection, time.time(), Scope.RULE, "out_line", reason="test", by="test")
        scene.work()
        assert [job.state for job in scene.jobs()] == ["queued"]


def _bare_request(folder: Path, files: list[Path]) -> Path:
    """A presentation state that names images and draws nothing."""
    headers = [dcmread(file, stop_before_pixels=True) for file in files]
    series = Dataset()
    series.SeriesInstanceUID = headers[0].SeriesInstanceUID
    references = []
    for header in headers:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
        references.append(reference)
    series.ReferencedImageSequence = Sequence(references)
    identity = {"PatientID": "P1", "SeriesInstanceUID": uid("drawn"), "Modality": "PR"}
    state = "1.2.840.10008.5.1.4.1.1.11.1"
    return instance(folder / "drawn", "r", sop_class=state, ReferencedSeriesSequence=Sequence([series]), **identity)
