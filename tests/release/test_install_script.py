"""docs/install.md's own commands below a folder of their own: installed without network, a study through, upgraded, back."""

from __future__ import annotations

import base64
import ensurepip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from release.bare_debian import blocks
from release.bundle import BundleRefused, assemble, build_wheel
from tests.network import wait_for
from tests.peers import free_port, require

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "install.md"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

# Stands for systemd: the target is the whole node, as a container runs it.
_SYSTEMCTL = """#!/bin/sh
case "$*" in
  *"--now ainode.target"* | "start ainode.target") setsid "$AINODE_ROOT/opt/ainode/current/bin/ainode" serve \\
      >> "$AINODE_ROOT/serve.log" 2>&1 < /dev/null & echo $! > "$AINODE_ROOT/serve.pid" ;;
  "stop ainode.target") kill "$(cat "$AINODE_ROOT/serve.pid")"
    while kill -0 "$(cat "$AINODE_ROOT/serve.pid")" 2> /dev/null; do sleep 0.2; done ;;
esac
"""


def bridge(folder: Path) -> None:
    """A wheel that lends the packages of this environment, so that nothing is fetched; all else is installed really."""
    name = "ainode_test_bridge-1.0"
    lent = {
        "ainode_test_bridge.pth": "\n".join([sysconfig.get_path("purelib"), *_lenders()]),
        f"{name}.dist-info/METADATA": "Metadata-Version: 2.1\nName: ainode-test-bridge\nVersion: 1.0\n"
        "License-Expression: MIT\n",
        f"{name}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        for path, content in lent.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{path},sha256={digest},{len(content)}")
            wheel.writestr(path, content)
        wheel.writestr(f"{name}.dist-info/RECORD", "\n".join([*rows, f"{name}.dist-info/RECORD,,"]) + "\n")


def _lenders() -> list[str]:
    """Folders that this environment borrows from itself."""
    found = []
    for path in Path(sysconfig.get_path("purelib")).glob("*.pth"):
        found += [line for line in path.read_text().splitlines() if line.endswith("site-packages")]
    return found


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("key")
    openssl = require("openssl")
    private = folder / "release.key"
    subprocess.run([openssl, "genpkey", "-algorithm", "ed25519", "-out", private], check=True, capture_output=True)
    subprocess.run([openssl, "pkey", "-in", private, "-pubout", "-out", folder / "ainode-release.pub"], check=True)
    return private


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, key: Path) -> list[Path]:
    """Two versions, signed."""
    pytest.importorskip("setuptools", minversion="69", reason="building a wheel without network needs setuptools")
    folder, made = tmp_path_factory.mktemp("bundles"), []
    for version in ("0.1.0+1.gtest", "0.1.0+2.gtest"):
        wheels = folder / f"wheels-{version}"
        wheels.mkdir()
        build_wheel(ROOT, version, wheels, isolated=False)
        bridge(wheels)
        (pip,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
        shutil.copyfile(pip, wheels / pip.name)
        assemble(ROOT, wheels, version, folder / f"ainode-{version}", key=key)
        made.append(folder / f"ainode-{version}")
    return made


def verify(bundle: Path, key: Path) -> subprocess.CompletedProcess[str]:
    words = ["sh", str(bundle / "verify.sh"), str(key.parent / "ainode-release.pub")]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_a_signature_is_checked_offline(bundles: list[Path], key: Path, tmp_path: Path) -> None:
    assert verify(bundles[0], key).returncode == 0
    for name, spoil, words in (
        ("changed", lambda folder: (folder / "install.sh").write_text("rm -rf /"), "CHANGED"),
        ("added", lambda folder: (folder / "wheels" / "evil.whl").write_text(""), "NOT SIGNED"),
        ("unsigned", lambda folder: (folder / "SHA256SUMS.sig").unlink(), "NOT SIGNED"),
        ("resigned", lambda folder: (folder / "SHA256SUMS").write_text(""), "NOT of this key"),
    ):
        spoilt = tmp_path / name
        shutil.copytree(bundles[0], spoilt)
        spoil(spoilt)
        refused = verify(spoilt, key)
        assert refused.returncode == 1 and words in refused.stderr, name
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", other / "k"], check=True, capture_output=True
    )
    subprocess.run(["openssl", "pkey", "-in", other / "k", "-pubout", "-out", other / "ainode-release.pub"], check=True)
    assert "NOT of this key" in verify(bundles[0], other / "k").stderr


def test_a_licence_that_may_not_be_shipped_stops_the_bundle(bundles: list[Path], tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    shutil.copytree(bundles[0] / "wheels", wheels)
    with zipfile.ZipFile(wheels / "x-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            "x-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: x\nVersion: 1.0\nLicense-Expression: GPL-3.0-only\n",
        )
    with pytest.raises(BundleRefused, match=r"x 1\.0: GPL-3\.0-only may not be shipped"):
        assemble(ROOT, wheels, "1", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


class Host:
    """A folder that stands for a host's root; the page's blocks run against it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "systemctl").write_text(_SYSTEMCTL)
        (folder / "bin" / "systemctl").chmod(0o755)
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("PYTHON", "AINODE", "VIRTUAL"))
            },
            "AINODE_ROOT": str(self.root),
            "AINODE_CONFIG": str(self.root / "etc/ainode/node.toml"),
            "PATH": f"{folder / 'bin'}:{self.root / 'usr/bin'}:{self.root / 'usr/sbin'}:{os.environ['PATH']}",
        }
        self.ports = {"11112": free_port(), "11113": free_port(), "11199": free_port()}

    def run(self, script: str, cwd: Path, *, offline: bool = False) -> str:
        """Run a block; its absolute paths and ports are this host's."""
        for name in ("/etc/ainode", "/opt/ainode", "/var/backups", "/tmp/ainode-try"):
            script = script.replace(name, f"{self.root}{name}")
        for port, own in self.ports.items():
            script = script.replace(port, str(own))
        words = ["bash", "-eux", "-c", script]
        if offline and os.geteuid() == 0 and shutil.which("unshare"):
            words = ["unshare", "--net", *words]
        with (self.root.parent / "out.txt").open("w+") as out:
            # A file, because a PACS left in the background keeps a pipe open.
            done = subprocess.run(
                words, cwd=cwd, env=self.environment, stdout=out, stderr=out, timeout=120, check=False
            )
            out.seek(0)
            text = out.read()
        assert done.returncode == 0, text[-5000:]
        return text


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    for name in ("serve.pid", "tmp/ainode-try/pacs.pid"):
        path = made.root / name
        if path.exists():
            try:
                os.killpg(int(path.read_text()), signal.SIGTERM)
            except ProcessLookupError:
                pass  # it has ended by itself


def states(host: Host) -> list[str]:
    command = [str(host.root / "usr/bin/ainode"), "deliveries", "--json"]
    done = subprocess.run(command, env=host.environment, capture_output=True, text=True, check=False)
    return [each["state"] for each in json.loads(done.stdout)] if done.returncode == 0 else []


def test_the_page(bundles: list[Path], host: Host) -> None:
    page, (first, later) = blocks(PAGE), bundles
    install, rest = page[""].split("ainode check-config", 1)
    archive = host.root.parent / "media"
    archive.mkdir()
    subprocess.run(["tar", "cf", archive / f"{first.name}.tar", "-C", first.parent, first.name], check=True)
    public = next(first.parent.parent.glob("key*/ainode-release.pub"))
    shutil.copyfile(public, archive / "ainode-release.pub")
    said = host.run(install, archive, offline=True)
    assert "verified: 0.1.0+1.gtest" in said
    config = host.root / "etc/ainode/node.toml"
    text = config.read_text()
    assert f'data_dir = "{host.root}/var/lib/ainode"' in text
    for port, own in host.ports.items():
        text = text.replace(port, str(own))
    config.write_text(text.replace("disk_reserve_bytes = 2147483648", "disk_reserve_bytes = 1000000"))
    # The site's own; an upgrade keeps it.
    configured = config.read_text()

    trial = f"ainode check-config{rest}"
    for written, here in (
        ("sleep 30", "sleep 1"),
        (
            "systemctl enable --now ainode.target",
            "systemctl enable --now ainode.target\nuntil ainode status > /dev/null 2>&1; do sleep 0.2; done",
        ),
        # The PACS in a session of its own, to be stopped with its children.
        ("/opt/ainode/current/bin/ainode pacs", "setsid /opt/ainode/current/bin/ainode pacs"),
        ("pacs.log 2>&1 &", "pacs.log 2>&1 & echo $! > pacs.pid"),
    ):
        assert written in trial
        trial = trial.replace(written, here)
    host.run(trial, host.root)
    wait_for(lambda: states(host) == ["committed"] * 2, "proof", seconds=60)
    address = (host.root / "etc/systemd/system/ainode-receiver.socket.d/10-address.conf").read_text()
    assert f"ListenStream=127.0.0.1:{host.ports['11112']}" in address

    assert "is installed already" in host.run("sh install.sh", first)
    host.run(page["backup"], host.root)
    host.run("systemctl stop ainode.target", host.root)
    said = host.run(page["upgrade"].replace("ainode status", ""), later, offline=True)
    assert "current: 0.1.0+2.gtest" in said and "previous: 0.1.0+1.gtest" in said and config.read_text() == configured
    assert len(list((host.root / "var/backups/ainode").glob("before-0.1.0+2.gtest-*/node.db"))) == 1
    assert host.run("ainode --version", host.root).splitlines()[-1] == "0.1.0+2.gtest"
    said = host.run(page["rollback"].replace("ainode status", ""), host.root)
    assert "current: 0.1.0+1.gtest" in said and "previous: 0.1.0+2.gtest" in said
    host.run(page["restore"].replace("systemctl stop ainode.target\n", ""), host.root)
    wait_for(lambda: states(host) == ["committed"] * 2, "the node after the restore", seconds=60)
    assert len(list((host.root / "tmp/ainode-try/pacs").rglob("*.dcm"))) == 2
    host.run("ainode ledger verify\nsystemctl stop ainode.target\nainode-setup remove", host.root)
    assert (host.root / "var/lib/ainode/node.db").exists() and not (host.root / "opt/ainode").exists()
