"""`ainode models debug-bundle` and `replay`: a run taken to another machine, without the patient's identity."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from node.cli import main
from tests.integration.test_node_jobs import Bench, bench, phantoms  # noqa: F401  (fixtures)

pytestmark = pytest.mark.slow
_SAYS_NOTHING = frozenset(
    {"MR", "CT", "ISO_IR 192", "ISO_IR 100", "MONOCHROME2", "ORIGINAL", "PRIMARY", "HEAD", "BRAIN"}
)


def _identifying(path: Path) -> set[str]:
    """Every text of a file that is about the patient, a person, the place, a moment or a thing: names, ids, dates, UIDs."""
    found: set[str] = set()

    def look(dataset: Dataset) -> None:
        for element in dataset:
            if element.VR == "SQ":
                for item in element.value:
                    look(item)
            elif element.VR in ("PN", "LO", "SH", "UI", "DA", "TM", "DT", "LT", "ST", "AE", "AS", "UT", "CS"):
                values = element.value if element.VM > 1 else [element.value]
                found.update(str(each) for each in values if len(str(each)) >= 4)

    look(dcmread(path, stop_before_pixels=True))
    # What a standard or this product calls things names nobody.
    return {each for each in found - _SAYS_NOTHING if not each.startswith("1.2.840.10008.")}


@pytest.fixture
def bundle(bench: Bench, phantoms: list[tuple[Path, ...]], tmp_path: Path) -> Path:  # noqa: F811
    bench.receive(phantoms[0])
    assert bench.dispatcher.run_once() and bench.job(1).state == "done"
    path = tmp_path / "job.zip"
    assert main(["--config", str(bench.config), "models", "debug-bundle", "1", "--out", str(path)]) == 0
    return path


def _a_difference_is_seen(bundle: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The ADC of the infarct made normal."""
    with zipfile.ZipFile(bundle) as opened, zipfile.ZipFile(other, "w") as changed:
        for name in opened.namelist():
            content = opened.read(name)
            if name == "adc.npz":
                arrays = dict(np.load(io.BytesIO(content)))
                arrays["array_zyx"] = np.where(arrays["array_zyx"] > 0, np.maximum(arrays["array_zyx"], 750), 0)
                stream = io.BytesIO()
                np.savez(stream, **{**arrays, "array_zyx": arrays["array_zyx"].astype(np.float32)})
                content = stream.getvalue()
            changed.writestr(name, content)
    capsys.readouterr()
    assert main(["models", "replay", str(other)]) == 1
    assert {"outcome", "mask_sha256"} <= set(json.loads(capsys.readouterr().out)["differences"])


@pytest.mark.parametrize("bench", [("real", "")], indirect=True)
def test_a_bundle_says_not_whose_it_is_and_comes_out_the_same_elsewhere(
    bundle: Path,
    bench: Bench,  # noqa: F811
    phantoms: list[tuple[Path, ...]],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    with zipfile.ZipFile(bundle) as opened:
        everything = b"\n".join([name.encode() + opened.read(name) for name in opened.namelist()])
        manifest = json.loads(opened.read("bundle.json"))
        card = opened.read("model.toml").decode()
        adc = np.load(io.BytesIO(opened.read("adc.npz")), allow_pickle=False)
    assert adc["array_zyx"].shape == tuple(manifest["inputs"]["adc"]["shape_zyx"])
    assert manifest["result"]["outcome"] == "found" and manifest["versions"]["numpy"] == np.__version__
    words = set().union(*(_identifying(path) for path in phantoms[0]))
    assert len(words) > 30
    assert not {word for word in words if word.encode() in everything and word not in card}
    header = dcmread(phantoms[0][0], stop_before_pixels=True)
    for value in (
        header.PatientName,
        header.PatientID,
        header.StudyInstanceUID,
        header.SOPInstanceUID,
        header.StudyDate,
    ):
        assert str(value) and str(value).encode() not in everything
    # A laptop: no configuration, no node.
    capsys.readouterr()
    assert main(["models", "replay", str(bundle)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["same_model"] and not report["differences"] and not report["versions"]
    assert report["now"]["mask_sha256"] == report["then"]["mask_sha256"] is not None
    _a_difference_is_seen(bundle, bundle.with_name("other.zip"), capsys)


def test_what_is_no_bundle(tmp_path: Path, bundle: Path, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    capsys.readouterr()
    # The host of this run answered without a typed result: that is no success.
    assert main(["models", "replay", str(bundle)]) == 1
    assert json.loads(capsys.readouterr().out)["differences"] == ["nothing was recorded to compare with"]
    rubbish = tmp_path / "rubbish.zip"
    rubbish.write_bytes(b"PK\3\4 nothing")
    assert main(["models", "replay", str(rubbish)]) != 0
    words = ["--config", str(bench.config), "models", "debug-bundle"]
    assert main([*words, "1", "--out", str(bundle)]) != 0  # nothing is written over
    assert main([*words, "77", "--out", str(tmp_path / "new.zip")]) != 0
    assert not (tmp_path / "new.zip").exists()
