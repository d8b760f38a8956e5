"""The offline bundle: everything a host without internet needs, with digests and a signature."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from release.components import Component, from_wheels
from release.licences import notice, objections
from release.sbom import bill_of_materials
from release.version import version_of

ROOT = Path(__file__).resolve().parent.parent
_PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


class BundleRefused(Exception):
    """What would be shipped must not be."""


def build_wheel(tree: Path, version: str, folder: Path, *, isolated: bool = True) -> Path:
    """Build the product's wheel out of the files that git tracks in ``tree``, with ``version`` as its version."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        listed = subprocess.run(["git", "-C", str(tree), "ls-files", "-z"], capture_output=True, check=True).stdout
        for name in listed.decode().split("\0"):
            if name and not name.startswith(("tests/", "docs/")) and (tree / name).is_file():
                target = source / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(tree / name, target)
        project = source / "pyproject.toml"
        text = re.sub(r'^version = ".*"$', f'version = "{version}"', project.read_text(), count=1, flags=re.MULTILINE)
        project.write_text(text, encoding="utf-8")
        isolation = [] if isolated else ["--no-build-isolation"]
        subprocess.run([*_PIP, "wheel", "--no-deps", *isolation, "-w", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("ainode-*.whl")
    return wheel


def download(tree: Path, wheel: Path, folder: Path, *, extras: Sequence[str] = ()) -> None:
    """Fetch every wheel the product needs, in the tested versions, and pip itself."""
    wanted = f"{wheel}[{','.join(extras)}]" if extras else str(wheel)
    constraints = ["-c", str(tree / "constraints.txt")]
    subprocess.run(
        [*_PIP, "download", "--only-binary", ":all:", *constraints, "-d", str(folder), wanted, "pip"], check=True
    )


def assemble(tree: Path, wheels: Path, version: str, folder: Path, *, key: Path | None = None) -> list[Component]:
    """Lay out a bundle in ``folder``, which holds nothing yet; sign it where there is a key.

    Raises
    ------
    BundleRefused
        A licence that may not be shipped.
    """
    components = from_wheels(wheels)
    if refused := objections(components):
        raise BundleRefused("; ".join(refused))
    folder.mkdir(parents=True)
    shutil.copytree(wheels, folder / "wheels")
    shutil.copytree(tree / "docs", folder / "doc", ignore=shutil.ignore_patterns("*.png"))
    shutil.copytree(tree / "config", folder / "config")
    shutil.copytree(tree / "systemd", folder / "systemd", ignore=shutil.ignore_patterns("*.sh"))
    for name in ("install.sh", "verify.sh"):
        shutil.copy2(tree / "systemd" / name, folder / name)
    for name in ("LICENSE", "SECURITY.md"):
        shutil.copyfile(tree / name, folder / name)
    (folder / "VERSION").write_text(version + "\n")
    (folder / "NOTICE").write_text(notice(components), encoding="utf-8")
    (folder / "requirements.lock").write_text(_lock(components))
    bill = json.dumps(bill_of_materials(components), indent=2, ensure_ascii=False)
    (folder / "sbom.cdx.json").write_text(bill, encoding="utf-8")
    _seal(folder, key)
    return components


def pack(folder: Path, archive: Path) -> None:
    """One file out of a bundle's folder. Wheels are compressed already."""
    with tarfile.open(archive, "w") as made:
        made.add(folder, folder.name, filter=_nobodys)


def _nobodys(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def _lock(components: Sequence[Component]) -> str:
    """Exactly these wheels, by digest; pip installs itself from beside them and is none of them."""
    lines = [f"{each.key}=={each.version} --hash=sha256:{each.sha256}" for each in components if each.key != "pip"]
    return "\n".join(lines) + "\n"


def _seal(folder: Path, key: Path | None) -> None:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (folder / "SHA256SUMS").write_text(sums)
    if key is not None:
        sign = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", str(key), "-in", str(folder / "SHA256SUMS")]
        subprocess.run([*sign, "-out", str(folder / "SHA256SUMS.sig")], check=True)


def main(arguments: list[str]) -> int:
    """``python -m release.bundle --out DIR [--key KEY] [--wheels DIR] [--extra NAME]``."""
    parser = argparse.ArgumentParser(prog="release.bundle")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--key", type=Path, help="ed25519 private key (PEM); without it the bundle is not signed")
    parser.add_argument("--wheels", type=Path, help="wheels downloaded before; else they are fetched")
    parser.add_argument("--extra", action="append", default=[], help="an extra of pyproject.toml, as cluster")
    given = parser.parse_args(arguments)
    version = version_of(ROOT)
    folder = given.out / f"ainode-{version}"
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        wheels = Path(scratch) / "wheels"
        wheels.mkdir()
        wheel = build_wheel(ROOT, version, wheels)
        if given.wheels is not None:
            for path in given.wheels.glob("*.whl"):
                shutil.copyfile(path, wheels / path.name)
        else:
            download(ROOT, wheel, wheels, extras=given.extra)
        try:
            assemble(ROOT, wheels, version, folder, key=given.key)
        except BundleRefused as error:
            print(f"not built: {error}", file=sys.stderr)
            return 1
    archive = folder.with_name(f"{folder.name}.tar")
    pack(folder, archive)
    print(f"{archive} ({archive.stat().st_size // 1024**2} MiB, {'signed' if given.key else 'NOT SIGNED'})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
