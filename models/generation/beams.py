"""Beam search over one study, choosing what huggingface/transformers 5 chooses (``generation/utils.py``).

Scores are sums of log-probabilities in float32. A finished beam's score is divided by its length to the power of the
length penalty; the search ends when no running beam can beat the worst finished one by the stated heuristic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.generation.constraints import Constraint, constrained
from models.generation.limits import Ending, Limits, Written
from models.generation.wiring import TokenModel

_IMPOSSIBLE = np.float32(-1.0e9)
_ENDED = np.float32(-1.0e3)
"""What a beam that has ended and is kept loses, so that nothing that goes on from it wins."""

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BeamSettings:
    """Number of beams, exponent of the length, and when to stop: ``True`` as soon as all are finished, ``False`` by the
    present length, ``"never"`` by the greatest length possible.

    ``ended``: as transformers does, beams that end are ``replaced`` by the next best; or, as R2Gen and other image
    captioners do, they are ``kept`` in their places for the step (``beam_search`` of cuhksz-nlp/R2Gen@177bf3c:
    modules/caption_model.py) and the largest sum of log-probabilities wins, whatever the length."""

    beams: int
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    ended: Literal["replaced", "kept"] = "replaced"


@dataclass(slots=True)
class _Beam:
    tokens: tuple[int, ...]
    score: np.float32
    finished: bool = False


def search(
    model: TokenModel, settings: BeamSettings, limits: Limits, constraints: Sequence[Constraint] = ()
) -> Written:
    """The best text found."""
    return _Search(model, settings, limits, constraints).run()


class _Search:
    def __init__(
        self, model: TokenModel, settings: BeamSettings, limits: Limits, constraints: Sequence[Constraint]
    ) -> None:
        self._model, self._settings, self._limits, self._constraints = model, settings, limits, constraints
        count = settings.beams
        self._running = [_Beam((), np.float32(0) if n == 0 else _IMPOSSIBLE) for n in range(count)]
        self._finished = [_Beam((), _IMPOSSIBLE) for _ in range(count)]
        self._kept = max(2, 1 + len(limits.stop_tokens)) * count
        self._open = True

    def run(self) -> Written:
        limits, deadline = self._limits, self._limits.deadline()
        logits = np.repeat(self._model.start(), self._settings.beams, axis=0)
        first = True
        while True:
            candidates, parents = self._candidates(logits)
            ended = [self._ends(beam.tokens) for beam in candidates]
            order = self._go_on(candidates, ended)
            self._finish(candidates, ended)
            self._still_open(length=len(self._running[0].tokens))
            done = not self._open or (self._full and self._settings.early_stopping is True) or all(ended)
            if limits.progress is not None:
                limits.progress(self._running[0].tokens)
            if done:
                return self._answer(Ending.LENGTH)
            if limits.late(deadline):
                return self._answer(Ending.TIME)
            self._model.keep([0] * len(order) if first else [parents[n] for n in order])
            first = False
            logits = self._model.step([beam.tokens[-1] for beam in self._running])

    @property
    def _full(self) -> bool:
        return all(beam.finished for beam in self._finished)

    def _candidates(self, logits: npt.NDArray[np.float32]) -> tuple[list[_Beam], list[int]]:
        """The best continuations of all running beams, best first, and the beam each continues."""
        prompt = len(self._model.prompt)
        rows = [
            constrained(_log_softmax(row), (*self._model.prompt, *beam.tokens), prompt, self._constraints) + beam.score
            for row, beam in zip(logits, self._running, strict=True)
        ]
        scores = np.concatenate(rows)
        vocabulary = logits.shape[-1]
        best = _largest(scores, self._kept)
        made = [
            _Beam((*self._running[place // vocabulary].tokens, int(place % vocabulary)), scores[place])
            for place in best
        ]
        return made, [int(place // vocabulary) for place in best]

    def _ends(self, tokens: tuple[int, ...]) -> bool:
        return (
            tokens[-1] in self._limits.stop_tokens
            or len(tokens) >= self._limits.maximum_tokens
            or self._limits.says_stop(tokens)
        )

    def _go_on(self, candidates: list[_Beam], ended: list[bool]) -> list[int]:
        """Run on with the best that have not ended; which of the candidates those are."""
        if self._settings.ended == "kept":
            return self._keep_places(candidates, ended)
        scores = np.array([b.score for b in candidates], np.float32) + np.array(ended, np.float32) * _IMPOSSIBLE
        order = [int(n) for n in _largest(scores, self._settings.beams)]
        self._running = [_Beam(candidates[n].tokens, scores[n]) for n in order]
        return order

    def _keep_places(self, candidates: list[_Beam], ended: list[bool]) -> list[int]:
        count = self._settings.beams
        scores = (
            np.array([b.score for b in candidates[:count]], np.float32) + np.array(ended[:count], np.float32) * _ENDED
        )
        order = [int(n) for n in _largest(scores, count)]
        self._running = [_Beam(candidates[n].tokens, np.float32(scores[n])) for n in order]
        return order

    def _finish(self, candidates: list[_Beam], ended: list[bool]) -> None:
        """Take in what has ended among the best; the others were only there to run on with."""
        settings = self._settings
        length = (
            np.float32(1)
            if settings.ended == "kept"
            else np.float32(len(candidates[0].tokens) ** settings.length_penalty)
        )
        merged = list(self._finished)
        for place, (beam, over) in enumerate(zip(candidates, ended, strict=True)):
            finished = over and place < settings.beams
            score = np.float32(beam.score / length)
            for barred in (self._full and settings.early_stopping is True, not self._open, not finished):
                score = np.float32(score + _IMPOSSIBLE) if barred else score
            merged.append(_Beam(beam.tokens, score, finished))
        order = _largest(np.array([beam.score for beam in merged], np.float32), settings.beams)
        self._finished = [merged[n] for n in order]

    def _still_open(self, *, length: int) -> None:
        settings = self._settings
        if settings.ended == "kept":
            # Sums only fall: what has ended with a larger one cannot be overtaken.
            self._open = bool(self._running[0].score > self._finished[0].score)
            return
        reach = length
        if settings.early_stopping == "never" and settings.length_penalty > 0:
            reach = self._limits.maximum_tokens
        possible = self._running[0].score / np.float32(reach**settings.length_penalty)
        worst = min(beam.score for beam in self._finished)
        compared = [worst if beam.finished else _IMPOSSIBLE for beam in self._finished]
        self._open = self._open and any(possible > each for each in compared)

    def _answer(self, otherwise: Ending) -> Written:
        best = self._finished[0] if self._finished[0].finished else self._running[0]
        tokens = best.tokens
        if tokens and tokens[-1] in self._limits.stop_tokens:
            return Written(tokens[:-1], Ending.STOPPED)
        return Written(tokens, Ending.STOPPED if self._limits.says_stop(tokens) else otherwise)


def _log_softmax(row: npt.NDArray[np.float32]) -> Scores:
    shifted = row.astype(np.float32) - row.max()
    return shifted - np.log(np.exp(shifted).sum(dtype=np.float32))


def _largest(scores: Scores, count: int) -> npt.NDArray[np.int64]:
    """Places of the ``count`` largest, best first; of equal ones the earlier."""
    if count >= scores.size:
        return np.argsort(-scores, kind="stable")
    some = np.argpartition(-scores, count)[:count]
    some.sort()
    return some[np.argsort(-scores[some], kind="stable")]
