"""Conditions of a network with so many outputs that they stand in a file beside the card: one line an output, in order."""

from __future__ import annotations

import csv
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from models.errors import CardInvalid
from models.results import CodedTerm

_CODE_LENGTH, _MEANING_LENGTH = 16, 64  # PS3.5 6.2: SH and LO


class CodeList(BaseModel):
    """The card's ``options.code_list``.

    Attributes
    ----------
    file : str
        Name of the card's pinned file: CSV, UTF-8, a line of titles, then code and meaning of each output.
    scheme : str
        Coding scheme designator of the codes.
    operating_point : float
        Probability from which a condition counts as present: one for all.
    at_most : int
        So many conditions are reported, the most probable ones; how many count as present is in the evidence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    scheme: str = Field(min_length=1, max_length=_CODE_LENGTH)
    operating_point: float = Field(gt=0, lt=1)
    at_most: int = Field(ge=1, le=200)


def read_codes(path: Path, scheme: str) -> tuple[CodedTerm, ...]:
    """Terms of a list, in the order of its lines. A meaning that is too long for DICOM is cut, with an ellipsis.

    Raises
    ------
    CardInvalid
        It cannot be read, has a line of another form, or two lines have one code.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))[1:]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CardInvalid(f"{path.name} cannot be read as CSV") from error
    if not lines or any(len(line) != 2 or not all(each.strip() for each in line) for line in lines):
        raise CardInvalid(f"{path.name}: each line after the first holds a code and its meaning")
    codes = [code.strip() for code, _ in lines]
    if len(set(codes)) != len(codes) or max(map(len, codes)) > _CODE_LENGTH:
        raise CardInvalid(f"{path.name}: each code stands once and has at most {_CODE_LENGTH} characters")
    return tuple(
        CodedTerm(code, scheme, _cut(" ".join(words.split()))) for code, (_, words) in zip(codes, lines, strict=True)
    )


def _cut(words: str) -> str:
    # A backslash parts values in DICOM.
    words = words.replace("\\", "/")
    return words if len(words) <= _MEANING_LENGTH else f"{words[: _MEANING_LENGTH - 3].rstrip()}..."
