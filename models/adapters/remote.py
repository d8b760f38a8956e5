"""Family ``remote``: a model behind an OpenAI-compatible chat interface, somewhere else.

This module words the request and reads the answer. It has no network: who carries the request, strips it of everything
that identifies anybody and refuses where that cannot be proven stands behind :class:`models.chat.Chat`. The card names an
*endpoint*; which service and which model that is, the site decides, and the answering model's own name goes into the
provenance of what it wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models import filling
from models.chat import ChatAnswer, ChatRequest, PicturePart, TextPart
from models.composer import measured_text
from models.errors import CardInvalid, InferenceFailed
from models.picture import grey_picture, write_png
from models.questions import Question
from models.remote_errors import AnswerUnusable, RemoteOff
from models.results import Draft, ModelReference, Outcome, StudyResult
from models.untrusted import as_data
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model

_ANSWER_TAG = re.compile(r"<answer>(.*?)</answer>", re.S | re.I)
_THINKING = re.compile(r"<think>.*?</think>", re.S | re.I)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pictures(_Table):
    """How many slices go along, and how large. 0: text only."""

    count: int = Field(default=1, ge=0, le=16)
    longest_side: int = Field(default=768, ge=64, le=2048)


class Wording(_Table):
    """One language: the system message, and templates with ``{facts}`` (report) or ``{question}`` (question)."""

    system: str
    report: str
    question: str

    @field_validator("report", "question")
    @classmethod
    def _fields(cls, value: str) -> str:
        filling.fields_of(value)
        return value


class Recipe(_Table):
    """The card's ``options``.

    Attributes
    ----------
    endpoint : str
        Name that the site binds in ``[remote.endpoint.NAME]``.
    parser : str
        ``"text"``, or ``"answer_tag"`` for models that think aloud and answer in ``<answer>``.
    notes : dict
        Written beside every text, by language.
    """

    endpoint: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")
    maximum_tokens: int = Field(default=512, ge=1, le=16384)
    temperature: float = Field(default=0.0, ge=0, le=2)
    seed: int | None = 0
    parser: Literal["text", "answer_tag"] = "text"
    pictures: Pictures = Pictures()
    wording: dict[Literal["en", "ja"], Wording]
    notes: dict[str, tuple[str, ...]] = {}


def build(model: Model) -> RemoteAdapter:
    """Adapter of ``model``; raises :class:`CardInvalid` where its ``options`` are none."""
    return RemoteAdapter(model)


class RemoteAdapter:
    """Writes impressions and answers questions through a chat port. See :func:`build`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.recipe = model.card.options_of(Recipe)

    @property
    def languages(self) -> frozenset[str]:
        """Languages its card has a wording in."""
        return frozenset(str(key) for key in self.recipe.wording)

    def write(self, result: StudyResult, inputs: Mapping[str, Volume], language: str) -> Draft:
        """The impression of a measured result; ``findings`` stay empty, nothing is checked.

        Raises
        ------
        InferenceFailed
            Nothing was assessed, or the card has no wording in ``language``.
        RemoteError
            Nothing was sent, or no usable answer came.
        """
        if result.outcome is Outcome.NOT_ASSESSED:
            raise InferenceFailed(f"{self._model.card.id}: nothing was assessed, so there is nothing to write about")
        facts = measured_text(result, language)
        parts = [TextPart(self._filled(self._wording(language).report, "facts", facts))]
        role, slices = self._slices(inputs, result)
        return self._ask(language, parts, inputs, role, slices)

    def answer(self, question: Question, inputs: Mapping[str, Volume], language: str) -> Draft:
        """The answer to a person's question about images, as the impression; :attr:`Draft.looked_at` are the slices sent.

        Raises
        ------
        InferenceFailed, RemoteError
            As :meth:`write`.
        """
        parts: list[TextPart] = []
        for is_field, text in filling.pieces(self._wording(language).question):
            parts.append(TextPart(as_data(question.text), free=True) if is_field else TextPart(text))
        role, slices = self._slices(inputs, None)
        return self._ask(language, parts, inputs, role, slices)

    def ask(self, words: Sequence[TextPart], inputs: Mapping[str, Volume], language: str) -> Draft:
        """The answer to a prompt that a chain has put together."""
        role, slices = self._slices(inputs, None)
        return self._ask(language, words, inputs, role, slices)

    def _wording(self, language: str) -> Wording:
        found = {str(key): value for key, value in self.recipe.wording.items()}.get(language)
        if found is None:
            raise InferenceFailed(f"{self._model.card.id} has no wording in {language}")
        return found

    def _filled(self, template: str, name: str, value: str) -> str:
        try:
            return filling.fill(template, {name: value})
        except KeyError as error:
            raise CardInvalid(f"{self._model.card.id}: the template has a field {error}; it may have {name}") from error

    def _slices(self, inputs: Mapping[str, Volume], result: StudyResult | None) -> tuple[str, tuple[int, ...]]:
        """Input role and slices to send: those of the findings, else spread over the middle of the volume."""
        count = self.recipe.pictures.count
        if not count or not inputs:
            return "", ()
        role = (result.grid_role if result is not None else None) or next(iter(inputs))
        if role not in inputs:
            return "", ()
        if result is not None and result.segmentation is not None:
            found = [region.key_slice for region in result.segmentation.regions]
            return role, tuple(dict.fromkeys(found))[:count]
        depth = inputs[role].array_zyx.shape[0]
        spread = (round(depth * (0.2 + 0.6 * (k + 0.5) / count) - 0.5) for k in range(count))
        return role, tuple(dict.fromkeys(min(max(at, 0), depth - 1) for at in spread))

    def _ask(
        self,
        language: str,
        words: Sequence[TextPart],
        inputs: Mapping[str, Volume],
        role: str,
        slices: Sequence[int],
    ) -> Draft:
        chat = self._model.chat
        if chat is None:
            raise RemoteOff(f"{self._model.card.id}: there is nobody here who calls remote models")
        side = self.recipe.pictures.longest_side
        pictures = (PicturePart(role, at, write_png(grey_picture(inputs[role].array_zyx[at], side))) for at in slices)
        answer = chat.complete(
            ChatRequest(
                endpoint=self.recipe.endpoint,
                system=self._wording(language).system,
                parts=(*pictures, *words),
                maximum_tokens=self.recipe.maximum_tokens,
                temperature=self.recipe.temperature,
                seed=self.recipe.seed,
            )
        )
        text = self._parsed(answer)
        author = self._author(answer)
        return Draft(language, "", text, author, tuple(self.recipe.notes.get(language, ())), looked_at=tuple(slices))

    def _parsed(self, answer: ChatAnswer) -> str:
        name = self._model.card.id
        if not answer.finished:
            raise AnswerUnusable(f"{name}: the answer was cut off at {self.recipe.maximum_tokens} tokens")
        text = _THINKING.sub("", answer.text)
        if self.recipe.parser == "answer_tag":
            found = _ANSWER_TAG.search(text)
            if found is None:
                raise AnswerUnusable(f"{name}: the answer has no answer tag")
            text = found.group(1)
        if not text.strip():
            raise AnswerUnusable(f"{name}: the answer is empty")
        return text.strip()

    def _author(self, answer: ChatAnswer) -> ModelReference:
        """The card, and beside it the model that really answered: nobody can pin its weights."""
        own = self._model.reference({"endpoint": self.recipe.endpoint, "answered_by": answer.model})
        return replace(own, name=f"{answer.model} (remote, as {own.name})", provider="remote")
