"""Steps after the main graph: from score maps to numbered regions. :data:`STEPS` is the table cards name them from."""

from __future__ import annotations

from collections.abc import Mapping
from math import erf, exp, pi, sqrt

import numpy as np
from scipy import ndimage

from models.candidates import Candidate, grown_from_seeds, refined
from models.morphology import CUBE
from models.ratio_terms import RATIO, RATIO_UNIT, RELATIVE_DWI
from models.results import CodedTerm, Quantity
from models.signal_ratio import flair_ratio
from models.steps import StepFunction
from models.subacute import add_dwi_only
from models.workspace import SEEDS, MeanOf, Workspace


def connected_regions(workspace: Workspace, *, array: str, above: float | str, label: int = 1) -> None:
    """Each 26-connected part of ``array > above`` (or the number of the workspace named so) becomes a candidate of ``label``."""
    limit = workspace.value(above) if isinstance(above, str) else above
    labels, _ = ndimage.label(workspace.array(array) > limit, structure=CUBE)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        mask = labels[box] == number
        workspace.candidates.append(Candidate(box, mask, int(np.count_nonzero(mask)), label))


def grow_candidates(workspace: Workspace, *, seed: str, grow: str, margin: str) -> None:
    """Hysteresis: parts of ``grow``, 26-connected, that hold a voxel of ``seed``, both above ``margin``.

    ``margin`` is a number of the workspace. Scores say by how much the least of their conditions is met, so that it moves all of
    them at once, each in its own unit.
    """
    above = workspace.value(margin)
    seeds = workspace.array(seed) > above
    workspace.candidates += grown_from_seeds(seeds, workspace.array(grow) > above)
    workspace.arrays[SEEDS] = seeds


def refine_candidates(
    workspace: Workspace, *, seed: str, evidence: str, margin: str, fraction: str, thick_slice_mm: float
) -> None:
    """Cut each candidate back to a share of the evidence at its seeds; see :func:`models.candidates.refined`.

    ``fraction`` and ``margin`` (as in :func:`grow_candidates`) are numbers of the workspace.
    """
    seeds = workspace.array(seed) > workspace.value(margin)
    values, brain, share = workspace.array(evidence), workspace.mask("brain"), workspace.value(fraction)
    in_plane = workspace.spacing_mm[0] > thick_slice_mm
    workspace.candidates = [
        part
        for each in workspace.candidates
        for part in refined(each, seeds, values, brain, fraction=share, in_plane=in_plane)
    ]


def drop_small(workspace: Workspace, *, threshold: str, minimum_voxels: int, minimum_seeds: int = 1) -> None:
    """Drop what is below the reporting threshold (a number of the workspace, mL), or has too few voxels or seeds."""
    limit = workspace.value(threshold)
    voxel_ml = workspace.grid.voxel_ml
    workspace.keep(
        "small",
        [
            each.voxels * voxel_ml >= limit and each.voxels >= minimum_voxels and each.seeds >= minimum_seeds
            for each in workspace.candidates
        ],
    )


def drop_noise(
    workspace: Workspace, *, contrast: float, peak: float, large_ml: float, large_peak: float, multiples: float
) -> None:
    """Drop what noise or the normal unevenness of tissue makes.

    Parameters
    ----------
    contrast : float
        Least difference of mean evidence to the ring of tissue around it.
    peak, large_peak : float
        Least asymmetry at the three best voxels; ``large_peak`` from ``large_ml`` on, where many voxels agree.
    multiples : float
        The peak must also exceed this many standard deviations of the noise.
    """
    evidence, asymmetry = workspace.array("evidence"), workspace.array("asymmetry")
    tissue = workspace.mask("tissue")
    floor = multiples * workspace.value("evidence_noise")
    verdicts = []
    for each in workspace.candidates:
        ring = each.ring(tissue)
        inside = evidence[each.box][each.mask & tissue[each.box]]
        stands_out = not ring.any() or float(inside.mean() - evidence[each.box][ring].mean()) >= contrast
        best = float(np.sort(each.values(asymmetry))[-3:].mean())
        wanted = large_peak if each.voxels * workspace.grid.voxel_ml >= large_ml else peak
        verdicts.append(stands_out and best >= max(wanted, floor))
    workspace.keep("noise", verdicts)


def drop_rims(workspace: Workspace, *, t2_excess: float, depth_mm: float, adc_ratio: float) -> None:
    """Drop signal pile-up at skull base and air: near the surface, far brighter than its ADC explains.

    ``t2_excess`` is the natural logarithm of the signal at b = 0 relative to normal tissue that counts as too much
    where the mean depth is less than ``depth_mm`` and the mean ADC above ``adc_ratio`` of normal.
    """
    relative, ratio, depth = (workspace.array(name) for name in ("relative_dwi", "adc_ratio", "depth_mm"))
    tissue = workspace.mask("tissue")
    attenuation = workspace.value("b_value") * 1e-6 * workspace.value("normal_adc_um2_s")
    verdicts = []
    for each in workspace.candidates:
        inside = each.mask & tissue[each.box]
        mean_ratio = float(ratio[each.box][inside].mean())
        excess = float(relative[each.box][inside].mean()) + attenuation * (mean_ratio - 1)
        shallow = float(each.values(depth).mean()) < depth_mm
        verdicts.append(not (shallow and excess > t2_excess and mean_ratio > adc_ratio))
    workspace.keep("rim", verdicts)


def drop_symmetric_pairs(
    workspace: Workspace, *, likeness: float, share: float, strong: float, large_ml: float
) -> None:
    """Drop what the other side shows too, as normal tracts and cortex do, unless the evidence is ``strong``.

    A voxel is matched when the mirrored place has ``likeness`` times its evidence; a candidate is dropped when more
    than ``share`` of it is. From ``large_ml`` on it is no tract: both cerebellar hemispheres or both sides of the brain
    may be infarcted alike. Nor is it one where the other side is ``strong``: that is an infarct opposite an infarct.
    """
    evidence, mirrored = workspace.array("evidence"), workspace.array("mirror_evidence")
    tissue = workspace.mask("tissue")
    verdicts = []
    for each in workspace.candidates:
        inside = each.mask & tissue[each.box]
        own = evidence[each.box][inside]
        other = mirrored[each.box][inside]
        matched = other >= likeness * np.maximum(own, 0.05)
        is_weak = float(own.mean()) < strong and float(np.median(other)) < strong
        is_tract = is_weak and each.voxels * workspace.grid.voxel_ml < large_ml
        verdicts.append(not (float(matched.mean()) > share and is_tract))
    workspace.keep("symmetric_pair", verdicts)


def label_regions(workspace: Workspace, *, maximum: int) -> None:
    """Make ``labels``: candidates numbered from 1, largest first.

    Beyond ``maximum`` regions the smallest are written as one region, so that the total volume stays true; it is sorted
    by its summed volume like any other, and the evidence says that it was made.
    """
    groups = [[each] for each in sorted(workspace.candidates, key=lambda each: -each.voxels)]
    if len(groups) > maximum:
        rest = [each for group in groups[maximum - 1 :] for each in group]
        groups = [*groups[: maximum - 1], rest]
        groups.sort(key=lambda group: -sum(each.voxels for each in group))
        workspace.evidence["regions_merged"] = len(rest)
    labels = np.zeros(workspace.grid.array_zyx.shape, dtype=np.uint8)
    for number, group in enumerate(groups, start=1):
        for each in group:
            labels[each.box][each.mask] = number
    workspace.arrays["labels"] = labels
    workspace.candidates = [group[0] for group in groups]


def report_mean(
    workspace: Workspace,
    *,
    array: str,
    code: str,
    scheme: str,
    meaning: str,
    unit: str,
) -> None:
    """Report the mean of ``array`` in each region as the coded concept, in the UCUM ``unit``."""
    workspace.means.append(MeanOf(array, CodedTerm(code, scheme, meaning), CodedTerm(unit, "UCUM", unit)))


def note_mean(workspace: Workspace, *, array: str, key: str, exponential: bool = False) -> None:
    """Keep the mean of ``array`` (of its exponential, for logarithms) in each region as evidence under ``key``."""
    labels, values = workspace.array("labels"), workspace.array(array)
    found = [float(values[labels == number].mean()) for number in range(1, len(workspace.candidates) + 1)]
    workspace.evidence[key] = [round(float(np.exp(each)) if exponential else each, 3) for each in found]


def report_relative_dwi(workspace: Workspace, *, array: str) -> None:
    """Report the mean of ``array`` (natural logarithm of DWI relative to normal tissue) in each region as a ratio."""
    labels, values = workspace.array("labels"), workspace.array(array)
    for number in range(1, len(workspace.candidates) + 1):
        ratio = round(float(np.exp(values[labels == number].mean(dtype=np.float64))), 3)
        workspace.quantities.setdefault(number, []).append(Quantity(RATIO, ratio, RATIO_UNIT, remark=RELATIVE_DWI))


def detection_limit(
    workspace: Workspace,
    *,
    threshold: str,
    typical_evidence: float,
    peak: float,
    multiples: float,
    blurred: float,
) -> None:
    """Make ``detection_limit_ml``: the volume from which about 9 in 10 infarcts stand out on these images.

    Smoothing and the voxel's own size dilute a small lesion. The ball is sought whose centre still shows, of an infarct
    of ``typical_evidence``, what a finding needs over its mirrored place: ``peak``, the seeds' asymmetry, or
    ``multiples`` of the noise. The mirrored place itself shows the more, the noisier the images. Lesions are fainter and
    less round than the ball: ``blurred`` is by how much larger they must be, counted on phantoms. At least the reporting
    threshold and three voxels.
    """
    over = max(peak, workspace.value("seed_asymmetry"), multiples * workspace.value("evidence_noise"))
    elsewhere = workspace.array("mirror_evidence")[workspace.mask("normal")]
    opposite = float(np.median(np.clip(elsewhere, 0, workspace.value("mirror_cap"))))
    needed = (over + opposite) / typical_evidence
    radii = np.linspace(0.5, 4.0, 71)
    # Share of a Gaussian's weight inside radius r (in standard deviations): what is left at the centre of a ball.
    share = np.array([_inside_gaussian(float(r)) for r in radii])
    radius = float(radii[min(int(np.searchsorted(share, needed)), radii.size - 1)])
    sigma = [np.sqrt(workspace.value("smoothing_mm") ** 2 + step**2 / 12) for step in workspace.spacing_mm]
    ball_ml = blurred * 4 / 3 * np.pi * radius**3 * float(np.prod(sigma)) / 1000
    limit = max(workspace.value(threshold), 3 * workspace.grid.voxel_ml, round(float(ball_ml), 2))
    workspace.values["detection_limit_ml"] = limit


def _inside_gaussian(radius: float) -> float:

    return erf(radius / sqrt(2)) - sqrt(2 / pi) * radius * exp(-radius * radius / 2)


STEPS: Mapping[str, StepFunction] = {
    function.__name__: function
    for function in (
        connected_regions,
        grow_candidates,
        refine_candidates,
        drop_small,
        drop_noise,
        drop_rims,
        drop_symmetric_pairs,
        add_dwi_only,
        label_regions,
        report_mean,
        note_mean,
        report_relative_dwi,
        detection_limit,
        flair_ratio,
    )
}
