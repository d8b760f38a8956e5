"""The whole node: a study in by C-STORE, the model's results out by DICOMweb and in the viewer."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import highdicom as hd
import httpx
import numpy as np
import pytest
from dicomweb_client import DICOMwebClient

from dicom_sr.phantom_study import write_phantom_study
from models.phantom import LesionSpec, make_phantom
from node.dicom.association import Peer
from node.dicom.storage_scu import send_paths
from tests.console import PASSCODE
from tests.network import wait_for
from tests.node_process import ROOT, NodeProcess
from tests.peers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def test_results_of_a_run_are_read_back_where_the_lesion_is(tmp_path: Path) -> None:
    phantom = make_phantom(
        21,
        shape_zyx=(12, 64, 64),
        spacing_mm_zyx=(11.0, 3.6, 3.6),
        lesions=(LesionSpec(40.0, "left"),),
        orientation="axial",
    )
    study = write_phantom_study(phantom, tmp_path / "study", seed=21)
    web_port = free_port()
    node = NodeProcess(tmp_path / "node", {}, extra=f"[web]\nenabled = true\nport = {web_port}")
    node.start()
    try:
        peer = Peer(ae_title="AINODE", host="127.0.0.1", port=node.port, calling_ae_title="MODALITY")
        assert send_paths(peer, list(study.files)).complete
        url = f"http://127.0.0.1:{web_port}"
        shown = {"Authorization": f"Bearer {_token(node)}"}
        wait_for(lambda: _healthy(url), "the console", seconds=60)
        assert httpx.get(f"{url}/dicom-web/studies").status_code == 401
        client = DICOMwebClient(f"{url}/dicom-web", headers=shown)
        (series,) = _wait_for_segmentation(client, study.study_uid, node)
        assert series["00731001"]["Value"] == ["not sent"]
        (instance,) = client.retrieve_series(study.study_uid, series["0020000E"]["Value"][0])
        segmentation = hd.seg.Segmentation.from_dataset(instance)
        volume = segmentation.get_volume(combine_segments=True, allow_missing_positions=True)
        _, z, y, x = max((int((study.truth_zyx[k] > 0).sum()), k, *_middle(study.truth_zyx[k])) for k in range(12))
        place = (study.affine @ np.array([x, y, z, 1.0]))[:3]
        index = np.rint(volume.map_reference_to_indices(place[None]))[0].astype(int)
        assert volume.array[tuple(index)] > 0, "the model's segment is at a voxel of the lesion"
        scene = httpx.get(f"{url}/study/{study.study_uid}/view/scene", headers=shown, timeout=60).json()
        (overlay,) = scene["overlays"]
        assert overlay["madeFrom"] and overlay["refused"] == {}
        page = httpx.get(f"{url}/study/{study.study_uid}/view", headers=shown, timeout=60)
        assert page.status_code == 200 and "AI result, not reviewed" in page.text
        with closing(sqlite3.connect(node.data / "node.db")) as ledger:
            looked = ledger.execute("select detail from ledger where kind = 'person.looked'").fetchall()
        assert [json.loads(detail)["study"] for (detail,) in looked] == [study.study_uid]
    finally:
        node.stop()


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def _token(node: NodeProcess) -> str:
    """A viewer's token, made as docs/dicomweb.md says."""
    words = [sys.executable, "-m", "node", "--config", str(node.config), "user"]
    subprocess.run(
        [*words, "add", "reader"], input=f"{PASSCODE}\n", text=True, check=True, cwd=ROOT, capture_output=True
    )
    made = node.cli("user", "token", "reader", "--for", "tests", "--role", "viewer")
    assert made.returncode == 0, made.stderr
    return made.stdout.split()[0]


def _middle(mask_yx: np.ndarray) -> tuple[int, int]:
    inside = np.argwhere(mask_yx > 0)
    return (int(inside[len(inside) // 2][0]), int(inside[len(inside) // 2][1])) if len(inside) else (0, 0)


def _wait_for_segmentation(client: DICOMwebClient, study_uid: str, node: NodeProcess) -> list[dict]:  # type: ignore[type-arg]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if found := client.search_for_series(study_uid, search_filters={"Modality": "SEG"}):
            return found
        time.sleep(0.2)
    raise AssertionError(node.log()[-3000:])
