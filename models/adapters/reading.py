"""Models of family ``generation`` that read an image by themselves: report generators, answers to questions, grounding.

What they write is a draft with nothing measured behind it, and says so; what they point at becomes marks. Everything that
differs between two of them stands in the card's ``options``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from tokenizers import Tokenizer

from models.errors import CardInvalid, InferenceFailed
from models.generation import parsing
from models.generation.constraints import (
    ClosedAnswers,
    Constraint,
    ForcedFirst,
    ForcedLast,
    NoRepeatedNgram,
    RepetitionPenalty,
)
from models.generation.limits import Limits, Written
from models.generation.pictures import Picture, PictureRecipe, picture_of
from models.generation.prompting import PromptForm, embedded_prompt, plain_words, prompt_pieces, token_number
from models.generation.strategies import Strategy, write
from models.generation.wiring import CacheShape, DecoderOnly, EncoderDecoder, TokenModel
from models.results import CodedTerm, Draft, Mark, MarkShape, Outcome, StudyResult
from models.volume import Volume

if TYPE_CHECKING:
    from models.registry import Model

TOKENIZER = "tokenizer"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Decoding(_Table):
    """How text comes out and where it ends.

    Attributes
    ----------
    start_tokens : tuple of int
        The decoder's first, for models with an encoder.
    language_tokens : dict
        Stand after them, by language.
    answers : tuple of str
        Nothing but one of these comes out, whole; empty: anything does.
    """

    strategy: Strategy = Strategy()
    start_tokens: tuple[int, ...] = ()
    language_tokens: dict[str, tuple[int, ...]] = {}
    stop_tokens: tuple[int, ...] = Field(min_length=1)
    stop_strings: tuple[str, ...] = ()
    maximum_tokens: int = Field(ge=1, le=8192)
    seconds: float = Field(default=300.0, gt=0)
    repetition_penalty: float = Field(default=1.0, gt=0)
    no_repeat_ngram: int = Field(default=0, ge=0)
    forced_first: int | None = None
    forced_last: int | None = None
    answers: tuple[str, ...] = ()

    def constraints(self, tokenizer: Tokenizer) -> list[Constraint]:
        """In the order transformers applies them."""
        made: list[Constraint] = []
        if self.repetition_penalty != 1.0:
            made.append(RepetitionPenalty(self.repetition_penalty))
        if self.no_repeat_ngram:
            made.append(NoRepeatedNgram(self.no_repeat_ngram))
        if self.answers:
            tokens = [tokenizer.encode(answer, add_special_tokens=False).ids for answer in self.answers]
            made.append(ClosedAnswers(tokens, self.stop_tokens[0]))
        if self.forced_first is not None:
            made.append(ForcedFirst(self.forced_first))
        if self.forced_last is not None:
            made.append(ForcedLast(self.forced_last, self.maximum_tokens))
        return made


class Cache(_Table):
    """Shape of the cache; ``window``: tokens a layer with a window looks back."""

    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    head_size: int = Field(ge=1)
    window: int | None = None

    def shape(self) -> CacheShape:
        """As the loop takes it."""
        return CacheShape(self.layers, self.heads, self.head_size)


class Target(_Table):
    """Something to look for: its name in the prompt and what it means."""

    phrase: str
    definition: str = ""
    concept: CodedTerm


class ReadingOptions(_Table):
    """The card's ``options``.

    Attributes
    ----------
    architecture : str
        ``image_encoder``: pixels into the encoder. ``prompt_encoder``: image and prompt into it (Florence-2).
        ``decoder``: image and prompt into a decoder (LLaVA, Gemma 3, Qwen2-VL, InternVL).
    parser : str
        ``text``; ``answer``: what stands in ``<answer>`` tags; ``choice``: one letter of ``choices``; ``located``: location
        tokens behind labels; ``boxes``: ``[left, top, right, bottom]``.
    box_scale : float
        Units of a written box that make a side; 0: pixels of the picture.
    choices : dict
        Capital letter → what it stands for.
    targets : tuple of Target
        What a grounding model looks for, each with a run of its own.
    notes : dict
        Written beside every text, by language.
    """

    reads: Literal["image"]
    architecture: Literal["image_encoder", "prompt_encoder", "decoder"]
    languages: tuple[str, ...] = Field(min_length=1)
    image: PictureRecipe
    prompt: PromptForm | None = None
    decoding: Decoding
    cache: Cache
    parser: Literal["text", "answer", "choice", "located", "boxes"] = "text"
    choices: dict[str, str] = {}
    box_scale: float = Field(default=0.0, ge=0)
    targets: tuple[Target, ...] = ()
    notes: dict[str, tuple[str, ...]] = {}

    @model_validator(mode="after")
    def _fits(self) -> ReadingOptions:
        if self.architecture != "image_encoder" and self.prompt is None:
            raise ValueError("prompt: a model of this architecture is asked something")
        if self.architecture != "decoder" and not self.decoding.start_tokens:
            raise ValueError("decoding.start_tokens: a decoder behind an encoder begins with something")
        if (self.parser in ("located", "boxes")) != bool(self.targets):
            raise ValueError("targets: a model that points says at what, and no other does")
        if (self.parser == "choice") != bool(self.choices) or any(
            not (len(letter) == 1 and letter.isupper()) for letter in self.choices
        ):
            raise ValueError("choices: a model that chooses has capital letters to choose from, and no other does")
        return self


class ReadingAdapter:
    """Runs one model that reads images."""

    def __init__(self, model: Model) -> None:
        self._model = model
        card = model.card
        try:
            self.options = ReadingOptions.model_validate(card.options)
        except ValidationError as error:
            faults = [f"options.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise CardInvalid(f"{card.id}: {'; '.join(faults)}", keys=faults) from error
        if not card.inputs or any(each.kind != "projection" for each in card.inputs):
            raise CardInvalid(f"{card.id}: inputs: a model that reads an image takes projections")

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_str(self._model.path(TOKENIZER).read_text(encoding="utf-8"))

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """What the model reads in one image; see :meth:`models.registry.Model.run`."""
        card, options = self._model.card, self.options
        role = card.inputs[0].role
        if role not in inputs:
            raise InferenceFailed(f"{card.id}: the input {role} is missing")
        self._model.thresholds(parameters)
        picture = picture_of(inputs[role], options.image)
        if options.targets:
            return self._pointed(role, inputs[role], picture, parameters)
        drafts, cut = [], {}
        for language in options.languages:
            written = self.written(picture, self._question(language), language)
            drafts.append(self._draft(language, written, parameters))
            cut[language] = written.ending.value
        return StudyResult(
            outcome=Outcome.FOUND,
            title=card.title,
            finding=card.finding,
            site=card.site,
            model=self._model.reference(parameters),
            limitations=card.limitations,
            drafts=tuple(drafts),
            evidence={"text_ended": cut},
        )

    def write(self, result: StudyResult, inputs: Mapping[str, Volume], language: str) -> Draft:
        """Refused: what reads an image by itself is run on it, and does not restate another's result.

        Raises
        ------
        InferenceFailed
            Always.
        """
        raise InferenceFailed(
            f"{self._model.card.id} reads images; name it as the rule's model, not as its report model"
        )

    def written(self, picture: Picture, question: str, language: str) -> Written:
        """Tokens the model writes about a picture."""
        decoding = self.options.decoding
        limits = Limits(
            maximum_tokens=decoding.maximum_tokens,
            stop_tokens=decoding.stop_tokens,
            seconds=decoding.seconds,
            stop_strings=decoding.stop_strings,
            decode=lambda tokens: self._text(tokens),
        )
        return write(
            self._reader(picture, question, language), decoding.strategy, limits, decoding.constraints(self._tokenizer)
        )

    def _reader(self, picture: Picture, question: str, language: str) -> TokenModel:
        options, model = self.options, self._model
        shape = options.cache.shape()
        start = (*options.decoding.start_tokens, *options.decoding.language_tokens.get(language, ()))
        if options.architecture == "image_encoder":
            features = model.session("encoder").run({"pixel_values": picture.pixels})
            return EncoderDecoder(model.session("decoder"), features, shape, start)
        form = options.prompt
        assert form is not None
        pieces = prompt_pieces(form, question, self._tokenizer)
        image_token = token_number(form.image_token, self._tokenizer) if form.image_token else 0
        merged = (picture.grid[0] // 2, picture.grid[1] // 2)
        embed = model.session("embed")
        given = embedded_prompt(
            embed, pieces, self._features(picture), form, image_token=image_token, merged_grid=merged
        )
        if options.architecture == "prompt_encoder":
            features = model.session("encoder").run({"inputs_embeds": given.embeds})
            return EncoderDecoder(model.session("decoder"), features, shape, start)
        return DecoderOnly(embed, model.session("decoder"), given, shape, window=options.cache.window)

    def _features(self, picture: Picture) -> npt.NDArray[np.float32]:
        """Image tokens (tokens, width) of all parts of a picture, one part at a time."""
        if picture.grid != (0, 0):
            session = self._model.session(f"vision_{picture.grid[0]}x{picture.grid[1]}")
            made = session.run({"pixel_values": picture.pixels})["image_features"]
        else:
            session = self._model.session("vision")
            made = np.concatenate(
                [session.run({"pixel_values": each[None]})["image_features"] for each in picture.pixels]
            )
        return made.reshape(-1, made.shape[-1])

    def _question(self, language: str, **words: str) -> str:
        form = self.options.prompt
        if form is None:
            return ""
        if language not in form.questions:
            raise CardInvalid(f"{self._model.card.id}: options.prompt.questions has none in {language}")
        return form.questions[language].format(**{k: plain_words(v, self._tokenizer) for k, v in words.items()})

    def _text(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True)

    def _draft(self, language: str, written: Written, parameters: Mapping[str, str]) -> Draft:
        text = self._text(written.tokens)
        for stop in self.options.decoding.stop_strings:
            text = text.split(stop)[0]
        if self.options.parser == "answer":
            found = parsing.answer_of(text)
            if found is None and not written.cut:
                raise InferenceFailed(f"{self._model.card.id}: the text holds no answer")
            text = found or text
        if self.options.parser == "choice":
            # A text that was cut off has not chosen yet, whatever letters it names.
            letter = None if written.cut else parsing.choice_of(text, "".join(self.options.choices))
            if letter is None:
                raise InferenceFailed(
                    f"{self._model.card.id}: the text chooses none of {', '.join(self.options.choices)}"
                )
            text = f"{letter}: {self.options.choices[letter]}"
        text = text.strip()
        if not text:
            raise InferenceFailed(f"{self._model.card.id}: nothing was written")
        notes = self.options.notes.get(language, ())
        if written.cut:
            text += " […]"
            notes = (*notes, _CUT[language if language in _CUT else "en"])
        return Draft(language, text, "", author=self._model.reference(parameters), notes=notes)

    def _pointed(self, role: str, volume: Volume, picture: Picture, parameters: Mapping[str, str]) -> StudyResult:
        card = self._model.card
        rows, columns = volume.array_zyx.shape[1:]
        marks: list[Mark] = []
        said: dict[str, str] = {}
        language = self.options.languages[0]
        for target in self.options.targets:
            question = self._question(language, target=target.phrase, definition=target.definition)
            written = self.written(picture, question, language)
            text = self._tokenizer.decode(list(written.tokens), skip_special_tokens=False)
            said[target.phrase] = text[:500]
            # A text that was cut off may end within a box.
            boxes = [] if written.cut else self._boxes(text, picture)
            found = [_corners(box, picture, rows, columns) for box in boxes]
            marks += [Mark(role, MarkShape.BOX, 0, each, target.phrase) for each in found if each is not None]
        return StudyResult(
            outcome=Outcome.FOUND if marks else Outcome.NOTHING_FOUND,
            title=card.title,
            finding=card.finding,
            site=card.site,
            model=self._model.reference(parameters),
            marks=tuple(marks),
            limitations=card.limitations,
            evidence={"said": said},
        )

    def _boxes(self, text: str, picture: Picture) -> list[parsing.LabelledBox]:
        if self.options.parser == "located":
            return parsing.located_of(text)
        if self.options.box_scale:
            return parsing.boxes_of(text, self.options.box_scale)
        return [
            parsing.LabelledBox("", b.left / picture.width, b.top / picture.height, b.right / picture.width,
                                b.bottom / picture.height)
            for b in parsing.boxes_of(text, 1.0)
        ]  # fmt: skip


def _corners(
    box: parsing.LabelledBox, picture: Picture, rows: int, columns: int
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Two corners (row, column) of a box on the image; None where it lies in the padding alone."""
    left, top = picture.placement.back(box.left * picture.width, box.top * picture.height)
    right, bottom = picture.placement.back(box.right * picture.width, box.bottom * picture.height)
    # Edges count from the corner of the first pixel, places in an image from its centre.
    low = max(top - 0.5, 0.0), max(left - 0.5, 0.0)
    high = min(bottom - 0.5, rows - 1.0), min(right - 0.5, columns - 1.0)
    return (low, high) if low[0] < high[0] and low[1] < high[1] else None


_CUT = {
    "en": "The text was cut off before its end (marked […]).",
    "ja": "文章は途中で打ち切られている（[…]で示す）。",
}
