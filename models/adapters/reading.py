"""Models of family ``generation`` that read an image by themselves: report generators, answers to questions, grounding.

What they write is a draft with nothing measured behind it, and says so; what they point at becomes marks. Everything that
differs between two of them stands in the card's ``options``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from models.chat import TextPart
from models.errors import CardInvalid, InferenceFailed
from models.generation import parsing
from models.generation.limits import Limits, Written
from models.generation.options import ReadingOptions
from models.generation.pictures import Picture, picture_of
from models.generation.prompting import embedded_prompt, plain_words, prompt_pieces, token_number
from models.generation.strategies import write
from models.generation.wiring import Arrays, DecoderOnly, EncoderDecoder, TokenModel
from models.questions import Question
from models.results import Draft, Mark, MarkShape, Outcome, StudyResult
from models.untrusted import as_data
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model

TOKENIZER = "tokenizer"


class ReadingAdapter:
    """Runs one model that reads images."""

    def __init__(self, model: Model) -> None:
        self._model = model
        card = model.card
        self.options = card.options_of(ReadingOptions)
        if not card.inputs or any(each.kind != "projection" for each in card.inputs):
            raise CardInvalid(f"{card.id}: inputs: a model that reads an image takes projections")

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_str(self._model.path(TOKENIZER).read_text(encoding="utf-8"))

    def run(self, inputs: Mapping[str, Volume], parameters: Mapping[str, str]) -> StudyResult:
        """What the model reads in one image; see :meth:`models.model.Model.run`."""
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
            written = self.written(picture, self.question(language), language)
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

    def answer(self, question: Question, inputs: Mapping[str, Volume], language: str) -> Draft:
        """The answer to a person's question about the image, as the impression; the question is data, never an order.

        Raises
        ------
        CardInvalid
            The card's prompt has no place for a question.
        InferenceFailed
            The image is missing, the model does not write ``language``, or it wrote nothing.
        """
        return self._told(as_data(question.text), inputs, language)

    @property
    def languages(self) -> frozenset[str]:
        """Languages it writes."""
        return frozenset(self.options.languages)

    @property
    def offers_ask(self) -> bool:
        """Whether its prompt has a place for words."""
        return self.options.prompt is not None

    def ask(self, words: Sequence[TextPart], inputs: Mapping[str, Volume], language: str) -> Draft:
        """The answer to a prompt that a chain has put together. Raises as :meth:`answer`."""
        return self._told("".join(part.text for part in words), inputs, language)

    def _told(self, words: str, inputs: Mapping[str, Volume], language: str) -> Draft:
        """What it writes about the image when it is told ``words``, as the impression."""
        card, form = self._model.card, self.options.prompt
        if form is None:
            raise CardInvalid(f"{card.id} answers no questions: its card has no prompt")
        if language not in self.options.languages:
            raise InferenceFailed(f"{card.id} does not write {language}")
        role = card.inputs[0].role
        if role not in inputs:
            raise InferenceFailed(f"{card.id}: the input {role} is missing")
        picture = picture_of(inputs[role], self.options.image)
        words = plain_words(words, self._tokenizer)
        draft = self._draft(language, self.written(picture, words, language), {})
        # The one image there is; what was written is what was asked for.
        return replace(draft, findings="", impression=draft.findings, looked_at=(0,))

    def written(self, picture: Picture, question: str, language: str) -> Written:
        """Tokens the model writes about a picture."""
        decoding = self.options.decoding
        limits = Limits(
            maximum_tokens=decoding.maximum_tokens,
            stop_tokens=decoding.stop_tokens,
            seconds=decoding.seconds,
            stop_strings=decoding.stop_strings,
            decode=lambda tokens: self._text(tokens),
            progress=self._model.on_token(decoding.maximum_tokens),
        )
        return write(
            self.reader(picture, question, language), decoding.strategy, limits, decoding.constraints(self._tokenizer)
        )

    def reader(self, picture: Picture, question: str, language: str) -> TokenModel:
        """The model about to write about a picture, as decoding strategies drive it."""
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
            if options.decoding.repeats_prompt:
                start = tuple(token for token in (*pieces[0], *pieces[1]) if token not in options.decoding.stop_tokens)
            return EncoderDecoder(model.session("decoder"), features, shape, start)
        return DecoderOnly(embed, model.session("decoder"), given, shape, window=options.cache.window)

    def _features(self, picture: Picture) -> npt.NDArray[np.float32]:
        """Image tokens (tokens, width) of all parts of a picture, one part at a time."""
        if picture.places is not None:
            feeds: Arrays = {"pixel_values": picture.pixels, "places": picture.places}
            made = self._model.session("vision").run(feeds)["image_features"]
        elif picture.grid != (0, 0):
            session = self._model.session(f"vision_{picture.grid[0]}x{picture.grid[1]}")
            made = session.run({"pixel_values": picture.pixels})["image_features"]
        else:
            session = self._model.session("vision")
            made = np.concatenate(
                [session.run({"pixel_values": each[None]})["image_features"] for each in picture.pixels]
            )
        return made.reshape(-1, made.shape[-1])

    def question(self, language: str, **words: str) -> str:
        """What the card asks in a language; empty where its model is asked nothing. Raises CardInvalid."""
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
            # What is thought aloud before the answer, or cut off there, is none.
            found = parsing.answer_of(text)
            if not found:
                raise InferenceFailed(f"{self._model.card.id}: the text holds no answer")
            text = found
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
        said: dict[str, dict[str, str | int]] = {}
        cut = False
        language = self.options.languages[0]
        for target in self.options.targets:
            question = self.question(language, target=target.phrase, definition=target.definition)
            written = self.written(picture, question, language)
            text = self._tokenizer.decode(list(written.tokens), skip_special_tokens=False)
            # A text that was cut off may end within a box.
            boxes = [] if written.cut else self._boxes(text, picture)
            found = [_corners(box, picture, rows, columns) for box in boxes]
            cut = cut or written.cut
            # How it ended and how much it marked, not the words: a model that reads can read a name in the picture.
            said[target.phrase] = {"ended": written.ending.value, "boxes": len(boxes)}
            marks += [Mark(role, MarkShape.BOX, 0, each, target.phrase) for each in found if each is not None]
        if cut and not marks:
            # Nothing pointed at is not nothing found.
            raise InferenceFailed(f"{card.id}: the text was cut off before it pointed at anything")
        return StudyResult(
            outcome=Outcome.FOUND if marks else Outcome.NOTHING_FOUND,
            title=card.title,
            finding=card.finding,
            site=card.site,
            model=self._model.reference(parameters),
            marks=tuple(marks),
            limitations=(*card.limitations, *(("pointing_cut_off",) if cut else ())),
            evidence={"pointed": said},
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
