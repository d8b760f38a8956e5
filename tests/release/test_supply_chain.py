"""The licence gate over what runs, the bill of materials, the wheels' tags, the version, the container's recipe."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path

import pytest

from release.bare_debian import blocks
from release.components import Component, installed_closure
from release.licences import licence_of, notice, objections
from release.sbom import bill_of_materials
from release.version import version_of
from release.wheel_tags import unfit

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def closure() -> list[Component]:
    return installed_closure("ainode")


def component(name: str, *headers: tuple[str, str]) -> Component:
    metadata = Message()
    for key, value in headers:
        metadata[key] = value
    return Component(name, "1.0", metadata)


def test_nothing_that_runs_has_a_licence_that_may_not_be_shipped(closure: list[Component]) -> None:
    assert len(closure) > 30
    assert objections(closure) == []


@pytest.mark.parametrize(
    ("headers", "objection"),
    [
        ([("License-Expression", "GPL-3.0-or-later")], "may not be shipped"),
        ([("License-Expression", "MIT OR AGPL-3.0-only")], "may not be shipped"),
        ([("Classifier", "License :: OSI Approved :: GNU General Public License v3 (GPLv3)")], "may not be shipped"),
        ([("License-Expression", "Artistic-2.0")], "is on no list"),
        ([("License", "see the file")], "no licence"),
        ([("License-Expression", "MIT AND (BSD-3-Clause OR ISC)")], ""),
        ([("Classifier", "License :: OSI Approved :: MIT License")], ""),
    ],
)
def test_the_gate(headers: list[tuple[str, str]], objection: str) -> None:
    found = objections([component("x", *headers)])
    assert (not objection and found == []) or (len(found) == 1 and objection in found[0])


def test_the_bill_names_everything_once_and_what_needs_what(closure: list[Component]) -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    bill = bill_of_materials(closure, moment=moment)
    assert bill == bill_of_materials(closure, moment=moment)
    assert bill["metadata"]["component"]["name"] == "ainode"
    names = [each["name"].lower() for each in bill["components"]]
    assert len(names) == len(set(names)) == len(closure) - 1
    assert {"pydicom", "pynetdicom", "numpy"} <= set(names) and "torch" not in names
    references = {each["bom-ref"] for each in [*bill["components"], bill["metadata"]["component"]]}
    for each in bill["dependencies"]:
        assert each["ref"] in references and set(each["dependsOn"]) <= references
    assert all(each["licenses"][0]["expression"] for each in bill["components"])


def test_the_bill_is_valid(closure: list[Component]) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed")
    schema = pytest.importorskip("cyclonedx.schema")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_5)
    assert validator.validate_str(json.dumps(bill_of_materials(closure))) is None


def test_the_notice_has_every_component_and_licence(closure: list[Component]) -> None:
    text = notice(closure)
    for each in closure[1:]:
        if each.key != "ainode":
            assert f"{each.name} {each.version}: {licence_of(each)}" in text


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("numpy-2.0-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", True),
        ("pydicom-3.0-py3-none-any.whl", True),
        ("simpleitk-2.5-cp311-abi3-manylinux2014_x86_64.whl", True),
        ("old-1.0-cp39-abi3-manylinux_2_17_x86_64.whl", True),
        ("too_new-1.0-cp311-cp311-manylinux_2_35_x86_64.whl", False),
        ("too_new-1.0-cp312-abi3-manylinux_2_17_x86_64.whl", False),
        ("other-1.0-cp312-cp312-manylinux_2_17_x86_64.whl", False),
        ("other-1.0-cp311-cp311-manylinux_2_17_aarch64.whl", False),
        ("other-1.0-cp311-cp311-musllinux_1_2_x86_64.whl", False),
        ("other-1.0-cp311-cp311-win_amd64.whl", False),
    ],
)
def test_wheel_tags(name: str, fits: bool) -> None:
    assert (unfit(name, python=(3, 11), machine="x86_64") == "") is fits


def test_versions_grow_with_commits_and_are_the_tag_at_a_release(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    assert version_of(tmp_path) == "1.2.0"
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    assert re.fullmatch(r"1\.2\.0\+1\.g[0-9a-f]{8}", version_of(tmp_path))
    git("tag", "v1.2.0")
    assert version_of(tmp_path) == "1.2.0"
    git("commit", "-q", "--allow-empty", "-m", "two")
    assert version_of(tmp_path).startswith("1.2.0+2.g")


def test_the_page_has_the_blocks_that_the_run_on_a_bare_host_takes() -> None:
    page = blocks(ROOT / "docs" / "install.md")
    assert set(page) == {"", "upgrade", "rollback", "backup", "restore"}
    assert "sh install.sh" in page[""] and "systemctl enable --now ainode.target" in page[""]


def test_hadolint_has_nothing_against_the_containers_recipe() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, ROOT / "release" / "Containerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_containers_recipe() -> None:
    """The rules of hadolint that matter here; the recipe itself is not built in the suite."""
    text = (ROOT / "release" / "Containerfile").read_text()
    lines = [line for line in re.sub(r"\\\n", " ", text).splitlines() if line and not line.startswith("#")]
    stages = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert stages and all(":" in each and not each.endswith(":latest") for each in stages), "a base without a version"
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users and users[-1].partition(":")[0].isdigit() and users[-1].partition(":")[0] != "0", "runs as root"
    assert any(line.startswith("HEALTHCHECK ") for line in lines) and any(line.startswith("VOLUME ") for line in lines)
    entry = [line for line in lines if line.startswith(("ENTRYPOINT", "CMD"))]
    assert entry and all(json.loads(line.split(" ", 1)[1]) for line in entry), "shell form: signals get lost"
    installs = [line for line in lines if "pip" in line and "install" in line]
    assert installs and all("--require-hashes" in line and "--no-index" in line for line in installs)
    assert not re.search(r"\b(ADD|curl|wget|sudo|apt-get upgrade)\b", text)
    assert all(
        "--no-install-recommends" in line and "rm -rf /var/lib/apt/lists" in line
        for line in lines
        if "apt-get install" in line
    )
