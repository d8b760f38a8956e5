"""Infarcts of whole vascular territories, painted into a healthy phantom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from models.phantom import Phantom

Where = Callable[[npt.NDArray, npt.NDArray, npt.NDArray], npt.NDArray]


def _left_mca(x: npt.NDArray, y: npt.NDArray, z: npt.NDArray) -> npt.NDArray:
    return (x > 8) & (np.abs(y) < 55) & (z > -35)


def _posterior_fossa(x: npt.NDArray, y: npt.NDArray, z: npt.NDArray) -> npt.NDArray:
    return (z < -25) & (y > 10)


TERRITORIES: dict[str, Where] = {
    "left MCA": _left_mca,
    "right MCA": lambda x, y, z: _left_mca(-x, y, z),
    "both MCA": lambda x, y, z: _left_mca(np.abs(x), y, z),
    "left hemisphere": lambda x, y, z: x > 2,
    "right hemisphere": lambda x, y, z: x < -2,
    "posterior fossa": _posterior_fossa,
    "left cerebellum": lambda x, y, z: _posterior_fossa(x, y, z) & (x > 3),
    "both PCA": lambda x, y, z: (y > 40) & (np.abs(z + 7) < 22) & (np.abs(x) < 45),
    "both ACA": lambda x, y, z: (np.abs(x) < 18) & (z > 5) & (y < 20),
    "whole brain": lambda x, y, z: z > -1000,
}
"""Where, as a function of the patient position relative to the brain's centre (LPS, mm)."""


def with_infarct(healthy: Phantom, territory: str, *, adc_fall_um2_s: float, t2_factor: float = 1.25) -> Phantom:
    """The phantom with tissue of ``territory`` infarcted: ADC lowered, signal raised as physics has it."""
    affine = healthy.dwi.affine_lps
    k, j, i = np.indices(healthy.brain_zyx.shape)
    x, y, z = (affine[n, 0] * i + affine[n, 1] * j + affine[n, 2] * k + affine[n, 3] for n in range(3))
    adc = healthy.adc.array_zyx
    where = TERRITORIES[territory](x, y, z) & healthy.brain_zyx & (adc > 0) & (adc < 1200)
    gain = np.float32(t2_factor * np.exp(healthy.dwi.facts["b_value"] * 1e-6 * adc_fall_um2_s))
    return replace(
        healthy,
        dwi=replace(healthy.dwi, array_zyx=np.where(where, healthy.dwi.array_zyx * gain, healthy.dwi.array_zyx)),
        adc=replace(healthy.adc, array_zyx=np.where(where, np.maximum(adc - np.float32(adc_fall_um2_s), 0), adc)),
        truth_zyx=where.astype(np.uint8),
    )
