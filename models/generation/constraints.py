"""What may come next: penalties on repetition, lengths, tokens that are forced, answers from a closed set.

Each takes the scores (vocabulary,) of the next token and the tokens so far, prompt first. Semantics are those of
huggingface/transformers 5, ``generation/logits_process.py``, whose generation settings published models state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Constraint = Callable[[Scores, Sequence[int], int], Scores]
"""Scores, all tokens so far, and how many of those were the prompt, to scores."""

NEVER = np.float32(-np.inf)


@dataclass(frozen=True, slots=True)
class RepetitionPenalty:
    """Scores of tokens that have been are divided (or, below zero, multiplied) by ``penalty``."""

    penalty: float

    def __call__(self, scores: Scores, tokens: Sequence[int], prompt: int) -> Scores:
        said = np.unique(np.asarray(tokens, dtype=np.int64))
        changed = scores.copy()
        old = scores[said]
        changed[said] = np.where(old < 0, old * np.float32(self.penalty), old / np.float32(self.penalty))
        return changed


@dataclass(frozen=True, slots=True)
class NoRepeatedNgram:
    """No run of ``size`` tokens comes twice."""

    size: int

    def __call__(self, scores: Scores, tokens: Sequence[int], prompt: int) -> Scores:
        size, banned = self.size, []
        if len(tokens) + 1 < size:
            return scores
        last = tuple(tokens[len(tokens) - size + 1 :])
        for start in range(len(tokens) - size + 1):
            if tuple(tokens[start : start + size - 1]) == last:
                banned.append(tokens[start + size - 1])
        changed = scores.copy()
        changed[banned] = NEVER
        return changed


@dataclass(frozen=True, slots=True)
class ForcedFirst:
    """The first token made is ``token``, where the prompt is one token."""

    token: int

    def __call__(self, scores: Scores, tokens: Sequence[int], prompt: int) -> Scores:
        return _only(scores, [self.token], 0.0) if len(tokens) == 1 else scores


@dataclass(frozen=True, slots=True)
class ForcedLast:
    """The last of ``maximum`` tokens made is ``token``."""

    token: int
    maximum: int

    def __call__(self, scores: Scores, tokens: Sequence[int], prompt: int) -> Scores:
        return _only(scores, [self.token], 0.0) if len(tokens) - prompt == self.maximum - 1 else scores


@dataclass(frozen=True, slots=True)
class Never:
    """Tokens that never come."""

    tokens: tuple[int, ...]

    def __call__(self, scores: Scores, tokens: Sequence[int], prompt: int) -> Scores:
        changed = scores.copy()
        changed[list(self.tokens)] = NEVER
        return changed


@dataclass(frozen=True, slots=True)
class NeverFrom:
    """Tokens from number ``first`` on never come."""

    first: int

    def __call__(self, scores: Scores, tokens: Sequence[int], prompt: int) -> Scores:
        changed = scores.copy()
        changed[self.first :] = NEVER
        return changed


class ClosedAnswers:
    """Only whole answers of a set, each followed by the stop token.

    Parameters
    ----------
    answers : iterable of sequence of int
        Tokens of each answer.
    stop : int
        The stop token.
    """

    def __init__(self, answers: Iterable[Sequence[int]], stop: int) -> None:
        self._next: dict[tuple[int, ...], set[int]] = {}
        for answer in answers:
            whole = (*answer, stop)
            for length in range(len(whole)):
                self._next.setdefault(tuple(whole[:length]), set()).add(whole[length])
        if not self._next:
            raise ValueError("a closed set of answers has at least one")

    def __call__(self, scores: Scores, tokens: Sequence[int], prompt: int) -> Scores:
        # Nothing follows a whole answer: beams beside fewer answers than beams would otherwise write on.
        return _only(scores, sorted(self._next.get(tuple(tokens[prompt:]), set())), None)


def constrained(scores: Scores, tokens: Sequence[int], prompt: int, constraints: Sequence[Constraint]) -> Scores:
    """All constraints, one after the other."""
    for constraint in constraints:
        scores = constraint(scores, tokens, prompt)
    return scores


def _only(scores: Scores, tokens: Sequence[int], value: float | None) -> Scores:
    changed = np.full_like(scores, NEVER)
    changed[list(tokens)] = scores[list(tokens)] if value is None else value
    return changed
