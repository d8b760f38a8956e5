"""Where programs of two conventions find their input and leave their output.

mercure (mercure-imaging/mercure, ``process/process_series.py``, and its modules): ``MERCURE_IN_DIR`` with the images and
``task.json``, ``MERCURE_OUT_DIR``. MONAI application packages (MONAI Deploy, MAP specification): ``HOLOSCAN_INPUT_PATH``,
``HOLOSCAN_OUTPUT_PATH`` and, for older ones, ``MONAI_INPUTPATH``, ``MONAI_OUTPUTPATH``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.programs import ProgramRequest

MODEL_FOLDER = "/opt/model"


@dataclass(frozen=True, slots=True)
class Places:
    """Folders as the program sees them."""

    input: str
    output: str
    model: str


INSIDE = {
    "mercure": Places("/tmp/data", "/tmp/output", MODEL_FOLDER),
    "map": Places("/var/holoscan/input", "/var/holoscan/output", MODEL_FOLDER),
}


def environment(places: Places, layout: str) -> dict[str, str]:
    """Everything a program is told of its surroundings."""
    told = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        "HOLOSCAN_INPUT_PATH": places.input,
        "HOLOSCAN_OUTPUT_PATH": places.output,
        "MONAI_INPUTPATH": places.input,
        "MONAI_OUTPUTPATH": places.output,
    }
    if layout == "mercure":
        return told | {"MERCURE_IN_DIR": places.input, "MERCURE_OUT_DIR": places.output}
    return told | {"HOLOSCAN_WORKDIR": "/tmp", "HOLOSCAN_MODEL_PATH": places.model}


def write_task(request: ProgramRequest, folder: Path) -> None:
    """``task.json`` beside the images, where the layout has one."""
    if request.layout != "mercure":
        return
    task: Mapping[str, Any] = {
        "id": request.digest[:16],
        "info": {"action": "process", "uid_type": "study", "applied_rule": request.model_id},
        "process": {"module_name": request.model_id, "module_type": "process", "settings": dict(request.settings)},
    }
    (folder / "task.json").write_text(json.dumps(task, indent=1), encoding="utf-8")
