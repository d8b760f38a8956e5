"""Coding schemes of a model's own, identified in every object that uses them (PS3.3 C.12.1.1.7)."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from dicom_sr.provenance import SHORT_STRING, shortened
from models.results import ModelReference

_OURS = (
    "ContentSequence",
    "SegmentSequence",
    "ParametersSequence",
    "RTROIObservationsSequence",
    "SharedFunctionalGroupsSequence",
)
"""Where terms of a result stand; what was copied from the images keeps its own schemes."""


def identify_private_schemes(made: Dataset, model: ModelReference) -> None:
    """Say whose the private schemes (``99…``, PS3.16 8.2) in ``made`` are: the model's maker's."""
    used = {scheme for keyword in _OURS for entry in made.get(keyword) or [] for scheme in _schemes(entry)}
    known = list(made.get("CodingSchemeIdentificationSequence") or [])
    named = {str(entry.CodingSchemeDesignator) for entry in known}
    private = sorted(scheme for scheme in used - named if scheme.startswith("99"))
    if private:
        made.CodingSchemeIdentificationSequence = [*known, *(_identified(scheme, model) for scheme in private)]


def _schemes(dataset: Dataset) -> Iterator[str]:
    if scheme := dataset.get("CodingSchemeDesignator"):
        yield str(scheme)
    for element in dataset:
        if element.VR == "SQ":
            for entry in element.value:
                yield from _schemes(entry)


def _identified(scheme: str, model: ModelReference) -> Dataset:
    entry = Dataset()
    entry.CodingSchemeDesignator = scheme[:SHORT_STRING]
    entry.CodingSchemeName = shortened(f"Terms of {model.name}")
    entry.CodingSchemeResponsibleOrganization = shortened(model.manufacturer)
    return entry
