"""The end of received images: after the archive was asked, on record, and never at the cost of a result."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from node.archive import index, tables
from node.dicom.retiring import Retiring
from tests.archive_peers import archive_destination, dcmqrscp_archive
from tests.integration.test_corrections import Scene, stage
from tests.modality_simulator import Modality
from tests.network import node_settings, uid, wait_for
from tests.peers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

IDENTITY = {"PatientID": "P1"}
DAY = 86400.0


@contextmanager
def answered(
    folder: Path, destination: dict[str, Any] | None = None, **retention: Any
) -> Iterator[tuple[Scene, list[Path]]]:
    """A study that was received, run and delivered."""
    further = {"retention": {"images_days": 10.0, **retention}, "destination": destination or {}}
    with stage(folder, further=further) as scene:
        scene.full.refuse = False
        files = scene.images(IDENTITY)
        scene.send(files)
        scene.settle(uid("s"))
        scene.work()
        wait_for(lambda: [row.state for row in scene.deliveries()] == ["stored"] * 2, "the results")
        yield scene, files


def _retire(scene: Scene, days: float) -> tuple[int, int]:
    return Retiring(scene.node.settings, scene.node.store).run(time.time() + days * DAY)


def _images(scene: Scene) -> list[Any]:
    return scene.node.rows(tables.instances)


def test_images_go_when_they_are_old_enough_and_it_is_on_record(tmp_path: Path) -> None:
    with answered(tmp_path, unlisted="remove") as (scene, files):
        before = scene.node.files()
        assert len(before) == len(files)
        size = sum(file.stat().st_size for file in before)
        assert _retire(scene, 9) == (0, 0) and scene.node.files() == before
        assert _retire(scene, 11) == (1, 0)
        assert scene.node.files() == [] and _images(scene) == []
        (row,) = scene.node.ledger("images.removed")
        assert row.detail["instances"] == len(files) and row.detail["bytes"] == size
        assert row.detail["listed"] is False and len(row.detail["digest"]) == 64
        assert "4 image(s) removed by retention; no archive lists them all" in scene.why(uid("s"))
        # The results stand, and nothing is done twice.
        assert {row.state for row in scene.deliveries()} == {"stored"}
        assert _retire(scene, 12) == (0, 0)


def test_what_comes_back_in_part_takes_no_results_place(tmp_path: Path) -> None:
    with answered(tmp_path, unlisted="remove") as (scene, files):
        (first,) = scene.jobs()
        assert _retire(scene, 11) == (1, 0)
        scene.send(files[:2])
        scene.settle(uid("s"))
        assert [job.id for job in scene.jobs()] == [first.id]
        assert "2 image(s) that job 1 took were removed by retention" in scene.why(uid("s"))
        # All of it is what the run has taken.
        scene.send(files[2:])
        scene.settle(uid("s"))
        assert [job.id for job in scene.jobs()] == [first.id]


@pytest.mark.peer
def test_the_archive_is_asked_first(tmp_path: Path) -> None:
    with (
        dcmqrscp_archive(tmp_path, free_port()) as port,
        answered(tmp_path, {"archive": archive_destination(port)["pacs"]}, archive="archive") as (scene, files),
    ):
        archive = Modality("127.0.0.1", port, called_ae_title="ARCHIVE")
        archive.store(files[:3])
        assert _retire(scene, 11) == (0, 1)
        assert len(_images(scene)) == len(files)
        archive.store(files[3:])
        assert _retire(scene, 11) == (1, 0)
        (row,) = scene.node.ledger("images.removed")
        assert (row.detail["archive"], row.detail["listed"]) == ("archive", True)


def test_an_archive_that_is_away_removes_nothing(tmp_path: Path) -> None:
    away = {"archive": archive_destination(free_port())["pacs"]}
    with answered(tmp_path, away, archive="archive", unlisted="remove") as (scene, files):
        assert _retire(scene, 11) == (0, 0) and len(_images(scene)) == len(files)


def test_what_is_held_or_still_to_be_sent_stays(tmp_path: Path) -> None:
    with answered(tmp_path, unlisted="remove") as (scene, files):
        with scene.node.store.write() as connection:
            index.hold_study(connection, time.time(), uid("s"), reason="test")
        assert _retire(scene, 11) == (0, 0)
        with scene.node.store.write() as connection:
            index.release_study(connection, time.time(), uid("s"))
            connection.execute(tables.studies.update().values(due_at=None))
            connection.execute(tables.deliveries.update().values(state="failed"))
        assert _retire(scene, 11) == (0, 0) and len(_images(scene)) == len(files)
        with scene.node.store.write() as connection:
            connection.execute(tables.deliveries.update().values(state="stored"))
        # Killed after the files and before their rows: the next pass ends it.
        scene.node.files()[0].unlink()
        assert _retire(scene, 11) == (1, 0) and _images(scene) == []


def test_settings_that_would_remove_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing would ever go"):
        node_settings(tmp_path, retention={"images_days": 5.0})
