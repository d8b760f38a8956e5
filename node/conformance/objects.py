"""Which objects the destinations of a configuration get, and where their attributes come from."""

from __future__ import annotations

from dataclasses import dataclass

from node.settings import CANARY, ProfileSection, Settings

_SEG, _LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
_REPORTS = {
    "comprehensive_3d": "1.2.840.10008.5.1.4.1.1.88.34",
    "comprehensive": "1.2.840.10008.5.1.4.1.1.88.33",
    "enhanced": "1.2.840.10008.5.1.4.1.1.88.22",
}
_BASIC_TEXT = "1.2.840.10008.5.1.4.1.1.88.11"
_CAPTURES = {"multi_frame": "1.2.840.10008.5.1.4.1.1.7.4", "single_frame": "1.2.840.10008.5.1.4.1.1.7"}


@dataclass(frozen=True, slots=True)
class Written:
    """One kind of object.

    Attributes
    ----------
    template : str
        Of PS3.16; empty where there is none.
    destinations : tuple of str
    """

    name: str
    sop_class_uid: str
    template: str
    destinations: tuple[str, ...]


def objects_of(settings: Settings) -> list[Written]:
    """Objects that any destination gets, in the order they are made."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for name in settings.destination:
        if name == CANARY:
            continue
        for kind in _of_profile(settings.profile_of(name)):
            found.setdefault(kind, []).append(name)
    return [Written(*kind, tuple(names)) for kind, names in found.items()]


def _of_profile(profile: ProfileSection) -> list[tuple[str, str, str]]:
    wanted = [kind for kind in profile.objects if kind not in profile.kept_back]
    made: dict[str, list[tuple[str, str, str]]] = {
        "seg": [("Segmentation", _LABEL_MAP if profile.segmentation == "labelmap" else _SEG, "")],
        "measurements": [("Measurements", _REPORTS[profile.measurements], "TID 1500")],
        "text": [("Draft text", _BASIC_TEXT, "TID 2000")],
        "status": [("Status", _BASIC_TEXT, "TID 2000")],
        "key_objects": [("Key images", "1.2.840.10008.5.1.4.1.1.88.59", "TID 2010")],
        "presentation": [("Outlines and labels", "1.2.840.10008.5.1.4.1.1.11.1", "")],
        "parametric_map": [("Parametric map", "1.2.840.10008.5.1.4.1.1.30", "")],
        "secondary_capture": [("Pictures", _CAPTURES[profile.secondary_capture], "")],
        "summary": [("Summary", _CAPTURES["single_frame"], "")],
        "pdf": [("Report", "1.2.840.10008.5.1.4.1.1.104.1", "")],
        "rtstruct": [("RT structure set", "1.2.840.10008.5.1.4.1.1.481.3", "")],
    }
    found = [each for kind in wanted for each in made[kind]]
    # A study is never left without an answer, and an earlier set is rejected where the profile says so.
    found += [each for each in made["status"] if each not in found and not profile.anonymous]
    if profile.superseded == "rejection":
        found.append(("Rejection of an earlier set", "1.2.840.10008.5.1.4.1.1.88.59", "TID 2010"))
    return found


def sources() -> list[list[str]]:
    """Groups of attributes and where their values come from."""
    return [
        [
            "Patient, General Study",
            "the source images, never made up; a corrected identity where one is known",
        ],
        ["Referenced Request, Accession Number", "source images, and the worklist where it agrees with them"],
        [
            "Series Instance UID, SOP Instance UID",
            "2.25. and a UUID of inputs, model and parameters: same work, same UIDs",
        ],
        ["Series Number, Series Description", "profile; description names model and object"],
        ["Manufacturer, Model Name, Software Versions, Device UID, Station Name", "node and model"],
        ["Contributing Equipment Sequence", "node and model, with a Device UID that changes with the weights"],
        ["Content Date and Time, Timezone Offset From UTC", "the site's wall clock"],
        ["Institution Name", "configuration, or left out"],
        ["Completion, Verification, Preliminary Flag", "COMPLETE, UNVERIFIED, PRELIMINARY"],
        ["Frame of Reference, Pixel Measures, Plane Position", "source images"],
    ]
