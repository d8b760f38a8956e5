"""Every error code is unique, explained, and stands in the operator manual as the register has it."""

from __future__ import annotations

from pathlib import Path

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


def test_manual_lists_the_register() -> None:
    assert (ROOT / "docs" / "error-codes.md").read_text(encoding="utf-8") == error_table(), "run `make docs`"
