"""An installed model as one self-contained, verifiable package: a tar file, or a folder that is a model folder by itself.

It holds the card, every file the card pins, and the import report, with ``package.json``, which names each by SHA-256 and
the whole by the model's digest. Nothing of the site that made it goes in: no approval, no path, no owner, no time, and no
file the card does not pin. The same model gives the same bytes.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from models.card import CARD_FILE, Card, file_digest, model_digest
from models.errors import DigestMismatch, PackageInvalid
from models.external_data import pinned_data
from models.manifest import LARGEST_TEXT, MANIFEST_FILE, REPORT_FILE, CheckedReader, Manifest, PackagedFile
from models.model import Model
from models.package_source import opened

SUFFIX = ".tar"
REPORT_KEYS = frozenset(
    {
        "system",
        "model",
        "checkpoint",
        "checkpoint_sha256",
        "keys",
        "missing",
        "unexpected",
        "unused",
        "weights",
        "graphs",
    }
)
"""What an import writes down; anything else in the report was put there by hand, and stays where it is."""


def write_package(model: Model, out: Path) -> Manifest:
    """Write an installed model as a package.

    Parameters
    ----------
    out : Path
        New file, ``….tar``, or else a new folder.

    Raises
    ------
    DigestMismatch
        A file of the model is not the pinned one; nothing is left behind.
    OutsideData
        A graph takes data from a file that is not pinned, so that the package would not be whole.
    PackageInvalid
        ``out`` exists, or the card pins a file by a name that a package uses itself.
    """
    if out.exists():
        raise PackageInvalid(f"{out.name} exists; name a new file or folder")
    model.verify()
    for graph in model.card.graphs.values():
        pinned_data(model.folder, model.card, model.folder / graph.file)
    manifest, report = _manifest(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Made beside its place and moved there whole: what is there is complete.
    with tempfile.TemporaryDirectory(prefix=".export-", dir=out.parent) as work:
        made = Path(work, "package")
        write = _write_tar if out.suffix == SUFFIX else _write_folder
        write(model.folder, manifest, report, made)
        made.rename(out)
    return manifest


def install_package(package: Path, folder: Path) -> Manifest:
    """Unpack a package into the new folder ``folder``, with every file as its manifest and its card say.

    Nothing is approved by it, and no graph is loaded.

    Raises
    ------
    PackageInvalid
        It is no package, holds something else than its manifest says, or ``folder`` exists.
    DigestMismatch
        A file differs from its digest.
    CardInvalid, OutsideData
        The card is not valid; a graph reaches beyond the package.
    """
    if folder.exists():
        raise PackageInvalid(f"{folder.name} exists; name a new folder, so that no installed model is replaced")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=folder.parent) as work, opened(package) as held:
        made = Path(work, "model")
        made.mkdir()
        manifest = Manifest.read(held.text(MANIFEST_FILE))
        if (names := held.names()) != {MANIFEST_FILE, *manifest.files}:
            other = sorted(names ^ {MANIFEST_FILE, *manifest.files})
            raise PackageInvalid(f"{package.name}: {', '.join(other[:5])}: in the package or in its manifest, not both")
        for name, facts in manifest.files.items():
            with held.open(name) as stream:
                _place(stream, made / name, facts)
        (made / MANIFEST_FILE).write_bytes(manifest.encoded())
        _require_as_stated(made, manifest)
        made.rename(folder)
    return manifest


def is_package(path: Path) -> bool:
    """Whether a path looks like one: nothing is checked."""
    return (path / MANIFEST_FILE).is_file() if path.is_dir() else path.is_file() and path.suffix == SUFFIX


def _manifest(model: Model) -> tuple[Manifest, bytes]:
    """What a package of ``model`` holds, and the report that goes with it; empty where there is none."""
    card = Card.load(model.folder)
    names = {CARD_FILE: file_digest(model.folder / CARD_FILE), **_pinned(card)}
    if taken := {MANIFEST_FILE, REPORT_FILE} & names.keys():
        raise PackageInvalid(f"{card.id}: the card pins {taken.pop()}, a name a package uses itself")
    files = {
        name: PackagedFile(sha256=sha256, size=(model.folder / name).stat().st_size) for name, sha256 in names.items()
    }
    if report := _report(model.folder / REPORT_FILE):
        files[REPORT_FILE] = PackagedFile.of(report)
    digest = model_digest(model.folder, card)
    made = Manifest(model=card.id, version=card.version, digest=digest, needs=model.members, files=files)
    return made, report


def _pinned(card: Card) -> dict[str, str]:
    """Name → digest of what the card pins, however its path is written there."""
    return {str(PurePosixPath(each.file)): each.sha256 for each in card.pinned}


def _report(path: Path) -> bytes:
    """The import report, of what imports write and nothing else."""
    if not path.is_file() or path.stat().st_size > LARGEST_TEXT:
        return b""
    try:
        content = json.loads(path.read_bytes())
        kept = {key: content[key] for key in content if key in REPORT_KEYS}
    except (ValueError, TypeError) as error:
        raise PackageInvalid(f"{path.name} is no import report: {error}") from error
    return (json.dumps(kept, indent=2) + "\n").encode()


def _streams(folder: Path, manifest: Manifest, report: bytes) -> Iterator[tuple[str, IO[bytes], PackagedFile]]:
    head = manifest.encoded()
    yield MANIFEST_FILE, io.BytesIO(head), PackagedFile.of(head)
    for name in sorted(manifest.files):
        with io.BytesIO(report) if name == REPORT_FILE else (folder / name).open("rb") as stream:
            yield name, stream, manifest.files[name]


def _write_folder(folder: Path, manifest: Manifest, report: bytes, made: Path) -> None:
    made.mkdir()
    for name, stream, facts in _streams(folder, manifest, report):
        _place(stream, made / name, facts)


def _write_tar(folder: Path, manifest: Manifest, report: bytes, made: Path) -> None:
    """A POSIX tar without owners and times, every file below a folder of the model's name."""
    with tarfile.open(made, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, stream, facts in _streams(folder, manifest, report):
            about = tarfile.TarInfo(f"{manifest.model}-{manifest.version}/{name}")
            about.size, about.mode = facts.size, 0o644
            checked = CheckedReader(stream, name, facts)
            try:
                archive.addfile(about, cast(IO[bytes], checked))
            except OSError as error:
                checked.require()  # it has become shorter than it was a moment ago
                raise error
            checked.require()


def _place(stream: IO[bytes], path: Path, facts: PackagedFile) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        CheckedReader(stream, path.name, facts).copy(file)


def _require_as_stated(folder: Path, manifest: Manifest) -> None:
    """Raise unless card, manifest and files say the same."""
    card = Card.load(folder)
    stated = _pinned(card)
    if (card.id, card.version) != (manifest.model, manifest.version):
        raise PackageInvalid(f"the card is of {card.id} {card.version}; {MANIFEST_FILE} says {manifest.model}")
    for name, sha256 in stated.items():
        if name not in manifest.files:
            raise PackageInvalid(f"{card.id}: the card pins {name}, which is not in the package")
        if manifest.files[name].sha256 != sha256:
            raise DigestMismatch(f"{name} differs from the digest pinned in its card", file=name)
    if further := manifest.files.keys() - stated.keys() - {CARD_FILE, REPORT_FILE}:
        raise PackageInvalid(f"{card.id}: the card does not pin {', '.join(sorted(further)[:5])}")
    if model_digest(folder, card) != manifest.digest:
        raise DigestMismatch(f"{card.id}: the model's digest is not the one in {MANIFEST_FILE}")
    for graph in card.graphs.values():
        pinned_data(folder, card, folder / graph.file)
