"""Pictures of a result: slices with outlines and letters, montages, summaries. No DICOM objects are made here."""
