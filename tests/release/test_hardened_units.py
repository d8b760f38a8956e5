"""systemd's own judgement of the units, and that they agree with the program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from node.cli import COMMANDS
from node.commands import run
from node.settings import Settings
from node.units import wanted_units

ROOT = Path(__file__).resolve().parents[2]
SYSTEMD = ROOT / "systemd"
SERVICES = sorted(path.name for path in SYSTEMD.glob("*.service"))
LIMIT = 2.0


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder with the units where the install script puts them."""
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI"):
            pytest.fail("systemd-analyze is missing: apt-get install systemd")
        pytest.skip("systemd-analyze is missing")
    root = tmp_path_factory.mktemp("root")
    units = root / "usr/lib/systemd/system"
    shutil.copytree(SYSTEMD, units)
    for name in ("sysinit.target", "basic.target", "shutdown.target", "network-online.target", "local-fs.target"):
        (units / name).write_text("[Unit]\n")
    for program in ("opt/ainode/current/bin/ainode", "usr/bin/flock", "bin/true"):
        (root / program).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2("/bin/true", root / program)
    return root


@pytest.mark.parametrize("name", SERVICES)
def test_exposure(tree: Path, name: str) -> None:
    instance = name.replace("@.", "@1.")
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--root={tree}", instance]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= LIMIT, done.stdout


def test_units_are_well_formed(tree: Path) -> None:
    names = [name.replace("@.", "@1.") for name in SERVICES]
    words = [
        "systemd-analyze",
        "verify",
        f"--root={tree}",
        "--man=no",
        *names,
        "ainode-receiver.socket",
        "ainode.target",
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    ours = [
        line for line in (done.stdout + done.stderr).splitlines() if "ainode" in line and "Failed to create" not in line
    ]
    assert ours == []


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_starts_what_there_is(name: str) -> None:
    for words in re.findall(r"bin/ainode (.*)", (SYSTEMD / name).read_text()):
        command, *rest = words.split()
        assert command in COMMANDS
        if command == "run":
            assert rest[0] in {each.callback.__name__ for each in run.app.registered_commands if each.callback}
            assert "Type=notify" in (SYSTEMD / name).read_text() and "WatchdogSec=" in (SYSTEMD / name).read_text()


def test_every_unit_that_a_configuration_can_ask_for_is_there() -> None:
    everything = Settings.model_validate(
        {
            "node": {"data_dir": "/nowhere"},
            "jobs": {"dispatchers": 2},
            "web": {"enabled": True},
            "hl7": {"enabled": True},
            "canary": {"enabled": True},
            "destination": {
                "pacs": {
                    "ae_title": "PACS",
                    "host": "pacs.hospital",
                    "port": 104,
                    "availability": {"ae_title": "RIS", "host": "ris.hospital", "port": 104},
                }
            },
        }
    )
    units = wanted_units(everything)
    asked = {re.sub(r"@\d+\.", "@.", name) for name in units}
    there = {path.name for pattern in ("*.service", "*.socket") for path in SYSTEMD.glob(pattern)}
    # The TLS port needs a certificate; the first service comes with the others.
    assert there - asked == {"ainode-receiver-tls.socket", "ainode-prepare.service"} and asked <= there
    assert units["ainode-receiver.socket"] == "127.0.0.1:11112"
    assert "ainode-dispatcher@2.service" in units


def test_model_workers_have_no_network_and_nobody_has_a_capability() -> None:
    common = (SYSTEMD / "ainode-.service.d" / "50-ainode.conf").read_text()
    assert "\nCapabilityBoundingSet=\n" in common and "\nLimitCORE=0\n" in common and "\nUser=ainode\n" in common
    for path in SYSTEMD.glob("ainode-dispatcher*.service"):
        text = path.read_text()
        assert (
            "\nPrivateNetwork=yes\n" in text and "RestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX\n" in text
        )


def test_a_user_of_model_hosts_costs_the_dispatcher_three_capabilities_and_nobody_else_any(tree: Path) -> None:
    place = tree / "etc/systemd/system"
    for unit, part in (("ainode-.service", "common"), ("ainode-dispatcher@.service", "dispatcher")):
        (place / f"{unit}.d").mkdir(parents=True)
        shutil.copy(SYSTEMD / "model-user" / f"{part}.conf", place / f"{unit}.d" / "60-model-user.conf")
    try:
        test_units_are_well_formed(tree)
        words = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--root={tree}"]
        told = {
            name: subprocess.run([*words, name], capture_output=True, text=True, timeout=60, check=False).stdout
            for name in ("ainode-dispatcher@1.service", "ainode-receiver.service")
        }
    finally:
        shutil.rmtree(place)
    found = {name: re.search(r"exposure level for \S+: ([\d.]+)", text) for name, text in told.items()}
    print({name: each and each[1] for name, each in found.items()})
    assert all(each and float(each[1]) <= LIMIT for each in found.values()), told
    assert "✗ AmbientCapabilities=" in told["ainode-dispatcher@1.service"]
    assert "✓ AmbientCapabilities=" in told["ainode-receiver.service"]
