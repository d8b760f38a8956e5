"""What the card of a model that reads images says in its ``options``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from tokenizers import Tokenizer

from models.generation.constraints import (
    ClosedAnswers,
    Constraint,
    ForcedFirst,
    ForcedLast,
    NeverFrom,
    NoRepeatedNgram,
    RepetitionPenalty,
)
from models.generation.pictures import PictureRecipe
from models.generation.prompting import PromptForm
from models.generation.strategies import Strategy
from models.generation.wiring import CacheShape
from models.results import CodedTerm


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
    repeats_prompt : bool
        The decoder begins with the prompt's words too, all but their stop token (OFA fine-tuned on questions).
    text_tokens : int
        Tokens from this number on, which are not text, never come; 0: all may.
    answers : tuple of str
        Nothing but one of these comes out, whole; empty: anything does. A vocabulary that keeps blanks before words wants
        one before each answer.
    """

    strategy: Strategy = Strategy()
    start_tokens: tuple[int, ...] = ()
    language_tokens: dict[str, tuple[int, ...]] = {}
    repeats_prompt: bool = False
    text_tokens: int = Field(default=0, ge=0)
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
        if self.text_tokens:
            made.append(NeverFrom(self.text_tokens))
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
        if self.decoding.repeats_prompt and self.architecture != "prompt_encoder":
            raise ValueError("decoding.repeats_prompt: only a decoder behind an encoder of prompts repeats one")
        if (self.parser in ("located", "boxes")) != bool(self.targets):
            raise ValueError("targets: a model that points says at what, and no other does")
        if (self.parser == "choice") != bool(self.choices) or any(
            not (len(letter) == 1 and letter.isupper()) for letter in self.choices
        ):
            raise ValueError("choices: a model that chooses has capital letters to choose from, and no other does")
        return self
