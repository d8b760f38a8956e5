"""Steps before the main graph. Each takes the workspace, reads named arrays and numbers, and adds others.

A card lists them by name with parameters; :data:`STEPS` is the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np

from models.brain import brain_mask, is_skull_stripped
from models.errors import BrainNotFound
from models.morphology import depth_mm, gaussian_kernel
from models.steps import StepFunction
from models.symmetry import find_midplane, mirror_map, voxel_positions
from models.tissue import (
    NORMAL_RATIO,
    healthier_side,
    local_adc,
    log_background,
    normal_level,
    side_ratio,
    signal_noise,
)
from models.workspace import Workspace

MIDLINE_BAND_MM = 8.0
"""Tissue this close to the middle belongs to neither side when the sides are compared."""


def scale_signal(workspace: Workspace, *, array: str, percentile: float, to: float) -> None:
    """Multiply ``array`` so that ``percentile`` of its positive values becomes ``to``; scanner units are arbitrary."""
    values = workspace.array(array)
    positive = values[values > 0]
    if positive.size:
        factor = np.float32(to / np.percentile(positive, percentile))
        workspace.arrays[array] = np.maximum(values * factor, 0).astype(np.float32)


def standardise(workspace: Workspace, *, array: str, output: str, nonzero: bool = True) -> None:
    """Subtract the mean and divide by the standard deviation, over non-zero voxels only when ``nonzero``."""
    values = workspace.array(array)
    used = values[values != 0] if nonzero else values.ravel()
    mean, sigma = (float(used.mean()), float(used.std())) if used.size else (0.0, 1.0)
    workspace.arrays[output] = ((values - mean) / max(sigma, 1e-6)).astype(np.float32)


def run_graph(workspace: Workspace, *, graph: str) -> None:
    """Run one of the card's graphs; its inputs and outputs are arrays and numbers of the workspace by name."""
    workspace.run_graph(graph)


def find_brain(
    workspace: Workspace, *, dwi: str, adc: str, minimum_ml: float, minimum_adc_um2_s: float, maximum_adc_um2_s: float
) -> None:
    """Make ``brain`` (envelope) and ``depth_mm`` below its surface.

    Raises
    ------
    BrainNotFound
        There is none, it is smaller than ``minimum_ml``, or its median ADC is not that of a brain.
    """
    signal, diffusion = workspace.array(dwi), workspace.array(adc)
    brain = brain_mask(signal, diffusion, workspace.spacing_mm)
    volume_ml = float(np.count_nonzero(brain)) * workspace.grid.voxel_ml
    if volume_ml < minimum_ml:
        raise BrainNotFound(f"the largest body of tissue has {volume_ml:.0f} mL; a brain has at least {minimum_ml:.0f}")
    measured = diffusion[brain & (diffusion > 0)]
    median = float(np.median(measured)) if measured.size else 0.0
    if not minimum_adc_um2_s <= median <= maximum_adc_um2_s:
        raise BrainNotFound(
            f"the median ADC is {median:.0f} um2/s; a brain's lies in {minimum_adc_um2_s:.0f} to {maximum_adc_um2_s:.0f}"
        )
    workspace.arrays["brain"] = brain
    workspace.arrays["depth_mm"] = depth_mm(brain, workspace.spacing_mm)
    workspace.evidence["brain_ml"] = round(volume_ml, 1)
    workspace.evidence["skull_stripped"] = is_skull_stripped(signal, brain)


def find_tissue(workspace: Workspace, *, dwi: str, adc: str, csf_ratio: float, shell_mm: float) -> None:
    """Make ``tissue`` (brain without CSF and unmeasured voxels, 0 or 1) and ``interior`` (tissue below ``shell_mm``).

    CSF is what has more than ``csf_ratio`` times the brain's median tissue ADC.
    """
    diffusion, brain = workspace.array(adc), workspace.mask("brain")
    measured = brain & (diffusion > 150) & (workspace.array(dwi) > 0)
    median = float(np.median(diffusion[measured & (diffusion < 1600)]))
    tissue = measured & (diffusion > 0.15 * median) & (diffusion < csf_ratio * median)
    interior = tissue & (workspace.array("depth_mm") > shell_mm)
    if np.count_nonzero(interior) < 1000:
        raise BrainNotFound("hardly any brain tissue could be told from CSF")
    workspace.arrays["tissue"] = tissue.astype(np.float32)
    workspace.arrays["interior"] = interior.astype(np.float32)


def smoothing_kernels(workspace: Workspace, *, sigma_mm: float, sigma_voxels: float) -> None:
    """Make ``kernel_z``, ``kernel_y``, ``kernel_x`` for a Gaussian of ``sigma_mm``, at least ``sigma_voxels`` in plane.

    Coarse voxels leave noise that a kernel of fixed millimetres would hardly touch.
    """
    spacing = workspace.spacing_mm
    sigma = max(sigma_mm, sigma_voxels * max(spacing[1:]))
    for axis, step in zip("zyx", spacing, strict=True):
        workspace.arrays[f"kernel_{axis}"] = gaussian_kernel(sigma / step)
    workspace.values["smoothing_mm"] = sigma


def normalise_adc(workspace: Workspace, *, reach_mm: float, share: float) -> None:
    """Make ``adc_reference``: the patient's own normal ADC at each voxel, and ``normal`` tissue.

    A scanner's scale error cancels, because everything later is relative to this. Where one side is clearly lower than
    the other, the other alone is the reference.
    """
    smooth, interior = workspace.array("adc_smooth"), workspace.mask("interior")
    brain, affine = workspace.mask("brain"), workspace.grid.affine_lps
    # The mid-sagittal plane is found later, and with signal relative to this; the brain's centre is near enough.
    side = voxel_positions(interior, affine)[:, 0] - float(np.median(voxel_positions(brain, affine, 7)[:, 0]))
    values = smooth[interior]
    median = normal_level(values[healthier_side(values, side, apart_mm=MIDLINE_BAND_MM)])
    ratio_of_sides = side_ratio(values, side, apart_mm=MIDLINE_BAND_MM)
    workspace.values["side_ratio"] = ratio_of_sides
    workspace.evidence["adc_left_to_right"] = round(ratio_of_sides, 3)
    ratio = np.where(workspace.mask("brain"), smooth / np.float32(median), 9).astype(np.float32)
    normal = interior & (ratio > NORMAL_RATIO[0]) & (ratio < NORMAL_RATIO[1])
    if np.count_nonzero(normal) < 500:
        raise BrainNotFound("hardly any tissue has a normal ADC; there is nothing to compare with")
    factor = local_adc(ratio, normal, workspace.spacing_mm, reach_mm=reach_mm, share=share)
    workspace.arrays["normal"] = normal
    workspace.arrays["adc_reference"] = np.float32(median) * factor
    workspace.values["normal_adc_um2_s"] = median
    workspace.evidence["normal_adc_um2_s"] = round(median, 1)


def find_background(workspace: Workspace, *, order: int, reach_mm: float) -> None:
    """Make ``log_background``: the log signal normal tissue would have at each voxel."""
    workspace.arrays["log_background"] = log_background(
        workspace.array("log_dwi"),
        workspace.mask("brain"),
        workspace.mask("normal"),
        workspace.spacing_mm,
        order=order,
        reach_mm=reach_mm,
    )


def mirror(workspace: Workspace, *, tolerance_mm: float, midline_mm: float) -> None:
    """Make ``mirror_evidence`` (the other side's), ``side_mm`` (positive left) and ``midline``."""
    brain, affine = workspace.mask("brain"), workspace.grid.affine_lps
    plane = find_midplane(brain, workspace.array("relative_dwi"), affine)
    workspace.midplane = plane
    reach = tuple(int(tolerance_mm // step) for step in workspace.spacing_mm)
    workspace.arrays["mirror_evidence"] = mirror_map(
        workspace.array("evidence"), brain, plane, affine, reach=cast(tuple[int, int, int], reach)
    )
    side = np.full(brain.shape, 99.0, dtype=np.float32)
    side[brain] = plane.side_mm(voxel_positions(brain, affine))
    workspace.arrays["side_mm"] = side
    workspace.arrays["midline"] = (np.abs(side) < midline_mm).astype(np.float32)
    workspace.evidence["midplane_lps"] = [round(float(v), 4) for v in (*plane.normal, plane.offset_mm)]


def estimate_noise(workspace: Workspace, *, dwi: str, multiples: float) -> None:
    """Make ``snr`` and ``evidence_noise``; raise ``seed_asymmetry`` to ``multiples`` of the latter.

    Evidence is ln(signal) plus ln(1/ADC); a relative error e of the signal enters the second 1/(b · ADC) times.
    Smoothing averages about (2·√π·sigma)³ voxels.
    """
    noise = signal_noise(workspace.array(dwi), workspace.mask("interior"))
    attenuation = workspace.value("b_value") * 1e-6 * workspace.value("normal_adc_um2_s")
    averaged = 1.0
    for step in workspace.spacing_mm:
        averaged *= max(1.0, 2 * np.sqrt(np.pi) * workspace.value("smoothing_mm") / step)
    sigma = min(10.0, noise) * (1 + 1 / max(attenuation, 0.1)) / float(np.sqrt(averaged))
    workspace.values["snr"] = 1 / max(noise, 1e-3)
    workspace.values["evidence_noise"] = sigma
    workspace.values["seed_asymmetry"] = max(workspace.value("seed_asymmetry"), multiples * sigma)
    workspace.evidence["snr"] = round(workspace.values["snr"], 1)
    workspace.evidence["evidence_noise"] = round(sigma, 4)


STEPS: Mapping[str, StepFunction] = {
    function.__name__: function
    for function in (
        scale_signal,
        standardise,
        run_graph,
        find_brain,
        find_tissue,
        smoothing_kernels,
        normalise_adc,
        find_background,
        mirror,
        estimate_noise,
    )
}
