"""Which form of its profile a destination gets, by what it is known to take."""

from __future__ import annotations

import hashlib

from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicom_sr.fallback import fitting
from node.delivery.capabilities import Capabilities
from node.settings import ProfileSection

_SEPARATOR = "+"
"""Between a profile's name and its form; no configured name has it."""


def variant(name: str, section: ProfileSection, known: Capabilities) -> tuple[str, ProfileSection]:
    """Name and settings of what a destination gets; those configured where it takes all of it.

    The name tells the forms of one profile apart, and is part of the work key like any other.
    """
    base = name.partition(_SEPARATOR)[0]
    profile = section.as_profile(base)
    fit = fitting(profile, known.takes)
    if fit == profile:
        return name, section
    chosen = section.model_copy(
        update={
            "objects": list(fit.objects),
            "segmentation": fit.segmentation,
            "segmentation_syntax": fit.segmentation_syntax,
            "measurements": fit.measurements,
            "secondary_capture": fit.secondary_capture,
        }
    )
    return f"{base}{_SEPARATOR}{hashlib.sha256(fit.content.encode()).hexdigest()[:8]}", chosen


def in_words(section: ProfileSection, known: Capabilities) -> ProfileSection:
    """The profile as a note about an earlier result needs it: a text where Key Object Selections are not taken."""
    if section.superseded != "rejection" or known.takes(str(KeyObjectSelectionDocumentStorage)):
        return section
    return section.model_copy(update={"superseded": "status"})
