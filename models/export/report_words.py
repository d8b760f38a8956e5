"""The words of a report generator that was trained on an annotation file: R2Gen's own vocabulary, which no checkpoint holds.

How reports are cleaned, counted and numbered is that of ``modules/tokenizers.py`` (cuhksz-nlp/R2Gen@a938a6e,
zhaozh10/ChatCAD@576f575): every word that the training reports hold often enough, and ``<unk>``, sorted, from number 1 on;
0 starts, ends and pads.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from models.errors import CheckpointMismatch

ANNOTATION, VOCABULARY = "annotation.json", "vocabulary.json"
UNKNOWN = "<unk>"
END = "<end>"
LEAST = 10
"""How often the reports of MIMIC-CXR hold a word that is in the vocabulary of the releases."""

_LIST_MARKS = (
    ("1. ", ""),
    *((f". {n}. ", ". ") for n in (2, 3, 4, 5)),
    *((f" {n}. ", ". ") for n in (2, 3, 4, 5)),
)
_REPLACED = (("\n", " "), *[("__", "_")] * 7, *[("  ", " ")] * 7, *[("..", ".")] * 8, *_LIST_MARKS)
"""In order, as often as the original does it."""

_TWO_IMAGES = (
    "of reports on two images each (IU X-ray); such a checkpoint reads both at once, which has no converter: use the one "
    "trained on MIMIC-CXR"
)

# The original's class of characters has a range, colon to opening bracket, that no one may have meant.
_DROPPED = frozenset(".,?;*!%^&_+(){}]\"/\\'") | {chr(n) for n in range(ord(":"), ord("[") + 1)}


def cleaned(report: str) -> list[str]:
    """Words of a report of MIMIC-CXR, full stops among them, as they are counted."""
    for old, new in _REPLACED:
        report = report.replace(old, new)
    words: list[str] = []
    for sentence in report.strip().lower().split(". "):
        kept = "".join(each for each in sentence if each not in _DROPPED)
        words += [*kept.split(), "."]
    return words


def annotated_words(reports: Sequence[str], least: int = LEAST) -> list[str]:
    """The vocabulary of training reports, in the order of its numbers."""
    counts = Counter(word for report in reports for word in cleaned(report))
    return sorted([*(word for word, count in counts.items() if count >= least), UNKNOWN])


def words_beside(folder: Path, rows: int) -> list[str]:
    """The vocabulary of ``vocabulary.json`` or, where there is none, of ``annotation.json``.

    Parameters
    ----------
    folder : Path
        Of the checkpoint. ``vocabulary.json``: ``{"images": 1, "words": …}``, the words in the order of their numbers, or
        word → number, and on how many images each report was trained.
        ``annotation.json``: ``{"train": [{"report": …, "image_path": […]}, …], …}``.
    rows : int
        Tokens of the checkpoint.

    Raises
    ------
    CheckpointMismatch
        There is neither, it cannot be read, it is of reports on two images each, or it makes another number of words.
    """
    for name, reading in ((VOCABULARY, _listed), (ANNOTATION, _of_annotation)):
        if (folder / name).is_file():
            words = reading(_json(folder / name))
            if len(words) + 1 != rows:
                raise CheckpointMismatch(
                    f"{name} makes {len(words)} words, the checkpoint knows {rows - 1}; put the file beside it that it "
                    "was trained with: a word more or less gives every later word another meaning"
                )
            return words
    raise CheckpointMismatch(
        f"the checkpoint does not hold its words; put {ANNOTATION} of its training data, or {VOCABULARY} "
        '({"images": 1, "words": its words in the order of their numbers, from 1}), beside it'
    )


def word_tokenizer(words: Sequence[str]) -> Tokenizer:
    """A tokenizer of whole words from number 1 on; text comes out without a blank before its stops."""
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate([END, *words])}, unk_token=UNKNOWN))
    made.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return made


def _listed(content: Any) -> list[str]:
    if not isinstance(content, Mapping) or set(content) != {"images", "words"}:
        raise CheckpointMismatch(f'{VOCABULARY} is not of the form {{"images": 1, "words": …}}')
    if content["images"] != 1:
        raise CheckpointMismatch(f"{VOCABULARY} is {_TWO_IMAGES}")
    content = content["words"]
    if isinstance(content, Mapping):
        content = sorted(content, key=lambda word: content[word]) if _counts_from_one(content) else None
    if not isinstance(content, list) or not all(isinstance(word, str) for word in content):
        raise CheckpointMismatch(f"{VOCABULARY} holds neither a list of words nor word → number, from 1 without a gap")
    if len(set(content)) != len(content) or UNKNOWN not in content:
        raise CheckpointMismatch(f"{VOCABULARY} holds a word twice, or no {UNKNOWN}")
    return content


def _counts_from_one(numbers: Mapping[str, Any]) -> bool:
    return sorted(numbers.values(), key=str) == sorted(range(1, len(numbers) + 1), key=str)


def _of_annotation(content: Any) -> list[str]:
    try:
        examples = content["train"]
        reports = [example["report"] for example in examples]
        pictures = {len(example["image_path"]) for example in examples if "image_path" in example}
        if any(number > 1 for number in pictures):
            raise CheckpointMismatch(f"{ANNOTATION} is {_TWO_IMAGES}")
        return annotated_words(reports)
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointMismatch(f"{ANNOTATION} does not hold training reports: {error!r}") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointMismatch(f"{path.name} cannot be read: {error}") from error
