"""Greedy decoding of an encoder–decoder with an explicit key/value cache, in numpy around two graphs.

Names carry the wiring, so that the loop serves any model exported in this form: what the encoder gives out under
``cross.*`` goes to the decoder's inputs of the same name at every step, and ``present.*`` of one step are
``past.*`` of the next. The decoder further takes ``input_ids`` and ``position_ids`` (int64, batch × steps) and gives
``logits`` (batch × steps × vocabulary).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[np.generic]]


class Graph(Protocol):
    """A loaded graph: names to arrays in, names to arrays out."""

    def run(self, feeds: Arrays) -> Mapping[str, npt.NDArray[np.generic]]:
        """Return all outputs by name."""
        ...


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Decoder layers, attention heads and size of a head."""

    layers: int
    heads: int
    head_size: int

    def empty(self) -> Arrays:
        """Return the cache of no tokens for one study."""
        names = (f"past.{layer}.{part}" for layer in range(self.layers) for part in ("k", "v"))
        return {name: np.zeros((1, self.heads, 0, self.head_size), dtype=np.float32) for name in names}


def decode_greedily(
    encoder: Graph,
    decoder: Graph,
    encoder_feeds: Arrays,
    cache: CacheShape,
    *,
    start_token: int,
    stop_token: int,
    maximum_tokens: int,
) -> tuple[list[int], bool]:
    """Return the most likely tokens after ``start_token``, and whether ``stop_token`` ended them.

    Of equal logits the lower token number wins, so that the same input always gives the same text. ``stop_token`` is
    not among the tokens; without it ``maximum_tokens`` have been made and the text is cut off.
    """
    cross = {n: a for n, a in encoder.run(encoder_feeds).items() if n.startswith("cross.")}
    past, token = cache.empty(), start_token
    tokens: list[int] = []
    for place in range(maximum_tokens):
        step: Arrays = {
            "input_ids": np.array([[token]], dtype=np.int64),
            "position_ids": np.array([[place]], dtype=np.int64),
        }
        outputs = decoder.run({**step, **past, **cross})
        token = int(np.argmax(outputs["logits"][0, -1]))
        if token == stop_token:
            return tokens, True
        tokens.append(token)
        past = {f"past.{n.removeprefix('present.')}": a for n, a in outputs.items() if n.startswith("present.")}
    return tokens, False
