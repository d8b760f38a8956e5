"""Three orthogonal views of a volume in the patient's own axes, small enough for a report model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from models.results import LabelMask
from models.volume import Volume

FOREGROUND = 0.2
"""Part of the 99th percentile above which a voxel belongs to the head."""
SIGNAL_CEILING = 2.0
"""Normalised signal is cut here; 1.0 is the 99th percentile."""
NORMAL_ADC_UM2_S = 800.0
"""ADC of healthy tissue, 10⁻⁶ mm²/s: lowness is measured from here."""


def orthogonal_projections(
    inputs: Mapping[str, Volume], mask_zyx: LabelMask | None, *, channels: tuple[str, ...], size: int
) -> npt.NDArray[np.float32]:
    """Return maximum projections of the head along the three patient axes.

    Parameters
    ----------
    inputs : mapping of str to Volume
        Must hold ``dwi``, and ``adc`` (``um2/s``) when ``low_adc`` is asked for, on one grid.
    mask_zyx : numpy.ndarray, optional
        Label mask on that grid; None is an empty mask.
    channels : tuple of str
        Out of ``dwi`` (signal over its 99th percentile), ``low_adc`` (signal times relative lowness of the ADC) and
        ``mask`` (0 or 1), in the order wanted.
    size : int
        Rows and columns of each view.

    Returns
    -------
    numpy.ndarray
        float32, shape (3, channels, size, size): looking along z, y, x. Rows and columns run with increasing z, y or
        x (DICOM patient axes: +x left, +y posterior, +z superior), cropped to the head, whatever the stored
        orientation. Oblique volumes are read along the nearest axes.

    Raises
    ------
    ValueError
        A channel is not known.
    """
    dwi = inputs["dwi"]
    scale = max(float(np.percentile(dwi.array_zyx, 99)), 1e-6)
    signal = np.clip(dwi.array_zyx / scale, 0.0, SIGNAL_CEILING).astype(np.float32)
    made = []
    for channel in channels:
        if channel == "dwi":
            made.append(signal)
        elif channel == "low_adc":
            adc = inputs["adc"].array_zyx
            lowness = np.where(adc > 0, np.clip(1.0 - adc / NORMAL_ADC_UM2_S, 0.0, 1.0), 0.0)
            made.append((signal * lowness).astype(np.float32))
        elif channel == "mask":
            made.append(np.zeros_like(signal) if mask_zyx is None else (mask_zyx > 0).astype(np.float32))
        else:
            raise ValueError(f"channel {channel!r} is not known")
    crop = _head_box(signal)
    views = np.empty((3, len(channels), size, size), dtype=np.float32)
    for index, array in enumerate(made):
        patient = _to_patient_axes(array[crop], dwi.affine_lps)
        for axis in range(3):
            views[axis, index] = _shrink(patient.max(axis=axis), size)
    return views


def _head_box(signal: npt.NDArray[np.float32]) -> tuple[slice, slice, slice]:
    inside = signal > FOREGROUND
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        # A single bright voxel is no head: a row counts when a hundredth of the fullest row is filled.
        filled = inside.sum(axis=others)
        where = np.flatnonzero(filled > 0.01 * filled.max()) if filled.max() else np.arange(signal.shape[axis])
        box.append(slice(int(where[0]), int(where[-1]) + 1))
    return box[0], box[1], box[2]


def _to_patient_axes(
    array_zyx: npt.NDArray[np.float32], affine_lps: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Reorder and flip so that the axes are z, y, x of the patient, each increasing."""
    directions = affine_lps[:3, :3][:, ::-1] / np.linalg.norm(affine_lps[:3, :3], axis=0)[::-1]
    patient_of: list[int] = [0, 0, 0]
    free = {0, 1, 2}
    # The most certain array axis chooses first, so that no two choose the same patient axis.
    for array_axis in np.argsort(-np.abs(directions).max(axis=0), kind="stable"):
        patient_axis = max(sorted(free), key=lambda a: abs(directions[a, array_axis]))
        patient_of[int(array_axis)] = patient_axis
        free.discard(patient_axis)
    order = [patient_of.index(a) for a in (2, 1, 0)]
    result = np.transpose(array_zyx, order)
    flips = [axis for axis, source in enumerate(order) if directions[patient_of[source], source] < 0]
    return np.flip(result, axis=tuple(flips)) if flips else result


def _shrink(view: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """Maximum over equal bins along both axes; where there are fewer pixels than bins, pixels repeat."""
    for axis in (0, 1):
        length = view.shape[axis]
        starts = [k * length // size for k in range(size)]
        stops = [max(-(-(k + 1) * length // size), start + 1) for k, start in enumerate(starts)]
        view = np.stack(
            [view.take(range(a, b), axis=axis).max(axis=axis) for a, b in zip(starts, stops, strict=True)], axis
        )
    return view
