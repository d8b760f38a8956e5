"""The file system below a path, from a mount table."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.archive.file_system import file_system_type, is_network_file_system

TABLE = r"""/dev/sda1 / ext4 rw 0 0
server:/export /srv/data nfs4 rw 0 0
tmpfs /srv/data/fast tmpfs rw 0 0
//nas/share /mnt/with\040space cifs rw 0 0
sshfs#host: /mnt/ssh fuse.sshfs rw 0 0
/dev/sdb1 /mnt/over ext4 rw 0 0
server:/x /mnt/over nfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/home/x", "ext4", False),
        ("/srv/data/node.db", "nfs4", True),
        ("/srv/data/fast/node.db", "tmpfs", False),
        ("/srv/database/node.db", "ext4", False),
        ("/mnt/with space/node.db", "cifs", True),
        ("/mnt/ssh/a/b", "fuse.sshfs", True),
        ("/mnt/over/a", "nfs", True),
    ],
)
def test_longest_and_latest_mount_point_counts(tmp_path: Path, path: str, kind: str, network: bool) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(TABLE)
    found = file_system_type(Path(path), mounts=mounts)
    assert (found, is_network_file_system(found)) == (kind, network)


def test_no_table_no_verdict(tmp_path: Path) -> None:
    assert file_system_type(tmp_path, mounts=tmp_path / "absent") == ""


def test_this_machine(tmp_path: Path) -> None:
    assert not is_network_file_system(file_system_type(tmp_path))
