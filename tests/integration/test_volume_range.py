"""The range of a volume over decision thresholds, from the images of a study to the objects that come out."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr.phantom_study import write_phantom_study
from models.phantom import make_phantom
from models.registry import Registry
from models.report_facts import format_ml, format_range
from models.volume_range import range_ml
from node.accounts.roles import Role
from node.archive import tables
from node.archive.engine import open_store
from node.cli import main
from node.settings import Settings
from tests.console import STUDY, fill, signed_in
from tests.peers import require

pytest_plugins = ["tests.store_fixtures"]

SEED = 1003
VOLUME, UPPER, LOWER = "118565006", "371886008", "371885007"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ainode process` makes of a phantom."""
    folder = tmp_path_factory.mktemp("range")
    (folder / "study").mkdir()
    write_phantom_study(make_phantom(SEED), folder / "study", seed=SEED)
    assert main(["process", str(folder / "study"), "--out", str(folder / "out")]) == 0
    return folder / "out"


def _named(item: Dataset, code: str) -> list[Dataset]:
    return [
        each
        for each in item.get("ContentSequence", [])
        if "ConceptNameCodeSequence" in each and each.ConceptNameCodeSequence[0].CodeValue == code
    ]


def _all(item: Dataset, code: str) -> list[Dataset]:
    below = [found for each in item.get("ContentSequence", []) for found in _all(each, code)]
    return [*_named(item, code), *below]


def _value(item: Dataset) -> float:
    return float(item.MeasuredValueSequence[0].NumericValue)


def test_the_report_holds_each_lesions_range_and_the_text_the_whole(objects: Path) -> None:
    report = dcmread(objects / "measurements.dcm")
    volumes = _all(report, VOLUME)
    read = []
    for number in volumes:
        # What other thresholds would have given is no measurement uncertainty, and is not coded as one.
        assert not _named(number, UPPER) and not _named(number, LOWER)
        words = [str(each.TextValue) for each in _all(number, "111002") or _named(number, "111002")]
        (said,) = [each for each in words if each.startswith("interval=")]
        assert "volume over decision thresholds" in said and "no confidence interval" in said
        found = re.match(r"interval=(\S+) to (\S+) mL ", said)
        assert found
        read.append((float(found.group(1)), _value(number), float(found.group(2))))
    # The same from the images alone, without DICOM: the scanner's integers change little.
    phantom = make_phantom(SEED)
    result = Registry(threads=1).get("infarct-adc-baseline").run({"dwi": phantom.dwi, "adc": phantom.adc}, {})
    assert result.segmentation is not None
    expected = [(range_ml(each.quantities), each.volume_ml) for each in result.segmentation.regions]
    assert len(read) == len(expected) >= 2
    for (low, volume, high), (limits, volume_ml) in zip(sorted(read), sorted(expected), strict=True):
        assert limits is not None and low <= volume <= high and low < high
        assert (low, volume, high) == pytest.approx((limits[0], volume_ml, limits[1]), rel=0.05, abs=0.1)
    text = "\n".join(str(each.TextValue) for each in _all(dcmread(objects / "text-en.dcm"), "121071"))
    for low, _, high in read:
        assert f"({format_range((low, high), ' to ')} mL over decision thresholds)" in text


@pytest.mark.peer
def test_a_validator_of_others_takes_the_report(objects: Path) -> None:
    done = subprocess.run(
        [require("dciodvfy"), "-filename", str(objects / "measurements.dcm")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line]


def test_same_images_same_ranges(objects: Path, tmp_path: Path) -> None:
    assert main(["process", str(objects.parent / "study"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "measurements.dcm").read_bytes() == (objects / "measurements.dcm").read_bytes()


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
def test_console_api_and_lists_say_the_range(
    objects: Path, store_settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, out = str(objects.parent / "study"), str(tmp_path / "out")
    capsys.readouterr()
    assert main(["process", study, "--out", out, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    low, high = result["total_range_ml"]
    assert low <= result["total_ml"] <= high and low < high
    assert all(each["range_ml"][0] <= each["volume_ml"] <= each["range_ml"][1] for each in result["regions"])
    with closing(open_store(store_settings)) as store:
        job = fill(store)
        with store.write() as connection:
            done = tables.jobs.update().where(tables.jobs.c.id == job)
            connection.execute(done.values(state="done", result=result, ended_at=2.0))
        client = signed_in(store_settings, store, Role.VIEWER)
        page = client.get(f"/study/{STUDY}", headers={"Accept-Language": "en"}).text
        said = f"({format_range((low, high), ' to ')} mL over decision thresholds)"
        assert f"{format_ml(result['total_ml'])} mL" in page and said in page
        for each in result["regions"]:
            assert f"{each['label']}: {format_ml(each['volume_ml'])} mL" in page
            assert format_range(each["range_ml"], " to ") in page
        japanese = client.get(f"/study/{STUDY}", headers={"Accept-Language": "ja"}).text
        assert f"判定閾値による範囲 {format_range((low, high), '〜')} mL" in japanese
        (told,) = client.get("/api/v1/jobs").json()
        assert (told["job"], told["total_range_ml"]) == (job, [low, high])
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata_dir = "{store_settings.data_dir}"\n')
    for command in ("jobs", "studies"):
        capsys.readouterr()
        assert main(["--config", str(config), command, "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        (volume,) = row["volumes"] if command == "studies" else [row]
        assert (volume["total_ml"], volume["total_range_ml"]) == (result["total_ml"], [low, high])
    assert main(["--config", str(config), "jobs"]) == 0
    assert f"{low:.2f} to {high:.2f}" in capsys.readouterr().out
