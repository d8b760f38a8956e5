"""Whether images are good enough to say "nothing found".

Each limit is checked only when the card states it. With findings, a failed check becomes a limitation of the result;
without, it becomes a refusal: "nothing found" on half a brain is worse than no answer.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.errors import (
    CardInvalid,
    InsufficientCoverage,
    LowSignalToNoise,
    NotAssessed,
    OrganCutOff,
    ReferenceDoubtful,
)
from models.symmetry import voxel_positions
from models.workspace import Workspace

LIMITS = (
    "minimum_coverage_mm",
    "minimum_snr",
    "maximum_border_share",
    "maximum_end_share",
    "minimum_width_to_length",
    "maximum_width_to_length",
    "minimum_normal_adc_um2_s",
    "maximum_side_difference",
    "maximum_rejected_ml",
)
"""Keys a card's ``suitability`` may hold.

minimum_coverage_mm
    Extent of the brain along the slice axis, first to last slice that shows it.
minimum_snr
    Signal-to-noise ratio of the tissue in the diffusion-weighted images.
maximum_border_share
    Share of the brain's voxels that lie on the in-plane border of the image.
maximum_end_share
    Cross-section of the brain in the first or last slice that shows it, relative to its largest. Not of the stack: black
    slices at an end are no cover.
minimum_width_to_length, maximum_width_to_length
    Extent of the brain from left to right relative to that from front to back; half a brain is too narrow or too wide.
minimum_normal_adc_um2_s
    ADC of the tissue taken for normal, 10⁻⁶ mm²/s.
maximum_side_difference
    Relative difference of the median ADC of left and right.
maximum_rejected_ml
    Volume of all candidates that the rules dropped: that much is not dismissed without a reader.
"""

LIMITATIONS: Mapping[type[NotAssessed], str] = {
    InsufficientCoverage: "incomplete_coverage",
    LowSignalToNoise: "low_signal_to_noise",
    OrganCutOff: "organ_cut_off",
    ReferenceDoubtful: "reference_doubtful",
}
"""Key of the sentence a result carries when something was found in spite of the fault."""


def check_limits(model_id: str, limits: Mapping[str, float]) -> None:
    """Raise :class:`CardInvalid` for a limit that does not exist."""
    if unknown := set(limits) - set(LIMITS):
        raise CardInvalid(f"{model_id}: suitability: unknown {', '.join(sorted(unknown))}; known {', '.join(LIMITS)}")


def shortcomings(workspace: Workspace, limits: Mapping[str, float]) -> list[NotAssessed]:
    """What speaks against "nothing found", worst first; empty when nothing does.

    Parameters
    ----------
    workspace : Workspace
        After postprocessing: array ``brain``, numbers ``snr``, ``normal_adc_um2_s``, ``side_ratio``.
    limits : mapping
        The card's ``suitability``, see :data:`LIMITS`.
    """
    found: list[NotAssessed] = _doubts(workspace, limits)
    if "minimum_coverage_mm" in limits:
        covered = _coverage_mm(workspace)
        workspace.evidence["coverage_mm"] = round(covered, 1)
        if covered < limits["minimum_coverage_mm"]:
            found.append(
                InsufficientCoverage(
                    f"the slices show {covered:.0f} mm of brain; {limits['minimum_coverage_mm']:.0f} mm are needed",
                    coverage_mm=round(covered, 1),
                )
            )
    if {"maximum_border_share", "maximum_end_share"} & set(limits) and (cut := _cut_off(workspace, limits)):
        found.append(cut)
    if "minimum_snr" in limits and workspace.value("snr") < limits["minimum_snr"]:
        ratio = workspace.value("snr")
        found.append(
            LowSignalToNoise(
                f"the signal-to-noise ratio is {ratio:.1f}; {limits['minimum_snr']:.1f} is needed", snr=round(ratio, 2)
            )
        )
    return found


def _doubts(workspace: Workspace, limits: Mapping[str, float]) -> list[NotAssessed]:
    """Signs that the infarct may be so large that it became the yardstick, or was dismissed whole."""
    found: list[NotAssessed] = []
    low = limits.get("minimum_normal_adc_um2_s")
    if low is not None and (normal := workspace.value("normal_adc_um2_s")) < low:
        found.append(
            ReferenceDoubtful(
                f"the ADC of most tissue is {normal:.0f} um2/s, below {low:.0f}: diffuse restriction or a wrong ADC scale",
                normal_adc_um2_s=round(normal, 1),
            )
        )
    widest = limits.get("maximum_side_difference")
    if widest is not None and abs((ratio := workspace.value("side_ratio")) - 1) > widest:
        lower = "left" if ratio < 1 else "right"
        found.append(
            ReferenceDoubtful(
                f"the median ADC of the {lower} half of the brain is {100 * abs(1 - min(ratio, 1 / ratio)):.0f} % lower "
                "than that of the other half, which no marked area explains",
                adc_left_to_right=round(ratio, 3),
            )
        )
    largest = limits.get("maximum_rejected_ml")
    if largest is not None and workspace.rejected_ml > largest:
        volume = workspace.rejected_ml
        found.append(
            ReferenceDoubtful(
                f"{volume:.0f} mL with low ADC could be told neither from infarct nor from normal variation",
                rejected_ml=round(volume, 2),
            )
        )
    return found


def _coverage_mm(workspace: Workspace) -> float:
    slices = np.flatnonzero(workspace.mask("brain").any(axis=(1, 2)))
    return float(slices[-1] - slices[0] + 1) * workspace.spacing_mm[0] if slices.size else 0.0


def _cut_off(workspace: Workspace, limits: Mapping[str, float]) -> OrganCutOff | None:
    brain = workspace.mask("brain")
    total = max(1, int(np.count_nonzero(brain)))
    border = brain.copy()
    border[:, 1:-1, 1:-1] = False
    share = float(np.count_nonzero(border)) / total
    if share > limits.get("maximum_border_share", 1.0):
        return OrganCutOff(
            f"{100 * share:.1f} % of the brain lies on the edge of the image", border_share=round(share, 4)
        )
    areas = np.count_nonzero(brain, axis=(1, 2))
    areas = areas[areas > 0]
    end = float(max(areas[0], areas[-1])) / max(1, int(areas.max()))
    if end > limits.get("maximum_end_share", 1.0):
        where = "first" if areas[0] >= areas[-1] else "last"
        return OrganCutOff(
            f"the {where} slice with brain still shows {100 * end:.0f} % of the brain's largest cross-section",
            end_share=round(end, 3),
        )
    return _misshapen(workspace, limits)


def _misshapen(workspace: Workspace, limits: Mapping[str, float]) -> OrganCutOff | None:
    if not {"minimum_width_to_length", "maximum_width_to_length"} & set(limits):
        return None
    positions = voxel_positions(workspace.mask("brain"), workspace.grid.affine_lps, step=7)
    width, length, _ = np.subtract(*np.percentile(positions, [99, 1], axis=0))
    share = float(width / length)
    workspace.evidence["width_to_length"] = round(share, 2)
    low, high = limits.get("minimum_width_to_length", 0.0), limits.get("maximum_width_to_length", np.inf)
    if low <= share <= high:
        return None
    return OrganCutOff(
        f"the brain measures {width:.0f} mm from left to right and {length:.0f} mm from front to back: part of it is not shown",
        width_to_length=round(share, 3),
    )
