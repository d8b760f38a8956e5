"""``package.json``: what a package of a model holds, each file by SHA-256 and size, and the check of both while copying."""

from __future__ import annotations

import hashlib
import json
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.card import Sha256, lies_inside
from models.errors import DigestMismatch, PackageInvalid

MANIFEST_FILE, REPORT_FILE = "package.json", "import.json"
LARGEST_TEXT = 4 << 20
"""Bytes of a manifest or a report."""
_CHUNK = 1 << 20


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PackagedFile(_Strict):
    """A file of a package: SHA-256 (hex) and size in bytes."""

    sha256: Sha256
    size: int = Field(ge=0)

    @classmethod
    def of(cls, content: bytes) -> PackagedFile:
        """Of bytes that are there already."""
        return cls(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


class Manifest(_Strict):
    """``package.json``.

    Attributes
    ----------
    model, version : str
        As in the card.
    digest : str
        The model's digest (:func:`models.card.model_digest`), which a site approves.
    needs : tuple of str
        Ids of models it is made of, which are packages of their own.
    files : dict
        Every other file of the package, by its path from the package's folder, with ``/``.
    """

    format: Literal[1] = 1
    model: str
    version: str
    digest: Sha256
    needs: tuple[str, ...] = ()
    files: dict[str, PackagedFile]

    def encoded(self) -> bytes:
        """As it stands in the package."""
        return (json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def read(cls, content: bytes) -> Manifest:
        """Raises PackageInvalid where it is none, or names a file outside of the package."""
        try:
            found = cls.model_validate_json(content)
        except ValidationError as error:
            raise PackageInvalid(f"{MANIFEST_FILE}: {error.errors()[0]['msg']}") from error
        for name in found.files:
            if name == MANIFEST_FILE or not lies_inside(name):
                raise PackageInvalid(f"{MANIFEST_FILE} names {name!r}, which no package holds")
        return found


class CheckedReader:
    """Reads a file of a package; what was read is held against its digest and size.

    Parameters
    ----------
    stream : binary stream
    name : str
        Of the file, for the message.
    facts : PackagedFile
    """

    def __init__(self, stream: IO[bytes], name: str, facts: PackagedFile) -> None:
        self._stream = stream
        self._name = name
        self._facts = facts
        self._digest = hashlib.sha256()
        self._size = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes, ``size`` at most."""
        content = self._stream.read(size)
        self._digest.update(content)
        self._size += len(content)
        return content

    def copy(self, target: IO[bytes]) -> None:
        """Write everything to ``target``. Raises as :meth:`require`; stops as soon as there is more than there should be."""
        while self._size <= self._facts.size and (content := self.read(_CHUNK)):
            target.write(content)
        self.require()

    def require(self) -> None:
        """Raise DigestMismatch unless exactly the bytes of that digest were read."""
        if self._size != self._facts.size or self._digest.hexdigest() != self._facts.sha256:
            raise DigestMismatch(f"{self._name} differs from the digest in {MANIFEST_FILE}", file=self._name)
