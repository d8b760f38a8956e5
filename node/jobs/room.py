"""The room of a model host: the one place that it may write to, and the one where it finds the study of its job.

ROOM/in/      links to the study's files (copies, where a link would not be safe); emptied after each job; read-only
ROOM/out/     what the job writes; moved to its place by us
ROOM/tmp/     temporary files, caches of libraries
ROOM/program/ where a program of an external model is started, out of the host's reach
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from node.confinement.privileges import Account
from node.errors import HostUntrusted
from node.jobs.specification import JobSpec, ResultBundle

# Paths that are the site's and not of a study.
_NOT_OF_A_STUDY = frozenset({"model_folders", "output_dir", "external"})
_NAME_LENGTH = 120


class Room:
    """A room, for the life of one host.

    Parameters
    ----------
    parent : Path
        Folder on the file system of spool and outbox; made where it is not there.
    user : Account or None
        Whom the host runs as; None for the node's own user.
    copies : bool
        Copy files instead of linking them. A link shares the file's content: where the host could change that, it must
        not have one.
    """

    def __init__(self, parent: Path, *, user: Account | None = None, copies: bool = False) -> None:
        self._user, self._copies = user, copies or user is not None
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(parent)
        self.path = Path(tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}-", dir=parent)).resolve()
        self.inside, self.outside, self.temporary, self.program = (
            self.path / name for name in ("in", "out", "tmp", "program")
        )
        for each in (self.inside, self.outside, self.temporary, self.program):
            each.mkdir(mode=0o700)
        if user is not None:
            self._open(self.path, 0o710)
            self._open(self.inside, 0o750)
            self._open(self.outside, 0o2770)
            self._open(self.temporary, 0o2770)
            self._open(self.program, 0o2770)

    def _open(self, path: Path, mode: int) -> None:
        assert self._user is not None
        os.chown(path, -1, self._user.gid)
        path.chmod(mode)

    def admit(self, spec: JobSpec) -> JobSpec:
        """The job with its files where the host finds them, and nothing else of any study beside them."""
        self.clear()
        paths = sorted(set(_paths(spec)))
        places = {path: self._bring(path, number) for number, path in enumerate(paths)}
        moved = _moved(spec, places)
        assert isinstance(moved, JobSpec)
        return moved.model_copy(update={"output_dir": self.outside})

    def _bring(self, path: Path, number: int) -> Path:
        # In the order of their old names: nothing may depend on where a file lies, and nothing does.
        place = self.inside / f"{number:06d}-{path.name[-_NAME_LENGTH:]}"
        try:
            if self._copies:
                self._copy(path, place)
                return place
            try:
                os.link(path, place)
            except OSError:
                if not path.exists():
                    raise
                self._copy(path, place)  # on another file system, or one that knows no links
        except FileNotFoundError:
            pass  # whoever wants to read it says what its absence means
        return place

    def _copy(self, path: Path, place: Path) -> None:
        shutil.copyfile(path, place)
        if self._user is not None:
            self._open(place, 0o640)
        else:
            place.chmod(0o400)

    def collect(self, bundle: ResultBundle, folder: Path) -> ResultBundle:
        """Move what the host wrote to ``folder``, and say so in its answer.

        Raises
        ------
        HostUntrusted
            It names something else than a plain file that it wrote.
        """
        objects = [each.model_copy(update={"path": self._fetch(each.path, folder)}) for each in bundle.objects]
        stored = bundle.stored and bundle.stored.model_copy(update={"path": self._fetch(bundle.stored.path, folder)})
        return bundle.model_copy(update={"objects": objects, "stored": stored})

    def _fetch(self, path: Path, folder: Path) -> Path:
        try:
            within = path.relative_to(self.outside)
            plain = path.resolve(strict=True) == path and stat.S_ISREG(path.lstat().st_mode)
        except (ValueError, OSError):
            plain = False
        if not plain:
            raise HostUntrusted("the model host names a file that it did not write in its own folder")
        target = folder / within
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._user is None:
            path.replace(target)
        else:
            _own_copy(path, target)
        return target

    def clear(self) -> None:
        """Take away what the last job had and wrote."""
        for folder in (self.inside, self.outside, self.program):
            for each in folder.iterdir():
                if each.is_dir() and not each.is_symlink():
                    shutil.rmtree(each, ignore_errors=True)
                else:
                    each.unlink(missing_ok=True)

    def remove(self) -> None:
        """Take the room away, once its host is gone."""
        shutil.rmtree(self.path, ignore_errors=True)


def _prefix() -> str:
    """How names of rooms of this machine begin: a cluster's machines share the folder."""
    return f"host-{''.join(each for each in socket.gethostname()[:24] if each.isalnum())}-"


def _sweep(parent: Path) -> None:
    """Take rooms away whose dispatcher is gone: their links would keep images that retention has removed."""
    for path in parent.glob(f"{_prefix()}*"):
        number = path.name.removeprefix(_prefix()).partition("-")[0]
        if number.isdigit() and not _lives(int(number)):
            shutil.rmtree(path, ignore_errors=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # under another user
    return True


def _own_copy(path: Path, target: Path) -> None:
    """A synced copy that belongs to us; what is opened is what was looked at."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(file.fileno())


def _paths(value: Any) -> Iterator[Path]:
    """Every path of a study in a message."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            if name not in _NOT_OF_A_STUDY:
                yield from _paths(getattr(value, name))
    elif isinstance(value, list):
        for each in value:
            yield from _paths(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _paths(each)


def _moved(value: Any, places: dict[Path, Path]) -> Any:
    """The same message with other paths."""
    if isinstance(value, Path):
        return places[value]
    if isinstance(value, BaseModel):
        names = [name for name in type(value).model_fields if name not in _NOT_OF_A_STUDY]
        return value.model_copy(update={name: _moved(getattr(value, name), places) for name in names})
    if isinstance(value, list):
        return [_moved(each, places) for each in value]
    if isinstance(value, dict):
        return {name: _moved(each, places) for name, each in value.items()}
    return value
