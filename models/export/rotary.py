"""Rotary positions: frequencies, their published rescalings, and the turn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RotaryScaling:
    """How a model trained on short texts was stretched to long ones.

    Attributes
    ----------
    kind : str
        ``none``; ``linear``: all frequencies divided by ``factor`` (Gemma 3); ``llama3``: only low ones, with a ramp
        between wavelengths ``original / high`` and ``original / low`` (Llama 3.1, arXiv 2407.21783).
    """

    kind: Literal["none", "linear", "llama3"] = "none"
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    original: int = 8192


UNSCALED = RotaryScaling()


def inverse_frequencies(size: int, theta: float, scaling: RotaryScaling) -> Tensor:
    """Radians a token for each pair of channels, shape (size / 2,), float32."""
    frequencies = 1.0 / (theta ** (torch.arange(0, size, 2, dtype=torch.int64).float() / size))
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    if scaling.kind == "llama3":
        waves = 2 * math.pi / frequencies
        ramp = (scaling.original / waves - scaling.low) / (scaling.high - scaling.low)
        kept = ramp.clamp(0.0, 1.0)
        return (1 - kept) * frequencies / scaling.factor + kept * frequencies
    return frequencies


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """``x`` (batch, heads, tokens, size) turned: channel i is paired with channel i + size / 2."""
    half = x.shape[-1] // 2
    swapped = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return x * cosine + swapped * sine
