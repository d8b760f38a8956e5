"""The subacute mode: what is bright on diffusion-weighted images is taken by that alone, whatever its ADC.

From about the tenth day on the ADC of an infarct is that of normal tissue again (Lansberg et al., Stroke 2001), and every
method that wants a low ADC misses it. In this mode such areas are reported beside those of low ADC, each marked as what it is:
nothing in the images tells a subacute infarct from T2 shine-through. Only who asks for the mode gets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np
import numpy.typing as npt

from models.candidates import Candidate, grown_from_seeds, refined
from models.errors import GraphMismatch, ParameterInvalid
from models.morphology import Mask, dilated
from models.results import SUBACUTE
from models.symmetry import mirror_map
from models.tissue import spread
from models.workspace import SEEDS, Workspace

_APART_MM = 4.0
"""Around what has a low ADC nothing else is taken: its blurred edge is bright, too."""

Map = npt.NDArray[np.float32]


def add_dwi_only(
    workspace: Workspace,
    *,
    switch: str,
    threshold: str,
    seed_z: str,
    grow_z: str,
    peak_z: float,
    fraction: str,
    label: int,
    minimum_seeds: int,
    rim_mm: float,
    low_adc_ratio: str,
    likeness: float,
    share: float,
    tolerance_mm: float,
    thick_slice_mm: float,
) -> None:
    """Add candidates that are bright on DWI alone, where ``switch`` (a number of the workspace) is 1.

    Runs after all rules for what has a low ADC, and leaves that as it is.

    Parameters
    ----------
    threshold : str
        Number: less, in mL, is not reported.
    seed_z, grow_z : str
        Numbers: how far above the median of the patient's tissue, in robust standard deviations, seeds and what is grown
        from them lie. ``peak_z`` is the least mean of the three best voxels: noise alone makes specks above a seed.
    fraction : str
        Number: the edge lies where the excess is this share of what it is at the seeds.
    label : int
        The card's label for such an area.
    rim_mm : float
        Mean depth below which it is taken for the pile-up of signal at skull base and air.
    low_adc_ratio : str
        Number: what lies below on the mean was dropped by the rules for low ADC, and stays so.
    likeness, share, tolerance_mm : float
        What the mirrored place shows ``likeness`` times as much, over more than ``share`` of it, is normal anatomy or artefact.

    Raises
    ------
    ParameterInvalid
        ``switch`` is neither 0 nor 1.
    """
    if (wanted := workspace.value(switch)) not in (0.0, 1.0):
        raise ParameterInvalid(f"{switch} is 1 (on) or 0 (off), not {wanted:g}")
    if not wanted:
        return
    workspace.limitations.append(SUBACUTE)
    workspace.has_range = False
    excess, near = _excess(workspace), _near_candidates(workspace)
    room, interior = workspace.mask("brain") & ~near, workspace.mask("interior")
    # What lies opposite an infarct is no normal anatomy for that; and the brain's edge is nothing to compare with.
    mirrored = _mirrored(workspace, np.where(room & interior, excess, np.float32(0)), tolerance_mm)
    seeds = room & interior & (excess >= workspace.value(seed_z))
    found = _parts(
        seeds,
        room & (excess >= workspace.value(grow_z)),
        excess,
        room,
        fraction=workspace.value(fraction),
        in_plane=workspace.spacing_mm[0] > thick_slice_mm,
        label=label,
    )
    smallest, voxel_ml = workspace.value(threshold), workspace.grid.voxel_ml
    large = (each for each in found if each.voxels * voxel_ml >= smallest and each.seeds >= minimum_seeds)
    kept = list(
        _lesions(
            workspace,
            large,
            excess,
            mirrored,
            peak_z=peak_z,
            rim_mm=rim_mm,
            low_adc_ratio=workspace.value(low_adc_ratio),
            likeness=likeness,
            share=share,
        )
    )
    workspace.candidates += kept
    workspace.arrays[SEEDS] = workspace.mask(SEEDS) | seeds
    workspace.evidence["dwi_only"] = len(kept)


def _lesions(
    workspace: Workspace,
    found: Iterable[Candidate],
    excess: Map,
    mirrored: Map,
    *,
    peak_z: float,
    rim_mm: float,
    low_adc_ratio: float,
    likeness: float,
    share: float,
) -> Iterator[Candidate]:
    """Those that stand out of the noise and are nothing normal; how many were taken for something normal is noted."""
    ratio, depth, tissue = workspace.array("adc_ratio"), workspace.array("depth_mm"), workspace.mask("tissue")
    for each in found:
        inside = each.mask & tissue[each.box]
        own = excess[each.box][inside]
        if not own.size or float(np.sort(own)[-3:].mean()) < peak_z:
            continue
        is_mirrored = float((mirrored[each.box][inside] >= likeness * own).mean()) > share
        is_rim = float(each.values(depth).mean()) < rim_mm
        if is_mirrored or is_rim or float(ratio[each.box][inside].mean()) < low_adc_ratio:
            workspace.rejected["dwi_only"] = workspace.rejected.get("dwi_only", 0) + 1
            continue
        yield each


def _parts(
    seeds: Mask, grow: Mask, excess: Map, room: Mask, *, fraction: float, in_plane: bool, label: int
) -> Iterator[Candidate]:
    for grown in grown_from_seeds(seeds, grow):
        for part in refined(grown, seeds, excess, room, fraction=fraction, in_plane=in_plane):
            yield Candidate(part.box, part.mask, part.seeds, label)


def _excess(workspace: Workspace) -> Map:
    """DWI above the median of the patient's tissue in robust standard deviations, the coil's profile taken out."""
    relative = np.exp(workspace.array("relative_dwi"))
    level = spread(relative[workspace.mask("interior")])
    return np.asarray((relative - level.median) / max(level.sigma, 1e-3), dtype=np.float32)


def _mirrored(workspace: Workspace, excess: Map, tolerance_mm: float) -> Map:
    if workspace.midplane is None:
        raise GraphMismatch("no step has found the mid-sagittal plane")
    reach = tuple(int(tolerance_mm // step) for step in workspace.spacing_mm)
    brain = workspace.mask("brain")
    return mirror_map(
        excess, brain, workspace.midplane, workspace.grid.affine_lps, reach=cast(tuple[int, int, int], reach)
    )


def _near_candidates(workspace: Workspace) -> Mask:
    """What was found already, and its surroundings."""
    taken = np.zeros(workspace.grid.array_zyx.shape, dtype=bool)
    for each in workspace.candidates:
        taken[each.box] |= each.mask
    return dilated(taken, _APART_MM, workspace.spacing_mm) if taken.any() else taken
