"""Scans as the infarct network's recipe reads them: ``python -m tests.generators.infarct_scans OUT FOLDER [FOLDER …]``.

Each DICOM folder becomes ``OUT/NAME.npz`` with the DWI and ADC the node would give a model. The recipe itself reads no
DICOM: models know none.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from dicom_sr.roles import fill_roles
from dicom_sr.series import load_study
from models.registry import Registry


def write_scan(folder: Path, target: Path) -> None:
    """Write the DWI and ADC of the study in ``folder``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json")
    sources = fill_roles(load_study(files), Registry().get("infarct-adc-baseline").card.inputs)
    dwi, adc = sources["dwi"].volume, sources["adc"].volume
    np.savez_compressed(
        target, dwi=dwi.array_zyx, adc=adc.array_zyx, affine_lps=dwi.affine_lps, b_value=np.array(dwi.facts["b_value"])
    )


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:]:
        write_scan(Path(name), out / f"{Path(name).name}.npz")
