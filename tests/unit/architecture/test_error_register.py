"""Every error code is unique, explained, and stands in the operator manual as the register has it."""

from __future__ import annotations

import re
from pathlib import Path

from models.remedies import remedies
from node.manual import error_table, product_errors

ROOT = Path(__file__).resolve().parents[3]


def test_codes_are_unique() -> None:
    codes = [cls.code for cls in product_errors()]
    assert len(codes) > 40
    assert len(codes) == len(set(codes))


def test_every_code_says_what_happened_and_what_to_do() -> None:
    for cls in product_errors():
        assert cls.summary.endswith("."), cls
        assert len(cls.remedy) > 15, cls


def test_every_code_says_in_japanese_what_to_do() -> None:
    errors = {error.code: error.remedy for error in product_errors()}
    japanese = remedies("ja")
    assert len(errors) > 100 and set(japanese) == set(errors)
    for code, said in japanese.items():
        assert re.search("[ぁ-ん]", said) and said.endswith(("。", "。）")), code
        # What is to be typed, and where it is to be read, is the same in both: one that was changed alone is found here.
        named = r"`[^`]+`|docs/[a-z-]+\.md|\[\[?[a-z.A-Z]+\]"
        assert sorted(re.findall(named, said)) == sorted(re.findall(named, errors[code])), code


def test_manual_lists_the_register() -> None:
    assert (ROOT / "docs" / "error-codes.md").read_text(encoding="utf-8") == error_table(), "run `make docs`"
