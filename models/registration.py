"""Rigid registration of two volumes of one patient: same result on every run, and checked before it is believed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from models.volume import Volume

MINIMUM_CORRELATION = 0.6
MINIMUM_OVERLAP = 0.75
"""Dice coefficient of what is not background in both."""
_SAMPLES = 40000
_ITERATIONS = 200
_BINS = 32
"""Of the joint histogram."""
_BRIGHT, _AIR = 98.0, 0.08
"""Percentile that is bright, and the share of it below which there is air."""


class NotComparable(Exception):
    """Two studies cannot be brought into agreement. Whoever asks turns it into an answer of its own."""


def rigid_transform(fixed: Volume, moving: Volume, *, same_contrast: bool = True) -> npt.NDArray[np.float64]:
    """Map the patient space of one volume to that of another.

    Parameters
    ----------
    fixed, moving : Volume
    same_contrast : bool
        Their intensities are compared as they are; False: only what they say about each other is (mutual information),
        as between MR sequences, and only the overlap is checked.

    Returns
    -------
    numpy.ndarray
        4×4 float64: a point in mm (LPS) of ``fixed`` to the same point of the body in mm of ``moving``.

    Raises
    ------
    NotComparable
        No rotation and translation makes them alike.
    """
    one, other = _image(fixed), _image(moving)
    # Between contrasts the foregrounds are different tissues; one study's series start where the scanner says they are.
    start = _by_moments(one, other) if same_contrast else _in_place(one)
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums in another order are other sums
    if same_contrast:
        method.SetMetricAsCorrelation()
    else:
        method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    # "Regular" samples are jittered, by the clock unless told otherwise.
    method.SetMetricSamplingPercentage(min(1.0, _SAMPLES / fixed.array_zyx.size), seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    # The default tolerance of the gradient ends it millimetres away from where it gets otherwise.
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, _ITERATIONS, 0.7, 1e-10)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=False)
    try:
        found = method.Execute(one, other)
    except RuntimeError as error:
        raise NotComparable("the images do not meet") from error
    _require_agreement(one, other, found, same_contrast=same_contrast)
    return _matrix(found)


def resampled(moving: Volume, fixed: Volume, transform: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """``moving`` on the grid of ``fixed``, linear, zero outside; ``transform`` as :func:`rigid_transform` gives it."""
    affine = sitk.AffineTransform(3)
    affine.SetMatrix([float(each) for each in transform[:3, :3].ravel()])
    affine.SetTranslation([float(each) for each in transform[:3, 3]])
    made = sitk.Resample(_image(moving), _image(fixed), affine, sitk.sitkLinear, 0.0)
    return sitk.GetArrayFromImage(made).astype(np.float32)


def _image(volume: Volume) -> sitk.Image:
    affine = volume.affine_lps
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array_zyx, np.float32))
    image.SetSpacing([float(each) for each in spacing])
    image.SetOrigin([float(each) for each in affine[:3, 3]])
    image.SetDirection([float(each) for each in (affine[:3, :3] / spacing).ravel()])
    return image


def _by_moments(one: sitk.Image, other: sitk.Image) -> sitk.Transform:
    centred = sitk.CenteredTransformInitializerFilter.MOMENTS
    return sitk.CenteredTransformInitializer(_foreground(one), _foreground(other), sitk.Euler3DTransform(), centred)


def _in_place(one: sitk.Image) -> sitk.Transform:
    """No movement; rotations are about the middle of the image."""
    middle = one.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in one.GetSize()])
    start = sitk.Euler3DTransform()
    start.SetCenter(middle)
    return start


def _foreground(image: sitk.Image) -> sitk.Image:
    return sitk.Cast(sitk.OtsuThreshold(image, 0, 1, 64), sitk.sitkFloat32)


def _body(image: sitk.Image) -> sitk.Image:
    """What is not air, whatever the contrast."""
    values = sitk.GetArrayViewFromImage(image)
    low, high = float(values.min()), float(np.percentile(values, _BRIGHT))
    return sitk.Cast(sitk.Greater(image, low + _AIR * (high - low)), sitk.sitkFloat32)


def _require_agreement(one: sitk.Image, other: sitk.Image, found: sitk.Transform, *, same_contrast: bool) -> None:
    outline = _foreground if same_contrast else _body
    moved = sitk.GetArrayFromImage(sitk.Resample(other, one, found, sitk.sitkLinear, 0.0))
    covered = sitk.GetArrayFromImage(sitk.Resample(outline(other), one, found, sitk.sitkNearestNeighbor, 0.0)) > 0
    here = sitk.GetArrayFromImage(one)
    body = sitk.GetArrayFromImage(outline(one)) > 0
    total = int(body.sum()) + int(covered.sum())
    overlap = 2.0 * int((body & covered).sum()) / total if total else 0.0
    both = body | covered
    if not both.any() or float(here[both].std()) == 0.0 or float(moved[both].std()) == 0.0:
        raise NotComparable("there is nothing to compare")
    correlation = float(np.corrcoef(here[both], moved[both])[0, 1])
    if overlap < MINIMUM_OVERLAP or (same_contrast and correlation < MINIMUM_CORRELATION):
        raise NotComparable(f"overlap {overlap:.2f}, correlation {correlation:.2f}")


def _matrix(found: sitk.Transform) -> npt.NDArray[np.float64]:
    """The transform at four points is its matrix."""
    origin = np.array(found.TransformPoint((0.0, 0.0, 0.0)))
    axes = [np.array(found.TransformPoint(tuple(row))) - origin for row in np.eye(3)]
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack(axes, axis=1)
    matrix[:3, 3] = origin
    return matrix
