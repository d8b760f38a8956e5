"""Attributes that are kept of every received image so that rules can ask for them; none names a patient."""

TEXT_TAGS = (
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "ViewPosition",
    "PatientPosition",
    "PatientSex",
    "PatientAge",
    "ImageLaterality",
    "InstitutionName",
    "InstitutionalDepartmentName",
    "PerformedProcedureStepDescription",
)
NUMBER_TAGS = ("SliceThickness", "KVP", "RepetitionTime", "EchoTime", "InversionTime", "SeriesNumber")
