"""Steps that bring a card's arrays to a network and its answer back. :data:`STEPS` is the table cards name them from.

For a network that stands on what other steps have measured: its channels are arrays of the workspace, its answer becomes
one. It sees the brain's box on the images' own voxels, turned to one orientation; only voxels finer than the card allows
are made coarser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.dense.channels import Box, box_of
from models.dense.orientation import Turning, turning
from models.dense.resampling import new_shape, resized
from models.steps import StepFunction
from models.workspace import Workspace

ORIENTATION = "LPS"
IMAGE, LOGITS = "image", "logits"
"""Input (1, channels, z, y, x) and output (1, 1, z, y, x) of the network, both float32."""
Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NetworkGrid:
    """The way from the workspace's grid to the network's and back.

    Attributes
    ----------
    turned : Turning
        To the network's orientation.
    box : tuple of slice
        The brain, on the turned grid.
    shape, margins
        Of the box on the network's grid, and what is added at the end of each axis.
    """

    turned: Turning
    box: Box
    shape: tuple[int, ...]
    margins: tuple[int, ...]

    @classmethod
    def of(cls, workspace: Workspace, finest_mm: Sequence[float], multiple: Sequence[int]) -> NetworkGrid:
        """For voxels (z, y, x) not finer than ``finest_mm`` and counts divisible by ``multiple``; needs the array ``brain``."""
        turned = turning(workspace.grid.affine_lps, ORIENTATION)
        box = box_of(turned.apply(workspace.mask("brain")))
        spacing = turned.spacing(workspace.spacing_mm)
        wanted = [max(own, least) for own, least in zip(spacing, finest_mm, strict=True)]
        shape = new_shape([side.stop - side.start for side in box], spacing, wanted)
        return cls(turned, box, shape, tuple(-count % factor for count, factor in zip(shape, multiple, strict=True)))

    def there(self, array: npt.NDArray[np.floating]) -> Array:
        """``array`` (z, y, x) of the workspace on the network's grid."""
        made = resized(self.turned.apply(array)[self.box], self.shape, order=1, apart=None)
        return np.pad(made, [(0, margin) for margin in self.margins])

    def back(self, array: npt.NDArray[np.floating], shape: tuple[int, ...]) -> Array:
        """The reverse; zero outside the box. ``shape`` is the workspace's."""
        inside = array[tuple(slice(0, count) for count in self.shape)]
        whole = np.zeros([shape[axis] for axis in self.turned.axes], np.float32)
        whole[self.box] = resized(inside, whole[self.box].shape, order=1, apart=None)
        return np.ascontiguousarray(self.turned.undo(whole))


def unsmoothed_ratios(workspace: Workspace, *, dwi: str, adc: str) -> None:
    """Make ``sharp_relative_dwi`` (natural logarithm) and ``sharp_adc_ratio``: as measured; the smoothed maps blur edges."""
    signal = np.log(np.maximum(workspace.array(dwi), np.float32(1e-3)))
    workspace.arrays["sharp_relative_dwi"] = signal - workspace.array("log_background")
    workspace.arrays["sharp_adc_ratio"] = workspace.array(adc) / workspace.array("adc_reference")


def paint_candidates(workspace: Workspace, *, output: str) -> None:
    """Make ``output``: 1 in the candidates so far, else 0. They are candidates no longer."""
    painted = np.zeros(workspace.grid.array_zyx.shape, np.float32)
    for each in workspace.candidates:
        painted[each.box][each.mask] = 1
    workspace.arrays[output] = painted
    workspace.candidates = []


def network_image(
    workspace: Workspace,
    *,
    arrays: Sequence[str],
    low: Sequence[float],
    high: Sequence[float],
    finest_mm: Sequence[float],
    multiple: Sequence[int],
) -> None:
    """Make ``image``: ``arrays``, each clipped to ``low`` … ``high`` and scaled to −1 … 1; zero outside the brain."""
    grid, brain = NetworkGrid.of(workspace, finest_mm, multiple), workspace.mask("brain")
    channels = []
    for name, least, most in zip(arrays, low, high, strict=True):
        scaled = (np.clip(workspace.array(name), least, most) - least) * (2 / (most - least)) - 1
        channels.append(grid.there(np.where(brain, scaled, 0).astype(np.float32)))
    workspace.arrays[IMAGE] = np.stack(channels)[np.newaxis]


def network_probability(
    workspace: Workspace, *, output: str, finest_mm: Sequence[float], multiple: Sequence[int]
) -> None:
    """Make ``output`` from ``logits``: the sigmoid, on the workspace's own voxels; zero outside the brain."""
    grid = NetworkGrid.of(workspace, finest_mm, multiple)
    logits = np.clip(workspace.array(LOGITS)[0, 0], -30, 30)
    likely = grid.back(1 / (1 + np.exp(-logits)), workspace.grid.array_zyx.shape)
    workspace.arrays[output] = np.where(workspace.mask("brain"), likely, np.float32(0))


def drop_unfounded(workspace: Workspace, *, prior: str, probability: str, peak: str, reach_mm: float) -> None:
    """Drop candidates a network has begun of its own, but for those near what is known that it is sure of.

    One that holds a voxel of ``prior`` stays. Another stays within ``reach_mm`` of the nearest such voxel, where its largest
    ``probability`` reaches ``peak``, a number of the workspace. Where ``prior`` is empty, nothing stays.
    """
    known, likely, least = workspace.mask(prior), workspace.array(probability), workspace.value(peak)
    if not known.any():
        workspace.keep("unfounded", [False for _ in workspace.candidates])
        return
    away = ndimage.distance_transform_edt(~known, sampling=workspace.spacing_mm)
    verdicts = []
    for each in workspace.candidates:
        nearest = float(each.values(away).min())
        verdicts.append(nearest == 0 or (nearest <= reach_mm and float(each.values(likely).max()) >= least))
    workspace.keep("unfounded", verdicts)


STEPS: Mapping[str, StepFunction] = {
    function.__name__: function
    for function in (
        unsmoothed_ratios,
        paint_candidates,
        network_image,
        network_probability,
        drop_unfounded,
    )
}
