"""Arrays in, typed results out: no network, no database, no DICOM."""

import os

# Wheels of ONNX Runtime from 1.31 on keep a device id and send what they see of models to their maker, unless this stands
# in the environment before they are imported. It stands here because nothing imports them before this package.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
