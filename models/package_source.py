"""A package as it came: a tar file or a folder, read file by file; links and anything that is no plain file are refused."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from models.errors import PackageInvalid
from models.manifest import LARGEST_TEXT


class PackageSource(Protocol):
    """The files of a package, by their path below its folder, with ``/``."""

    def names(self) -> set[str]:
        """Every file there is."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """One of them. Raises PackageInvalid where it is not there."""
        ...

    def text(self, name: str) -> bytes:
        """All of a small one. Raises PackageInvalid where it is not there or too large."""
        ...


@contextmanager
def opened(package: Path) -> Iterator[PackageSource]:
    """A package, while it is read.

    Raises
    ------
    PackageInvalid
        It is neither a folder nor a tar file, is cut short, or holds more than plain files.
    """
    if package.is_dir():
        yield _Folder(package)
        return
    try:
        # Without compression: what a file says of its size is what it takes.
        with tarfile.open(package, "r:") as archive:
            yield _Archive(archive, package.name)
    except (tarfile.TarError, EOFError, FileNotFoundError, PermissionError) as error:
        raise PackageInvalid(f"{package.name} cannot be read as a tar file: {error}") from error


def _all(stream: IO[bytes], name: str) -> bytes:
    content = stream.read(LARGEST_TEXT + 1)
    if len(content) > LARGEST_TEXT:
        raise PackageInvalid(f"{name} has more than {LARGEST_TEXT} bytes")
    return content


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Path] = {}
        for path in folder.rglob("*"):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise PackageInvalid(f"{name} is a link, or no plain file")
            if path.is_file():
                self._files[name] = path

    def names(self) -> set[str]:
        return set(self._files)

    def open(self, name: str) -> IO[bytes]:
        if name not in self._files:
            raise PackageInvalid(f"there is no {name} in it")
        return self._files[name].open("rb")

    def text(self, name: str) -> bytes:
        with self.open(name) as stream:
            return _all(stream, name)


class _Archive:
    """Everything lies below one folder, whatever its name."""

    def __init__(self, archive: tarfile.TarFile, package: str) -> None:
        self._archive = archive
        self._members: dict[str, tarfile.TarInfo] = {}
        tops = set()
        for member in archive:
            path = PurePosixPath(member.name)
            tops.add(path.parts[0] if path.parts else "")
            if member.isdir():
                continue
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
                raise PackageInvalid(f"{package}: {path.name} is a link, or no plain file")
            name = "/".join(path.parts[1:])
            if not name or name in self._members:
                raise PackageInvalid(f"{package}: {path.name} lies beside the package's folder, or is there twice")
            self._members[name] = member
        if len(tops) != 1:
            raise PackageInvalid(f"{package} holds {len(tops)} folders; a package is one")

    def names(self) -> set[str]:
        return set(self._members)

    def open(self, name: str) -> IO[bytes]:
        stream = self._archive.extractfile(self._members[name]) if name in self._members else None
        if stream is None:
            raise PackageInvalid(f"there is no {name} in it")
        return stream

    def text(self, name: str) -> bytes:
        with self.open(name) as stream:
            return _all(stream, name)
