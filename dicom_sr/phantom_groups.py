"""Functional groups of the phantom's Enhanced MR Image (PS3.3 C.7.6.16 and C.8.13.5)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _one(**attributes: object) -> DicomSequence:
    return DicomSequence([_item(**attributes)])


def shared_groups(
    *,
    spacing_mm: Sequence[str],
    thickness_mm: str,
    orientation: Sequence[str],
    rescale_slope: str,
    real_world_mapping: Dataset | None,
) -> Dataset:
    """Shared Functional Groups item: geometry, acquisition and pixel value transformation."""
    groups = Dataset()
    groups.PixelMeasuresSequence = _one(PixelSpacing=list(spacing_mm), SliceThickness=thickness_mm)
    groups.PlaneOrientationSequence = _one(ImageOrientationPatient=list(orientation))
    groups.PixelValueTransformationSequence = _one(RescaleIntercept="0", RescaleSlope=rescale_slope, RescaleType="US")
    if real_world_mapping is not None:
        groups.RealWorldValueMappingSequence = DicomSequence([real_world_mapping])
    brain = _item(CodeValue="12738006", CodingSchemeDesignator="SCT", CodeMeaning="Brain")
    groups.FrameAnatomySequence = _one(FrameLaterality="U", AnatomicRegionSequence=DicomSequence([brain]))
    groups.MRTimingAndRelatedParametersSequence = DicomSequence([_timing()])
    groups.MRFOVGeometrySequence = _one(
        InPlanePhaseEncodingDirection="COLUMN",
        MRAcquisitionFrequencyEncodingSteps=128,
        MRAcquisitionPhaseEncodingStepsInPlane=128,
        PercentSampling="100",
        PercentPhaseFieldOfView="100",
    )
    groups.MREchoSequence = _one(EffectiveEchoTime=80.0)
    groups.MRAveragesSequence = _one(NumberOfAverages="1")
    groups.MRModifierSequence = DicomSequence([_modifier()])
    groups.MRImagingModifierSequence = _one(
        MagnetizationTransfer="NONE",
        BloodSignalNulling="NO",
        Tagging="NONE",
        TransmitterFrequency=123.2,
        PixelBandwidth="1500",
    )
    element = _item(MultiCoilElementName="H", MultiCoilElementUsed="YES")
    groups.MRReceiveCoilSequence = _one(
        ReceiveCoilName="Head",
        ReceiveCoilManufacturerName="",
        ReceiveCoilType="MULTICOIL",
        QuadratureReceiveCoil="NO",
        MultiCoilDefinitionSequence=DicomSequence([element]),
    )
    groups.MRTransmitCoilSequence = _one(
        TransmitCoilName="Body", TransmitCoilManufacturerName="", TransmitCoilType="BODY"
    )
    return groups


def _timing() -> Dataset:
    modes = DicomSequence(
        [_item(OperatingModeType=kind, OperatingMode="IEC_NORMAL") for kind in ("STATIC FIELD", "RF", "GRADIENT")]
    )
    rate = _item(SpecificAbsorptionRateDefinition="IEC_HEAD", SpecificAbsorptionRateValue=0.1)
    return _item(
        RepetitionTime="6000",
        FlipAngle="90",
        EchoTrainLength=64,
        RFEchoTrainLength=0,
        GradientEchoTrainLength=64,
        OperatingModeSequence=modes,
        GradientOutputType="DB_DT",
        GradientOutput=10.0,
        SpecificAbsorptionRateSequence=DicomSequence([rate]),
    )


def _modifier() -> Dataset:
    return _item(
        InversionRecovery="NO",
        FlowCompensation="NONE",
        Spoiling="NONE",
        T2Preparation="NO",
        SpectrallySelectedExcitation="NONE",
        SpatialPresaturation="NONE",
        PartialFourier="NO",
        ParallelAcquisition="NO",
    )


def frame_groups(
    *,
    position_mm: Sequence[str],
    frame_type: Sequence[str],
    b_value: float | None,
    direction: tuple[float, float, float] | None,
    indices: Sequence[int],
    window: tuple[str, str],
    date_time: str,
) -> Dataset:
    """Per-frame Functional Groups item of one frame. ``indices``: position in the stack, index of the b-value."""
    groups = Dataset()
    groups.FrameContentSequence = _one(
        FrameReferenceDateTime=date_time,
        FrameAcquisitionDateTime=date_time,
        FrameAcquisitionDuration=100.0,
        StackID="1",
        InStackPositionNumber=indices[0],
        DimensionIndexValues=list(indices),
    )
    groups.PlanePositionSequence = _one(ImagePositionPatient=list(position_mm))
    groups.FrameVOILUTSequence = _one(WindowCenter=window[0], WindowWidth=window[1])
    if float(window[1]) < 1:
        groups.FrameVOILUTSequence[0].VOILUTFunction = "LINEAR_EXACT"
    groups.MRImageFrameTypeSequence = _one(
        FrameType=list(frame_type),
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        ComplexImageComponent="MAGNITUDE",
        AcquisitionContrast="DIFFUSION",
    )
    diffusion = Dataset()
    if b_value is None:
        diffusion.DiffusionDirectionality = "ISOTROPIC"
    else:
        diffusion.DiffusionBValue = b_value
        diffusion.DiffusionDirectionality = "DIRECTIONAL" if direction else ("ISOTROPIC" if b_value else "NONE")
        if direction:
            diffusion.DiffusionGradientDirectionSequence = _one(DiffusionGradientOrientation=list(direction))
    groups.MRDiffusionSequence = DicomSequence([diffusion])
    return groups
