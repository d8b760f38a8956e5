"""A run that the GPU has no room for is, from the first byte to the last, what a machine without one makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_sr.identity import OFFLINE
from dicom_sr.phantom_study import write_phantom_study
from models.phantom import make_phantom
from models.registry import Registry
from models.session import CPU, CUDA
from node.jobs.execution import execute_guarded
from node.jobs.specification import JobSpec, ResultBundle
from node.settings import ProfileSection
from tests.unit.models_registry.gpu import ARENA, pretend
from tests.unit.node_runtime.test_faulty_models import FAULTS, install


def test_the_result_names_the_cpu_and_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site" / "good", "good", FAULTS["good"])
    head = make_phantom(11, shape_zyx=(12, 64, 64), spacing_mm_zyx=(11.0, 3.6, 3.6))
    files = list(write_phantom_study(head, tmp_path / "study", seed=11).files)

    def run(name: str, registry: Registry) -> ResultBundle:
        (tmp_path / name).mkdir()
        spec = JobSpec(
            job_id=1,
            study_uid="1.2",
            rule="r",
            model_id="good",
            files=files,
            profiles={"pacs": ProfileSection()},
            languages=["en"],
            identity=OFFLINE,
            output_dir=tmp_path / name,
            deadline_seconds=60.0,
        )
        bundle = execute_guarded(spec, lambda: registry)
        assert bundle.failure is None, bundle.failure
        return bundle

    alone = run("alone", Registry([tmp_path / "site"], threads=1))
    gpu = pretend(monkeypatch)
    registry = Registry([tmp_path / "site"], threads=1)
    with_room = run("room", registry)
    gpu.before_run = lambda: setattr(gpu, "at_run", ARENA)
    without = run("none", registry)
    assert [each.summary["provider"] for each in (alone, with_room, without)] == [CPU, CUDA, CPU]
    assert without.evidence["left_the_device"] == {"good": "not enough memory"}
    assert "left_the_device" not in with_room.evidence | alone.evidence
    assert without.work_key == alone.work_key != with_room.work_key
    made = [sorted((each.role, each.sop_instance_uid, each.digest) for each in b.objects) for b in (alone, without)]
    assert made[0] == made[1] and made[0]
