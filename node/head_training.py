"""Labelled images of a site to a head of its own: reads the table and the images, leaves the arithmetic to `models`."""

from __future__ import annotations

import csv
import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dicom_sr.series import Kind, load_study
from models.card import file_digest
from models.volume import Volume
from node.errors import UsageError

if TYPE_CHECKING:
    from models.model import Model

_KNOWN = ("file", "patient")
_VALUES = {"": -1, "0": 0, "1": 1}
_PICTURES = (".png", ".jpg", ".jpeg")


def train_from_table(
    backbone: Model,
    table: Path,
    folder: Path,
    *,
    model_id: str,
    title: str,
    seed: int = 0,
    preprocessing: str | None = None,
) -> dict[str, Any]:
    """Train a head on the images ``table`` names, into the new folder ``folder``.

    Parameters
    ----------
    table : Path
        CSV with a header: ``file`` (DICOM or PNG, relative to the table), ``patient`` (whose image it is; DICOM files have
        it themselves), and a column for each finding with 1, 0, or nothing where it is not known.

    Returns
    -------
    dict
        The training log.

    Raises
    ------
    UsageError
        The table or an image cannot be used, the folder exists, or the extra is not installed.
    ModelError
        See :func:`models.export.train_head.train_head`.
    """
    for package, extra in (("sklearn", "scikit-learn"), ("onnx", "onnx")):
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"training needs {extra}: pip install 'ainode[train]' in an environment of its own")
    if folder.exists():
        raise UsageError(f"{folder} exists; name a new folder, so that no installed model is replaced")
    from models.export.train_head import Labelled, train_head

    rows, findings = read_table(table)
    images, patients = [], []
    for row in rows:
        image, patient = read_image(table.parent / row["file"])
        images.append(image)
        patients.append(row.get("patient") or patient or row["file"])
    data = Labelled(images, patients, findings, file_digest(table))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".train-", dir=folder.parent) as work:
        made = Path(work, "model")
        made.mkdir()
        options = {"model_id": model_id, "title": title, "seed": seed, "preprocessing": preprocessing}
        log = train_head(backbone, data, made, **options)  # type: ignore[arg-type]
        made.rename(folder)
    return log


def read_table(table: Path) -> tuple[list[dict[str, str]], dict[str, Sequence[int]]]:
    """Rows of the table, and the values of each finding.

    Raises
    ------
    UsageError
        It cannot be read, has no images or findings, or a value that is neither 0, 1 nor empty.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            names = list(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{table.name} cannot be read: {error}") from error
    findings = [name for name in names if name not in _KNOWN]
    if "file" not in names or not findings or not rows:
        raise UsageError(f"{table.name} needs a column named file, one for each finding, and rows")
    values: dict[str, Sequence[int]] = {}
    for name in findings:
        given = [(row[name] or "").strip() for row in rows]
        if wrong := [n for n, value in enumerate(given, start=2) if value not in _VALUES]:
            raise UsageError(f"{table.name}, line {wrong[0]}: {name} must be 0, 1 or empty")
        values[name] = [_VALUES[value] for value in given]
    return rows, values


def read_image(path: Path) -> tuple[Volume, str]:
    """A radiograph (DICOM) or picture (PNG, JPEG; made grey) as a volume of one slice, and whose it is where it says so.

    Raises
    ------
    UsageError
        It cannot be read, or is no single image.
    """
    if path.suffix.lower() in _PICTURES:
        try:
            with Image.open(path) as picture:
                grey = np.asarray(picture.convert("L"), np.float32)
        except OSError as error:
            raise UsageError(f"{path.name} cannot be read: {error}") from error
        return Volume(grey[np.newaxis], np.eye(4), facts={"maximum_value": 255.0}), ""
    if not path.exists():
        raise UsageError(f"{path.name} does not exist")
    study = load_study([path])
    found = [each for each in study.volumes if each.kind is Kind.PROJECTION]
    if len(found) != 1:
        why = study.rejected[0].error.message if study.rejected else "it is no single radiograph"
        raise UsageError(f"{path.name} cannot be used: {why}")
    return found[0].volume, str(found[0].header.get("PatientID", "") or "")
