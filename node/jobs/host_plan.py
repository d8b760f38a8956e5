"""How this site's model hosts are started: as whom, in which room, and what they keep of this machine."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from node.confinement import landlock
from node.confinement.privileges import Account, account, popen_words, why_not_as
from node.confinement.shut_in import Confinement, Plan
from node.dicom.files import secret_files
from node.jobs.host_models import HostModels
from node.jobs.room import Room
from node.settings import Settings

_ROOMS = "rooms"
_TRY_SECONDS = 60.0
NOT_CONFINED = Confinement(gaps={"files": "model_host.confine is false", "network": "only Python refuses connections"})
"""What a host says that was not asked to shut itself in."""


class HostPlan:
    """What the hosts of one executor are to be.

    Parameters
    ----------
    settings : Settings

    Attributes
    ----------
    user : Account or None
        Whom hosts run as; None for our own user.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models = HostModels(settings.models.folders)
        self._seen: dict[Path, object] | None = None
        self.user: Account | None = None
        self._no_user = ""
        if settings.model_host.user:
            self._find_user(settings.model_host.user)

    def _find_user(self, name: str) -> None:
        try:
            wanted = account(name)
        except LookupError as error:
            self._no_user = str(error)
            return
        self._no_user = why_not_as(wanted) or _why_not_run_by(wanted)
        if not self._no_user:
            self.user = wanted

    def room(self) -> Room:
        """A new room, on the file system of spool and outbox."""
        if self.user is not None:
            self._open_way()
        # Before version 3 Landlock does not keep a file from being emptied, and a link is the spool's own file.
        unsafe = self._settings.model_host.confine and landlock.version() < landlock.GUARDS_TRUNCATION
        return Room(self._settings.data_dir / _ROOMS, user=self.user, copies=unsafe)

    def _open_way(self) -> None:
        """Let the hosts' user through to its room, and through only: whatever else is there is closed to others first."""
        data, rooms = self._settings.data_dir, self._settings.data_dir / _ROOMS
        rooms.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (data, rooms):
            for each in folder.iterdir():
                if each != rooms and not each.is_symlink() and (mode := each.stat().st_mode) & stat.S_IRWXO:
                    each.chmod(stat.S_IMODE(mode) & ~stat.S_IRWXO)
            folder.chmod(0o711)

    def words(self, room: Room, models: Sequence[str]) -> list[str]:
        """The plan as the last word of a host's command line; none where it is not to shut itself in.

        Parameters
        ----------
        models : sequence of str
            Names of the models that it is for. It sees no others.
        """
        if not self._settings.model_host.confine:
            return []
        folders = self.folders(models)
        self._seen = {each: _state(each) for each in folders}
        plan = Plan(
            readable=[room.inside, *(each.resolve() for each in folders)],
            writable=[room.outside, room.temporary],
            private=self._private(),
            user=self.user.name if self.user else "",
            no_user=self._no_user,
        )
        return [plan.model_dump_json()]

    def folders(self, models: Sequence[str]) -> list[Path]:
        """Where these models lie, and those that they are made of."""
        return self._models.folders_of(models)

    def outdated(self, models: Sequence[str]) -> bool:
        """Whether these models have folders that the running host cannot see. What it may see can never be more again."""
        if self._seen is None:
            return False
        return any(self._seen.get(each) != _state(each) for each in self.folders(models))

    def _private(self) -> list[Path]:
        settings = self._settings
        keys = [settings.receive.tls.key, *(each.tls.key for each in settings.destination.values() if each.tls)]
        files = [settings.source, *secret_files(settings), *keys]
        return [settings.data_dir.resolve(), *(each.resolve() for each in files if each is not None)]

    def as_user(self) -> dict[str, Any]:
        """Words for `subprocess.Popen`."""
        return {} if self.user is None else popen_words(self.user)


def _state(folder: Path) -> tuple[int, int] | None:
    """A folder that takes another one's place is another one to the kernel, whatever it is called."""
    try:
        about = folder.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino


def _why_not_run_by(user: Account) -> str:
    """Why a user cannot run this program; empty where it can."""
    words = [sys.executable, "-P", "-c", "import node.jobs.model_host"]
    try:
        done = subprocess.run(words, capture_output=True, check=False, timeout=_TRY_SECONDS, **popen_words(user))
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{user.name} cannot run {sys.executable} ({getattr(error, 'strerror', None) or 'it hangs'})"
    return f"{user.name} cannot read this program's files" if done.returncode else ""
