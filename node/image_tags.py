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
LISTED_TAGS = (
    "StudyDate",
    "StudyTime",
    "StudyID",
    "ReferringPhysicianName",
    "TimezoneOffsetFromUTC",
    "InstanceNumber",
    "BitsAllocated",
)
"""Kept so that DICOMweb can list studies and images without opening a file; rules cannot ask for them."""
