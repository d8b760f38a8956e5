"""What the adapter of a family offers: one protocol for each way a model is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.chat import TextPart
from models.prompts import BoxPrompt
from models.questions import Question
from models.results import Draft, StudyResult
from models.volume import Volume


class ImageAdapter(Protocol):
    """Runs a model of an image family."""

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """Typed result of one study; see :meth:`models.model.Model.run`."""
        ...


class PromptedAdapter(Protocol):
    """Runs a model that segments what it is pointed at."""

    def segment(
        self, inputs: Mapping[str, Volume], prompts: Sequence[BoxPrompt], parameters: Mapping[str, str]
    ) -> StudyResult:
        """Typed result with a region for each target; see :meth:`models.model.Model.segment`."""
        ...

    def planes(
        self, volume: Volume, prompts: Sequence[BoxPrompt]
    ) -> Iterator[tuple[BoxPrompt, npt.NDArray[np.float32]]]:
        """Each box with its probabilities; see :meth:`models.model.Model.planes`."""
        ...


class WritingAdapter(Protocol):
    """Runs a model that writes text."""

    def write(self, result: StudyResult, inputs: Mapping[str, Volume], language: str) -> Draft:
        """Draft text about ``result``; see :meth:`models.model.Model.write`."""
        ...


class AnsweringAdapter(Protocol):
    """Runs a model that answers questions about images."""

    def answer(self, question: Question, inputs: Mapping[str, Volume], language: str) -> Draft:
        """Draft with the answer; see :meth:`models.model.Model.answer`."""
        ...


class AskedAdapter(Protocol):
    """Runs a model that takes a prompt of a chain."""

    def ask(self, words: Sequence[TextPart], inputs: Mapping[str, Volume], language: str) -> Draft:
        """Draft with what it says; see :meth:`models.model.Model.ask`."""
        ...
