"""Which file system a path lies on."""

from __future__ import annotations

from pathlib import Path

MOUNTS = Path("/proc/self/mounts")

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "ceph", "glusterfs", "lustre", "gpfs", "beegfs"}
    | {"orangefs", "pvfs2", "davfs", "ocfs2", "gfs2", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs"}
    | {"fuse.rclone", "fuse.gcsfuse", "fuse.davfs", "fuse.beegfs", "fuse.moosefs", "fuse.mfs", "fuse.juicefs"}
)
"""Types whose locks or shared memory cannot be trusted between machines, as they stand in the mount table."""


def file_system_type(path: Path, *, mounts: Path = MOUNTS) -> str:
    """Type of the file system on which ``path`` lies or would be created; empty where the system does not tell.

    Parameters
    ----------
    path : Path
        Need not exist.
    mounts : Path
        Mount table in the form of fstab(5).
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # no mount table: not Linux
        return ""
    target = path.resolve()
    found, longest = "", -1
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_unescaped(fields[1]))
        # Later lines hide earlier ones on the same mount point.
        if target.is_relative_to(point) and len(point.parts) >= longest:
            found, longest = fields[2], len(point.parts)
    return found


def is_network_file_system(kind: str) -> bool:
    """Whether SQLite must not be trusted with a file on a file system of this type."""
    return kind in NETWORK_FILE_SYSTEMS


def _unescaped(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
