"""How the next token is chosen: the likeliest, the best of several beams, or drawn from the likely ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from models.generation.beams import BeamSettings, search
from models.generation.constraints import Constraint, constrained
from models.generation.limits import Ending, Limits, Written
from models.generation.wiring import TokenModel


class Strategy(BaseModel):
    """A card's ``options.decoding.strategy``.

    Attributes
    ----------
    kind : str
        ``greedy``; ``beams`` (:class:`~models.generation.beams.BeamSettings` has what goes with them); ``sample`` draws from
        the smallest set of tokens that together have probability ``top_p``.
    seed : int
        The same seed draws the same text from the same logits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["greedy", "beams", "sample"] = "greedy"
    beams: int = Field(default=1, ge=1, le=16)
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    ended: Literal["replaced", "kept"] = "replaced"
    temperature: float = Field(default=1.0, gt=0)
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = 0


def write(model: TokenModel, strategy: Strategy, limits: Limits, constraints: Sequence[Constraint] = ()) -> Written:
    """Let ``model`` write. The same input gives the same tokens; of equal scores the lower token number wins."""
    if strategy.kind == "beams" and strategy.beams > 1:
        settings = BeamSettings(strategy.beams, strategy.length_penalty, strategy.early_stopping, strategy.ended)
        return search(model, settings, limits, constraints)
    chooser = _Drawn(strategy) if strategy.kind == "sample" else _likeliest
    deadline, tokens = limits.deadline(), list(model.prompt)
    prompt = len(tokens)
    logits = model.start()[0]
    while True:
        token = chooser(constrained(logits.astype(np.float32), tokens, prompt, constraints))
        if token in limits.stop_tokens:
            return Written(tuple(tokens[prompt:]), Ending.STOPPED)
        tokens.append(token)
        if limits.progress is not None:
            limits.progress(tokens[prompt:])
        if limits.says_stop(tokens[prompt:]):
            return Written(tuple(tokens[prompt:]), Ending.STOPPED)
        if len(tokens) - prompt >= limits.maximum_tokens:
            return Written(tuple(tokens[prompt:]), Ending.LENGTH)
        if limits.late(deadline):
            return Written(tuple(tokens[prompt:]), Ending.TIME)
        logits = model.step([token])[0]


def _likeliest(scores: npt.NDArray[np.float32]) -> int:
    return int(np.argmax(scores))


@dataclass(slots=True)
class _Drawn:
    """Draws tokens; ``generator`` goes on from token to token."""

    strategy: Strategy
    generator: np.random.Generator

    def __init__(self, strategy: Strategy) -> None:
        self.strategy, self.generator = strategy, np.random.default_rng(strategy.seed)

    def __call__(self, scores: npt.NDArray[np.float32]) -> int:
        likely = likely_tokens(scores, self.strategy)
        return int(self.generator.choice(len(likely), p=likely))


def likely_tokens(scores: npt.NDArray[np.float32], strategy: Strategy) -> npt.NDArray[np.float64]:
    """Probabilities (vocabulary,) after temperature, ``top_k`` and ``top_p``; the likeliest token always stays."""
    warm = scores.astype(np.float64) / strategy.temperature
    if strategy.top_k:
        least = np.sort(warm)[-min(strategy.top_k, warm.size)]
        warm = np.where(warm < least, -np.inf, warm)
    probability = np.exp(warm - warm.max())
    probability /= probability.sum()
    if strategy.top_p < 1.0:
        order = np.argsort(probability, kind="stable")
        dropped = order[np.cumsum(probability[order]) <= 1.0 - strategy.top_p]
        dropped = dropped[dropped != order[-1]]
        probability[dropped] = 0.0
        probability /= probability.sum()
    return probability
