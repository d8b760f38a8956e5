"""A prompt as declared pieces, with an image in it: no template language, nothing of a checkpoint is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from models.errors import InferenceFailed
from models.generation.masks import image_numbers
from models.generation.wiring import EmbeddedPrompt, Graph

IMAGE = "{image}"
QUESTION = "{question}"


class PromptForm(BaseModel):
    """The card's ``options.prompt``.

    Attributes
    ----------
    text : str
        With ``{image}`` where the image stands and ``{question}`` where the question does; special tokens as the vocabulary
        writes them. The pieces before and after the image are tokenised by themselves.
    questions : dict
        What is asked, by language.
    first_token : str
        Stands before everything; empty: nothing.
    image_token : str
        Counts as the image where tokens are counted; empty: number 0.
    positions : str
        ``plain``, or ``sections``: an image's tokens count by row and column (Qwen2-VL).
    image_sees_itself : bool
        Tokens of an image look at those after them, too.
    wording : str
        ``as_asked``, or ``lower``: small letters, no hyphens and slashes, a question mark at the end (OFA).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    questions: dict[str, str] = Field(min_length=1)
    first_token: str = ""
    image_token: str = ""
    positions: Literal["plain", "sections"] = "plain"
    image_sees_itself: bool = False
    wording: Literal["as_asked", "lower"] = "as_asked"


def plain_words(question: str, tokenizer: Tokenizer) -> str:
    """``question`` without anything the vocabulary takes for more than words: it is data, never an instruction."""
    for token in sorted(
        (each.content for each in tokenizer.get_added_tokens_decoder().values()), key=len, reverse=True
    ):
        if token.strip():
            question = question.replace(token, " ")
    return question.strip()


def worded(question: str, form: PromptForm) -> str:
    """``question`` as the model was trained to be asked (OFA-Sys/OFA@05ee19e: data/ofa_dataset.py, ``pre_question``)."""
    if form.wording == "as_asked":
        return question
    words = " ".join(question.lower().lstrip(",.!?*#:;~").replace("-", " ").replace("/", " ").split())
    return words if words.endswith("?") else f"{words}?"


def prompt_pieces(form: PromptForm, question: str, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Token ids before and after the image; everything before where there is no image.

    Raises
    ------
    InferenceFailed
        The template has more than one place for an image.
    """
    if form.text.count(IMAGE) > 1:
        raise InferenceFailed("a prompt has one place for the image")
    before, _, after = form.text.partition(IMAGE)
    pieces = []
    for piece in (before, after):
        text = piece.replace(QUESTION, worded(question, form))
        pieces.append(list(tokenizer.encode(text, add_special_tokens=False).ids) if text else [])
    if form.first_token:
        pieces[0].insert(0, token_number(form.first_token, tokenizer))
    return pieces[0], pieces[1]


def token_number(token: str, tokenizer: Tokenizer) -> int:
    """Number of a token.

    Raises
    ------
    InferenceFailed
        The vocabulary lacks it.
    """
    number = tokenizer.token_to_id(token)
    if number is None:
        raise InferenceFailed(f"the vocabulary has no token {token!r}")
    return int(number)


def embedded_prompt(
    embed: Graph,
    pieces: tuple[Sequence[int], Sequence[int]],
    features: npt.NDArray[np.float32],
    form: PromptForm,
    *,
    image_token: int = 0,
    merged_grid: tuple[int, int] = (0, 0),
) -> EmbeddedPrompt:
    """Embeddings of the pieces with ``features`` (tokens, width) between them, positions, and which tokens are image."""
    before, after = pieces
    count = len(features)
    ids = np.array([*before, *([image_token] * count), *after], dtype=np.int64)
    embeds = embed.run({"input_ids": ids[None]})["inputs_embeds"].copy()
    embeds[0, len(before) : len(before) + count] = features
    is_image = np.zeros(len(ids), dtype=np.bool_)
    is_image[len(before) : len(before) + count] = True
    if form.positions == "sections":
        positions, following = section_positions(len(before), merged_grid, len(after))
    else:
        positions, following = np.arange(len(ids), dtype=np.int64)[None], len(ids)
    images = image_numbers(is_image) if form.image_sees_itself else None
    return EmbeddedPrompt(tuple(ids.tolist()), embeds, positions, following, images)


def section_positions(before: int, grid: tuple[int, int], after: int) -> tuple[npt.NDArray[np.int64], int]:
    """Positions (3, 1, tokens) by time, row and column around one image of ``grid`` merged patches, and the next one.

    Text after the image goes on behind its largest position (Qwen2-VL, arXiv 2409.12191, 3.1).
    """
    rows, columns = grid
    text = np.repeat(np.arange(before)[None], 3, axis=0)
    place = np.stack(np.meshgrid([0], np.arange(rows), np.arange(columns), indexing="ij")).reshape(3, -1) + before
    start = before + max(rows, columns, 1 if rows * columns else 0)
    tail = np.repeat(np.arange(start, start + after)[None], 3, axis=0)
    return np.concatenate([text, place, tail], axis=1)[:, None].astype(np.int64), start + after
