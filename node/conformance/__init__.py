"""The DICOM conformance statement (PS3.2) of this very configuration."""
