"""Promise 3: same work, same bytes; other work, other UIDs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_sr.document import render
from dicom_sr.identity import OFFLINE
from dicom_sr.uids import model_device_uid, result_uid, work_key
from dicom_sr.warm import prewarm
from dicom_sr.write import write_objects
from tests.conftest import ROOT
from tests.generators.results import MODEL, nothing_found
from tests.unit.dicom_sr_objects.cases import Case, context


def render_elsewhere(case: Case, out: Path, *, hash_seed: int, seconds: float) -> dict[str, bytes]:
    child = Path(__file__).with_name("render_child.py")
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT), "TZ": f"X{hash_seed}"}
    command = [sys.executable, child, case.files[0].parent, out, str(seconds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.dcm"))}


@pytest.mark.slow
def test_two_processes_at_two_times_write_the_same_bytes(case: Case, tmp_path: Path) -> None:
    first = render_elsewhere(case, tmp_path / "a", hash_seed=1, seconds=1_000_000_000.0)
    second = render_elsewhere(case, tmp_path / "b", hash_seed=2, seconds=1_900_000_000.5)
    assert len(first) >= 17
    assert first == second


def test_order_of_the_files_does_not_matter(case: Case) -> None:
    from dicom_sr.series import load_study
    from tests.unit.dicom_sr_objects.cases import trace_of

    other = load_study(list(reversed(case.files)))
    ours, theirs = case.rendered(), render(case.result, other, context(), trace_of(other))
    assert [o.encoded for o in ours] == [o.encoded for o in theirs]


FACTS = {
    "digests": {"1.2.3": "aa", "1.2.4": "bb"},
    "identity": OFFLINE,
    "model": MODEL,
    "parameters": {"threshold": "620", "minimum": "0.2"},
    "report_model": None,
    "languages": ("en", "ja"),
    "profile": "default",
    "run": 1,
}
CHANGES = {
    "other content": {"digests": {"1.2.3": "ab", "1.2.4": "bb"}},
    "one image more": {"digests": {**FACTS["digests"], "1.2.5": "cc"}},
    "other node": {"identity": replace(OFFLINE, device_uid="2.25.1")},
    "other weights": {"model": replace(MODEL, digest="cd" * 32)},
    "other provider": {"model": replace(MODEL, provider="CUDAExecutionProvider")},
    "other threshold": {"parameters": {"threshold": "600", "minimum": "0.2"}},
    "report model": {"report_model": MODEL},
    "other languages": {"languages": ("ja", "en")},
    "other profile": {"profile": "plain"},
    "second run": {"run": 2},
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_work_has_another_key(change: str) -> None:
    assert work_key(**{**FACTS, **CHANGES[change]}) != work_key(**FACTS)


def test_order_of_mappings_does_not_change_the_key() -> None:
    turned = {
        name: dict(reversed(list(value.items()))) if isinstance(value, dict) else value for name, value in FACTS.items()
    }
    assert work_key(**turned) == work_key(**FACTS)


def test_key_and_uid_never_change_between_releases() -> None:
    """A changed recipe would give the same work other names: raise ENCODER_VERSION knowingly, then this line."""
    assert work_key(**FACTS)[:16] == "00b4418195b3d96a"
    assert result_uid("key", "seg") == "2.25.8187063875837888083431740561342156358"


def test_uids_differ_by_key_role_and_ordinal() -> None:
    uids = {result_uid(k, r, n) for k in ("a", "ab") for r in ("seg", "bseg", "seg/series") for n in (0, 1, 11)}
    assert len(uids) == 18
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)
    assert model_device_uid("aa") != model_device_uid("ab")


def test_another_key_changes_every_uid_of_the_set(case: Case) -> None:
    uids = [
        {str(o.dataset.SOPInstanceUID) for o in case.rendered(key=key)}
        | {str(o.dataset.SeriesInstanceUID) for o in case.rendered(key=key)}
        for key in ("0" * 64, "1" * 64)
    ]
    assert not uids[0] & uids[1]


def test_written_files_are_what_they_say(case: Case, tmp_path: Path) -> None:
    objects = case.rendered(nothing_found())
    for written, rendered in zip(write_objects(objects, tmp_path), objects, strict=True):
        content = written.path.read_bytes()
        assert written.path.name == f"{written.role}-{written.sop_instance_uid}.dcm"
        assert content == rendered.encoded
        assert (written.size, written.digest) == (len(content), hashlib.sha256(content).hexdigest())
        assert content[128:132] == b"DICM"


def test_prewarm_needs_nothing_and_may_be_repeated() -> None:
    prewarm()
    prewarm()
