"""What stays of a segmentation when its local copy goes: the header, which a later study is compared by."""

from __future__ import annotations

import logging
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

logger = logging.getLogger(__name__)

_SUFFIX = ".header"


def header_path(segmentation: Path) -> Path:
    """Where the header of a segmentation lies once the segmentation itself is gone."""
    return segmentation.with_suffix(_SUFFIX)


def readable(segmentation: Path) -> Path | None:
    """The segmentation, or its header where only that is left; None where nothing is."""
    return next((path for path in (segmentation, header_path(segmentation)) if path.is_file()), None)


def keep_header(segmentation: Path) -> None:
    """Write the header of a segmentation beside it. One that cannot be read leaves nothing, and says so."""
    target = header_path(segmentation)
    part = target.with_suffix(".part")
    try:
        header = dcmread(segmentation, stop_before_pixels=True)
        header.save_as(part, enforce_file_format=True)
        part.replace(target)
    except (OSError, InvalidDicomError, AttributeError, TypeError, ValueError) as error:
        part.unlink(missing_ok=True)
        logger.warning("no header of a segmentation is kept for comparison (%s)", type(error).__name__)
