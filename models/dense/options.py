"""What a card's ``options`` say of a network that labels every voxel."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.dense.orientation import axes_of


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Channel(_Table):
    """One channel of the network's image.

    Attributes
    ----------
    role : str
        Input the channel is made of.
    normalise : str
        ``zscore`` over the whole image; ``zscore_mask`` over what is not zero in any channel, zero elsewhere;
        ``zscore_nonzero`` over what is not zero in this channel; ``clip_standardise``: clip to ``low`` … ``high``, subtract
        ``mean``, divide by ``spread`` (nnU-Net's CT); ``range``: ``low`` … ``high`` to 0 … 1, clipped; ``own_range``: its own
        smallest and largest value to 0 … 1; ``grey_levels``: the percentiles 0.5 and 99.5 of the positive voxels to 256 steps
        of 0 … 1, then less ``mean``, divided by ``spread``; ``tissue_ratio``: relative to the level of normal tissue in this
        very image (:func:`models.tissue.normal_level`), clipped to ``low`` … ``high``, less ``mean``, divided by ``spread``;
        ``none``.
    """

    role: str
    normalise: Literal[
        "zscore",
        "zscore_mask",
        "zscore_nonzero",
        "clip_standardise",
        "range",
        "own_range",
        "grey_levels",
        "tissue_ratio",
        "none",
    ]
    low: float = 0.0
    high: float = 1.0
    mean: float = 0.0
    spread: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Channel:
        if self.high <= self.low:
            raise ValueError("high must be above low")
        return self


class BrainOnly(_Table):
    """For a model trained on stripped brains: what lies outside the brain is zero in every channel, and gets no label.

    The brain is found on diffusion MR (:func:`models.brain.brain_mask`), on the roles ``dwi`` and ``adc``. Those in
    ``level`` become relative to what normal tissue would have at each voxel (:func:`models.dense.stripping.levelled`).
    """

    dwi: str
    adc: str
    level: tuple[str, ...] = ()


class Window(_Table):
    """The sliding window: its size on the network's grid, by how much it overlaps, how answers are blended.

    ``rule``: ``nnunet`` spreads windows evenly, ``monai`` steps by whole windows and moves the last one back. Two sizes in
    ``size``: the network takes one slice (along the first axis) at a time.
    """

    size: tuple[int, ...] = Field(min_length=2, max_length=3)
    overlap: float = Field(default=0.5, ge=0, lt=1)
    blend: Literal["gaussian", "constant"] = "gaussian"
    rule: Literal["nnunet", "monai"] = "nnunet"

    @field_validator("size")
    @classmethod
    def _positive(cls, size: tuple[int, ...]) -> tuple[int, ...]:
        if min(size) < 1:
            raise ValueError("a window has at least one voxel along each axis")
        return size


class Paint(_Table):
    """Where channel ``output`` is above the threshold, the label is ``label``; later ones paint over earlier ones."""

    output: int = Field(ge=0)
    label: int = Field(ge=1, le=255)


class DenseOptions(_Table):
    """The card's ``options``.

    Attributes
    ----------
    orientation : str
        Three letters: where the axes x, y, z of the network's images point at, as in NIfTI (``RAS``).
    order : tuple of int
        Axes of the network's image out of (z, y, x); nnU-Net's ``transpose_forward``.
    spacing_mm : tuple of float
        Of the network's grid, in ``order``; empty: the images' own. Two values for a window of two sizes.
    stretch : tuple of int
        Rows and columns of the network's image, where it sees whole slices stretched; then there is no spacing.
    normalise_on : str
        Grid on which channels are normalised: the images' ``own_grid``, or the ``network_grid``, after resampling.
    image_spline : int
        Order of the spline that brings the image to the network's grid: 3 in nnU-Net, 1 (linear) in MONAI.
    grid : str
        What stays when the spacing changes: ``field_of_view``, as in nnU-Net and ``torch.nn.functional.interpolate``, or the
        centre of the ``first_voxel``, as in MONAI's ``Spacing`` (linear, all axes at once).
    coarse_axis : str
        An axis three times coarser than the finest: ``apart``, by the nearest slice, as nnU-Net does it; ``together``: all
        three at once, as in MONAI.
    crop_to_nonzero : bool
        Leave out the margin that is zero in every channel.
    brain : BrainOnly or None
        Strip everything but the brain first.
    members : tuple of str
        Graphs that answer, and how they are combined.
    activation : str
        ``softmax``: exactly one label a voxel, the first logit is background. ``sigmoid``: ``paint`` says what becomes what.
    co_register : str
        What happens to an input on another grid than the first: ``resample`` brings it over by its place in the patient,
        ``rigid`` moves it into agreement first, ``refuse``. ``rigid`` does so with one on the first one's grid as well;
        ``rigid_elsewhere`` leaves that as it is.
    smallest_ml : float
        Labels with less volume are left out.
    largest_part : tuple of int
        Labels of which only the largest 26-connected part stays.
    """

    output: Literal["dense"]
    orientation: str
    order: tuple[int, int, int] = (0, 1, 2)
    spacing_mm: tuple[float, ...] = ()
    stretch: tuple[int, int] | None = None
    normalise_on: Literal["own_grid", "network_grid"] = "own_grid"
    image_spline: Literal[1, 3] = 3
    grid: Literal["field_of_view", "first_voxel"] = "field_of_view"
    coarse_axis: Literal["apart", "together"] = "apart"
    crop_to_nonzero: bool = False
    brain: BrainOnly | None = None
    channels: tuple[Channel, ...] = Field(min_length=1)
    window: Window
    members: tuple[str, ...] = ("main",)
    combine: Literal["mean_logits", "mean_probability", "vote"] = "mean_logits"
    activation: Literal["softmax", "sigmoid"] = "softmax"
    threshold: float = Field(default=0.5, gt=0, lt=1)
    paint: tuple[Paint, ...] = ()
    co_register: Literal["refuse", "resample", "rigid", "rigid_elsewhere"] = "refuse"
    smallest_ml: float = Field(default=0.0, ge=0)
    largest_part: tuple[int, ...] = ()

    @field_validator("orientation")
    @classmethod
    def _named(cls, letters: str) -> str:
        axes_of(letters)
        return letters

    @model_validator(mode="after")
    def _consistent(self) -> DenseOptions:
        if sorted(self.order) != [0, 1, 2]:
            raise ValueError("order: each of 0, 1, 2 once")
        if self.spacing_mm and (len(self.spacing_mm) != len(self.window.size) or min(self.spacing_mm) <= 0):
            raise ValueError("spacing_mm: one positive value for each axis of the window")
        if self.stretch and (self.spacing_mm or self.window.size != self.stretch):
            raise ValueError("stretch: the size of the window, and no spacing_mm")
        if self.grid == "first_voxel" and (self.stretch or self.image_spline != 1 or self.coarse_axis == "apart"):
            raise ValueError(
                'grid: first_voxel goes with image_spline = 1 and coarse_axis = "together", not with stretch'
            )
        if (self.activation == "sigmoid") != bool(self.paint):
            raise ValueError("paint: with sigmoid, and only then")
        if not self.members or len(set(self.members)) != len(self.members):
            raise ValueError("members: at least one, each once")
        if self.combine == "vote" and self.activation == "sigmoid":
            raise ValueError("combine: a vote needs softmax")
        return self
