"""The Debian package: the offline bundle, installed by its own script when the package is configured.

The package brings the same files and runs the same ``install.sh`` as the bundle, so that an upgrade by apt keeps the version
before it for ``ainode-setup rollback``, and hosts of both kinds are alike.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_HOME = "usr/share/ainode/bundle"

_CONTROL = """\
Package: ainode
Version: {version}
Section: science
Priority: optional
Architecture: amd64
Maintainer: The ainode authors <maintainers@ainode.invalid>
Installed-Size: {size}
Depends: python3 (>= 3.11), systemd (>= 249)
Recommends: openssl
Description: DICOM-native AI node for hospital networks
 Receives studies by C-STORE, runs ONNX models on them, and returns DICOM
 Segmentations and Structured Reports to the PACS by C-STORE with Storage
 Commitment. Needs no network for its installation.
 .
 The environment is made below /opt/ainode/VERSION when the package is
 configured; earlier versions stay there for "ainode-setup rollback".
"""

_POSTINST = f"""\
#!/bin/sh
set -e
if [ "$1" = configure ]; then sh /{_HOME}/install.sh install; fi
"""

_PRERM = """\
#!/bin/sh
set -e
if [ "$1" = remove ] && command -v ainode-setup > /dev/null; then ainode-setup remove; fi
"""

_COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: ainode

Files: *
Copyright: 2026 The ainode authors
License: Apache-2.0
 On Debian systems the text of the Apache License, Version 2.0 is in
 /usr/share/common-licenses/Apache-2.0. Every other component and its licence
 stands in /usr/share/ainode/bundle/NOTICE.
"""


def debian_version(version: str) -> str:
    """A version by PEP 440 as one of Debian: the same, in the characters that Debian allows."""
    return version.replace("_", "-").replace("!", ":")


def build(bundle: Path, out: Path) -> Path:
    """Make the package of an unpacked bundle; return its path."""
    version = debian_version((bundle / "VERSION").read_text().strip())
    package = out / f"ainode_{version}_amd64.deb"
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "ainode"
        shutil.copytree(bundle, tree / _HOME)
        documents = tree / "usr/share/doc/ainode"
        documents.mkdir(parents=True)
        (documents / "copyright").write_text(_COPYRIGHT)
        entry = f"ainode ({version}) unstable; urgency=medium\n\n  * See /{_HOME}/doc.\n\n"
        entry += " -- The ainode authors <maintainers@ainode.invalid>  Thu, 01 Jan 2026 00:00:00 +0000\n"
        (documents / "changelog.gz").write_bytes(gzip.compress(entry.encode(), mtime=0))
        control = tree / "DEBIAN"
        control.mkdir()
        size = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file()) // 1024
        (control / "control").write_text(_CONTROL.format(version=version, size=size))
        for name, content in (("postinst", _POSTINST), ("prerm", _PRERM)):
            (control / name).write_text(content)
            (control / name).chmod(0o755)
        for path in tree.rglob("*"):
            if path.is_dir() or path.suffix == ".sh":
                path.chmod(0o755)
            elif path.parent != control:
                path.chmod(0o644)
        # Wheels are compressed already.
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, package], check=True)
    return package


def main(arguments: list[str]) -> int:
    """``python -m release.deb BUNDLE_FOLDER [--out DIR]``."""
    parser = argparse.ArgumentParser(prog="release.deb")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    print(build(given.bundle, given.out or given.bundle.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
