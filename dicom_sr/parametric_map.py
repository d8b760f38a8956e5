"""Parametric Map objects (PS3.3 A.75): a probability, a saliency or another number for each voxel of the source.

Values are stored as they are, in single precision, and mapped by identity: a viewer's read-out is the model's number.
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ParametricMapStorage

from dicom_sr import codes
from dicom_sr.composite import Place, compose
from dicom_sr.errors import ObjectInvalid, SourceUnusable
from dicom_sr.explicit_vr import add_raw
from dicom_sr.functional_groups import Frame, add_dimensions, add_frames, decimals, shared_groups
from dicom_sr.multiframe import add_content, add_derived_image, add_source
from dicom_sr.provenance import SHORT_STRING, shortened
from dicom_sr.rendering import RenderedObject
from dicom_sr.scene import Scene
from dicom_sr.uids import result_uid
from models.results import CodedTerm, HeatMap, StudyResult

__all__ = ["ROLE", "maps_of", "render_parametric_maps"]

ROLE = "parametric_map"
_FLOAT_PIXEL_DATA = 0x7FE00008
_SERIES_OFFSET = 10


def maps_of(result: StudyResult) -> tuple[HeatMap, ...]:
    """What can be shown as maps: the probabilities behind the segmentation, then the result's heat maps."""
    segmentation = result.segmentation
    if segmentation is None or segmentation.probability_zyx is None:
        return result.heat_maps
    probability = HeatMap(
        role=segmentation.role,
        values_zyx=segmentation.probability_zyx,
        quantity=_term(codes.PROBABILITY),
        unit=_term(codes.NO_UNITS),
        label=f"Probability of {result.finding.meaning}",
    )
    return (probability, *result.heat_maps)


def render_parametric_maps(scene: Scene) -> list[RenderedObject]:
    """One object for each map, in one series; roles are numbered from 1.

    Raises
    ------
    SourceUnusable
        The source has no Frame of Reference, or another grid than a map.
    ObjectInvalid
        A value is not finite.
    """
    return [
        RenderedObject(f"{ROLE}-{number}", _render(heat_map, number, scene))
        for number, heat_map in enumerate(maps_of(scene.result), start=1)
    ]


def _render(heat_map: HeatMap, number: int, scene: Scene) -> Dataset:
    values = np.ascontiguousarray(heat_map.values_zyx, "<f4")
    if values.shape != scene.source.volume.array_zyx.shape:
        raise SourceUnusable("a map has another grid than the source", map=heat_map.label)
    if not np.isfinite(values).all():
        raise ObjectInvalid(f"{heat_map.label} has values that are not finite", map=heat_map.label)
    made = compose(
        sop_class_uid=ParametricMapStorage,
        modality="OT",
        role=f"{ROLE}-{number}",
        place=Place(ROLE, _SERIES_OFFSET, number, "AI: maps, not reviewed"),
        header=scene.header,
        context=scene.context,
        models=(scene.result.model,),
    )
    made.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "QUANTITY"]
    made.BurnedInAnnotation = made.RecognizableVisualFeatures = "NO"
    made.PresentationLUTShape = "IDENTITY"
    made.PixelPresentation = "MONOCHROME"
    made.AcquisitionContextSequence = []
    add_derived_image(made, values.shape[1:], scene.source.header)
    made.BitsAllocated = 32
    add_content(made, "AI_MAP", f"AI, not reviewed: {heat_map.label}")
    add_source(made, scene.header, scene.source)
    add_dimensions(made, result_uid(scene.context.key, f"{ROLE}/dimensions"), by_segment=False)
    shared = shared_groups(scene.source.volume.affine_lps)
    _add_meaning(shared, heat_map, list(made.ImageType))
    made.SharedFunctionalGroupsSequence = [shared]
    frames = [Frame(k) for k in range(len(values))]
    add_frames(made, frames, scene.source.frames, codes.CALCULATION)
    add_raw(made, _FLOAT_PIXEL_DATA, "OF", values.tobytes())
    return made


def _add_meaning(shared: Dataset, heat_map: HeatMap, frame_type: list[str]) -> None:
    """What a value is: identity transformation, window, and Real World Value Mapping (PS3.3 C.7.6.16.2.11)."""
    low, high = (float(v) for v in (heat_map.values_zyx.min(), heat_map.values_zyx.max()))
    if heat_map.quantity.value == codes.PROBABILITY.value:
        low, high = min(low, 0.0), max(high, 1.0)
    transformation = Dataset()
    transformation.RescaleIntercept, transformation.RescaleSlope, transformation.RescaleType = "0", "1", "US"
    window = Dataset()
    window.WindowCenter, window.WindowWidth = decimals([(low + high) / 2, max(high - low, 1e-6)])
    kind = Dataset()
    kind.FrameType = frame_type
    mapping = Dataset()
    mapping.LUTLabel = shortened(heat_map.quantity.meaning, SHORT_STRING)
    mapping.LUTExplanation = shortened(heat_map.label)
    mapping.DoubleFloatRealWorldValueFirstValueMapped = low
    mapping.DoubleFloatRealWorldValueLastValueMapped = high
    mapping.RealWorldValueIntercept, mapping.RealWorldValueSlope = 0.0, 1.0
    mapping.MeasurementUnitsCodeSequence = [codes.item(codes.from_term(heat_map.unit))]
    quantity = Dataset()
    quantity.ValueType = "CODE"
    quantity.ConceptNameCodeSequence = [codes.item(codes.QUANTITY)]
    quantity.ConceptCodeSequence = [codes.item(codes.from_term(heat_map.quantity))]
    mapping.QuantityDefinitionSequence = [quantity]
    shared.PixelValueTransformationSequence = [transformation]
    shared.FrameVOILUTSequence = [window]
    shared.ParametricMapFrameTypeSequence = [kind]
    shared.RealWorldValueMappingSequence = [mapping]


def _term(code: codes.Code) -> CodedTerm:
    return CodedTerm(code.value, code.scheme_designator, code.meaning)
