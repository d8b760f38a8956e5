"""The nearest set a destination takes."""

from __future__ import annotations

from dicom_sr.fallback import fitting
from dicom_sr.profile import Profile

S = "1.2.840.10008.5.1.4.1.1"
SEG, LABEL_MAP, COMPREHENSIVE_3D, COMPREHENSIVE = f"{S}.66.4", f"{S}.66.7", f"{S}.88.34", f"{S}.88.33"
ENHANCED, TEXT = f"{S}.88.22", f"{S}.88.11"
PICTURES, MULTI_FRAME_PICTURES, PRESENTATION = f"{S}.7", f"{S}.7.4", f"{S}.11.1"
EXPLICIT, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"

LABELS = Profile(segmentation="labelmap", segmentation_syntax="rle")


def taking(*accepted: tuple[str, str] | str):
    pairs = {each if isinstance(each, tuple) else (each, EXPLICIT) for each in accepted}
    return lambda sop_class, syntax: (sop_class, syntax) in pairs


def test_what_is_taken_stays_as_it_is() -> None:
    takes = taking((LABEL_MAP, RLE), COMPREHENSIVE_3D, TEXT)
    assert fitting(LABELS, takes) is not None and fitting(LABELS, takes) == LABELS


def test_a_label_map_becomes_uncompressed_then_binary() -> None:
    rest = (COMPREHENSIVE_3D, TEXT)
    plain = fitting(LABELS, taking(LABEL_MAP, SEG, *rest))
    assert (plain.segmentation, plain.segmentation_syntax) == ("labelmap", "explicit")
    bits = fitting(LABELS, taking(SEG, *rest))
    assert (bits.segmentation, bits.segmentation_syntax) == ("binary", "explicit")
    assert bits.objects == LABELS.objects


def test_reports_go_down_the_chain() -> None:
    assert fitting(Profile(), taking(SEG, COMPREHENSIVE, TEXT)).measurements == "comprehensive"
    assert fitting(Profile(), taking(SEG, ENHANCED, TEXT)).measurements == "enhanced"
    assert fitting(Profile(), taking(SEG, TEXT)).objects == ("seg", "text", "status")
    # A site that wants less never gets more.
    assert fitting(Profile(measurements="enhanced"), taking(SEG, COMPREHENSIVE_3D, TEXT)).objects == (
        "seg",
        "text",
        "status",
    )


def test_measurements_go_with_the_segmentation_they_refer_to() -> None:
    assert fitting(Profile(), taking(COMPREHENSIVE_3D, TEXT)).objects == ("text", "status")


def test_pictures_as_one_object_or_several() -> None:
    pictures = Profile(objects=("seg", "secondary_capture", "status"))
    assert fitting(pictures, taking(SEG, TEXT, MULTI_FRAME_PICTURES)) == pictures
    single = fitting(pictures, taking(SEG, TEXT, PICTURES))
    assert (single.secondary_capture, single.objects) == ("single_frame", pictures.objects)
    alone = Profile(objects=("secondary_capture", "status"), secondary_capture="single_frame")
    assert fitting(alone, taking(TEXT, MULTI_FRAME_PICTURES)).secondary_capture == "multi_frame"
    assert fitting(pictures, taking(SEG, TEXT)).objects == ("seg", "status")
    # Of what is not asked for nothing changes, so that the set keeps its name.
    plain = Profile(objects=("seg", "status"))
    assert fitting(plain, taking(SEG, TEXT, PICTURES)) == plain


def test_outlines_are_seen_in_pictures_where_presentation_states_are_not_taken() -> None:
    outlines = Profile(objects=("seg", "presentation", "status"))
    assert fitting(outlines, taking(SEG, TEXT, PRESENTATION)).objects == outlines.objects
    made = fitting(outlines, taking(SEG, TEXT, PICTURES))
    assert (made.objects, made.secondary_capture) == (("seg", "secondary_capture", "status"), "single_frame")
    both = Profile(objects=("presentation", "secondary_capture", "status"))
    assert fitting(both, taking(TEXT, MULTI_FRAME_PICTURES)).objects == ("secondary_capture", "status")
    assert fitting(outlines, taking(SEG, TEXT)).objects == ("seg", "status")


def test_a_destination_that_takes_nothing_gets_what_was_configured() -> None:
    assert fitting(Profile(), taking()) == Profile()
