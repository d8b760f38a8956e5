"""A module as mercure runs them: thresholds a series, writes a DICOM SEG and result.json."""

import json
import os
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import dcmread
from pydicom.sr.codedict import codes

source, target = Path(os.environ["MERCURE_IN_DIR"]), Path(os.environ["MERCURE_OUT_DIR"])
settings = json.loads((source / "task.json").read_text())["process"]["settings"]
images = [dcmread(path) for path in sorted(source.glob("*#*.dcm"))]
pixels = np.stack([image.pixel_array for image in images])
mask = pixels > settings["threshold"]
segment = hd.seg.SegmentDescription(
    segment_number=1,
    segment_label="Foreign words",
    segmented_property_category=codes.SCT.Tissue,
    segmented_property_type=codes.SCT.Liver,
    algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
    algorithm_identification=hd.AlgorithmIdentificationSequence("foreign", codes.DCM.ArtificialIntelligence, "9"),
)
hd.seg.Segmentation(
    source_images=images,
    pixel_array=mask,
    segmentation_type=hd.seg.SegmentationTypeValues[settings.get("type", "BINARY")],
    segment_descriptions=[segment],
    series_instance_uid=hd.UID(),
    series_number=7,
    sop_instance_uid=hd.UID(),
    instance_number=1,
    manufacturer="Foreign",
    manufacturer_model_name="Foreign",
    software_versions="9",
    device_serial_number="9",
).save_as(target / "anything at all")
images[0].save_as(target / "a-copy-of-the-input.dcm")
(target / "result.json").write_text(json.dumps({"brightness": {"mean": float(pixels[mask].mean())}}))
