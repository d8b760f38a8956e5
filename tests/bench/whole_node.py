"""Rows `latency.*`: a whole node, from the last image acknowledged to every result committed in a PACS."""

from __future__ import annotations

import sqlite3
import time
from functools import partial
from pathlib import Path

from demo.timing import Latency, latency_of
from dicom_sr.phantom_study import write_phantom_study
from models.phantom import make_phantom
from node.dicom.association import Peer
from node.dicom.pacs import TestPacs
from node.dicom.storage_scu import send_paths
from tests.bench.figures import Row, Target, row
from tests.bench.stage import BenchmarkFailed, Stage
from tests.node_process import NodeProcess
from tests.peers import free_port

_PROFILE = '[profile.default]\nlanguages = ["en", "ja"]\ntext_documents = "shown_as_draft"\nmaximum_series = 3'
_LIMIT = Target("figure", 2.0)
_TIMEOUT_SECONDS = 120.0


def last_image_to_committed(stage: Stage) -> list[Row]:
    """Studies one after another through a running node."""
    folder = stage.folder(stage.disk)
    port = free_port()
    pacs = TestPacs(folder / "pacs", port=port, ae_title="PACS")
    node = NodeProcess(folder / "node", {"pacs": ("PACS", port)}, extra=_PROFILE, stat_slot=True)
    pacs.start()
    try:
        node.start()
        taken = [_one_study(stage, node, seed) for seed in range(1, stage.size.studies + 1)]
    finally:
        node.stop()
        pacs.stop()
    how = f"{len(taken)} phantom studies, two languages, commitment, node as `ainode serve`"
    make = partial(row, unit="s", filesystem=stage.disk.filesystem, mode="instance")
    ours = [each.ours for each in taken]
    return [
        make("latency.last_image_to_committed", ours, target=_LIMIT, how=f"total less quiet and model, {how}"),
        make("latency.worst", [max(ours)], target=_LIMIT, how=f"the same, the slowest of {how}"),
        make("latency.total", [each.total for each in taken], how=how),
        make("latency.quiet", [each.quiet for each in taken], how=f"the wait the configuration asks for, {how}"),
        make("latency.model", [each.model for each in taken], how=f"inside the two models, {how}"),
    ]


def _one_study(stage: Stage, node: NodeProcess, seed: int) -> Latency:
    phantom = make_phantom(seed, shape_zyx=stage.size.shapes_zyx[0], spacing_mm_zyx=_spacing(stage))
    study = write_phantom_study(phantom, node.folder / f"study{seed}", seed=seed)
    peer = Peer(ae_title="AINODE", host="127.0.0.1", port=node.port, calling_ae_title="MR1")
    if not send_paths(peer, study.files).complete:
        raise BenchmarkFailed("the node did not take the study")
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while not (states := _states(node.data / "node.db", study.study_uid)) or set(states) != {"committed"}:
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"not committed in time: {states}; {node.log()[-1000:]}")
        time.sleep(0.1)
    return latency_of(node.json("why", study.study_uid))


def _spacing(stage: Stage) -> tuple[float, float, float]:
    z, y, x = stage.size.shapes_zyx[0]
    return 140.0 / z, 230.4 / y, 230.4 / x


def _states(database: Path, study_uid: str) -> list[str]:
    """Read beside the node: asking with its own commands would take the time that is measured."""
    query = (
        "SELECT d.state FROM deliveries d JOIN objects o ON o.sop_instance_uid = d.sop_instance_uid "
        "WHERE o.study_uid = ?"
    )
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
    try:
        return [state for (state,) in connection.execute(query, (study_uid,))]
    finally:
        connection.close()
