"""Family ``generation``: image features and measured facts in, one impression out.

Everything that differs between two encoder–decoder models stands in the card's ``options``: the views of the image, how
the facts are worded, language tokens, stop token, cache shape, notes. The graphs are named ``encoder`` and ``decoder``,
the tokenizer is the pinned file ``tokenizer``; their wiring is that of :mod:`models.generation.wiring`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from models.adapters.reading import ReadingAdapter
from models.errors import CardInvalid, InferenceFailed
from models.generation.limits import Limits
from models.generation.strategies import Strategy
from models.generation.strategies import write as write_tokens
from models.generation.wiring import Arrays, CacheShape, EncoderDecoder
from models.generation_prompt import prompt_text
from models.projections import orthogonal_projections
from models.report_facts import ReportFacts
from models.results import Draft, Outcome, StudyResult
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model

TOKENIZER = "tokenizer"
"""Name of the vocabulary among the card's ``files``."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Views(_Table):
    """Image features; ``input`` is the encoder's input they are fed to.

    ``orthogonal_projections`` is :func:`models.projections.orthogonal_projections`; a recipe for another kind of image
    tower is another literal here.
    """

    recipe: Literal["orthogonal_projections"]
    input: str
    channels: tuple[Literal["dwi", "low_adc", "mask"], ...]
    size: int = Field(ge=8, le=512)


class Prompt(_Table):
    """Measured facts; ``template`` is one of :func:`models.generation_prompt.prompt_text`, ``tokens`` the length it
    must have once tokenised (the encoder knows no other)."""

    input: str
    template: str
    tokens: int = Field(ge=1)


class Decoding(_Table):
    """How text comes out: the token that starts each language, the one that stops, and the cache's shape."""

    language_tokens: dict[str, str]
    stop_token: str
    maximum_tokens: int = Field(ge=1, le=4096)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    head_size: int = Field(ge=1)


class Recipe(_Table):
    """The card's ``options``. ``notes`` are written beside every text, by language."""

    views: Views
    prompt: Prompt
    decoding: Decoding
    notes: dict[str, tuple[str, ...]]


def build(model: Model) -> GenerationAdapter | ReadingAdapter:
    """Return the adapter of ``model``: one that restates measurements, or (``options.reads``) one that reads images.

    Raises
    ------
    CardInvalid
        ``options`` do not describe a generation model, or name a token the vocabulary lacks.
    DigestMismatch, GraphMismatch
        A file is not the one the card pins.
    """
    return ReadingAdapter(model) if "reads" in model.card.options else GenerationAdapter(model)


class GenerationAdapter:
    """Writes the impression of a result. Build it with :func:`build`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.recipe = model.card.options_of(Recipe)
        # Read as bytes that were verified: the library would open the path a second time.
        self._tokenizer = Tokenizer.from_str(model.path(TOKENIZER).read_text(encoding="utf-8"))
        decoding = self.recipe.decoding
        self._stop = self._token(decoding.stop_token)
        self._start = {language: self._token(token) for language, token in decoding.language_tokens.items()}

    def _token(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise CardInvalid(f"{self._model.card.id}: the vocabulary has no token {token!r}")
        return int(number)

    def write(self, result: StudyResult, inputs: Mapping[str, Volume], language: str) -> Draft:
        """Return the generated impression about ``result``; ``findings`` stay empty, nothing is checked.

        Whoever shows the text goes through :func:`models.report.draft`, which checks it.

        Raises
        ------
        InferenceFailed
            The result was not assessed, the model does not write ``language``, a required image is missing, the facts
            do not fit the prompt, or the text never ended.
        """
        name = self._model.card.id
        if result.outcome is Outcome.NOT_ASSESSED:
            raise InferenceFailed(f"{name}: nothing was assessed, so there is nothing to write about")
        if language not in self._start:
            raise InferenceFailed(f"{name} does not write {language}; it writes {', '.join(sorted(self._start))}")
        decoding = self.recipe.decoding
        features = self._model.session("encoder").run({**self._views(result, inputs), **self._prompt(result)})
        cache = CacheShape(decoding.layers, decoding.heads, decoding.head_size)
        writer = EncoderDecoder(self._model.session("decoder"), features, cache, [self._start[language]])
        hears = self._model.on_token(decoding.maximum_tokens)
        written = write_tokens(writer, Strategy(), Limits(decoding.maximum_tokens, (self._stop,), progress=hears))
        if written.cut:
            raise InferenceFailed(f"{name}: the text did not end within {decoding.maximum_tokens} tokens")
        text = self._tokenizer.decode(list(written.tokens), skip_special_tokens=False).strip()
        notes = self.recipe.notes.get(language, ())
        return Draft(language, "", text, author=self._model.reference({}), notes=notes)

    def _views(self, result: StudyResult, inputs: Mapping[str, Volume]) -> Arrays:
        missing = [i.role for i in self._model.card.inputs if i.required and i.role not in inputs]
        if missing:
            raise InferenceFailed(f"{self._model.card.id}: no volume for {', '.join(missing)}")
        views, segmentation = self.recipe.views, result.segmentation
        mask = segmentation.mask_zyx if segmentation else None
        if mask is not None and mask.shape != inputs["dwi"].array_zyx.shape:
            raise InferenceFailed(f"{self._model.card.id}: mask and image do not have the same shape")
        made = orthogonal_projections(inputs, mask, channels=views.channels, size=views.size)
        return {views.input: made[np.newaxis]}

    def _prompt(self, result: StudyResult) -> Arrays:
        prompt = self.recipe.prompt
        text = prompt_text(prompt.template, ReportFacts.of(result))
        encoded = self._tokenizer.encode(text)
        # A piece the vocabulary lacks would be read as another fact: the round trip shows it.
        if len(encoded.ids) != prompt.tokens or "".join(encoded.tokens) != text:
            raise InferenceFailed(f"{self._model.card.id}: the facts do not fit the prompt ({len(text)} characters)")
        return {prompt.input: np.array([encoded.ids], dtype=np.int64)}
