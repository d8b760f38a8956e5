"""The file of users."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.dicom.passcodes import Users, line_for, read_passcode
from node.errors import UsersUnusable


def test_only_the_right_passcode_of_the_right_name(tmp_path: Path) -> None:
    path = tmp_path / "users"
    lines = [line_for("ct1", "secret"), line_for("山田", "ひみつ")]
    assert "secret" not in lines[0]
    assert line_for("ct1", "secret") != lines[0]
    path.write_text("\n".join(["# users", "", *lines]), encoding="utf-8")
    users = Users(path)
    assert users.accepts("ct1", b"secret")
    assert users.accepts("山田", "ひみつ".encode())
    for name, passcode in (("ct1", b"Secret"), ("ct1", b""), ("nobody", b"secret"), ("", b""), ("ct1", b"\xff")):
        assert not users.accepts(name, passcode)
    # Changed: taken over. Damaged: the former users stay.
    path.write_text(line_for("ct2", "other"), encoding="utf-8")
    assert users.accepts("ct2", b"other")
    assert not users.accepts("ct1", b"secret")
    path.write_text("nonsense", encoding="utf-8")
    assert users.accepts("ct2", b"other")


@pytest.mark.parametrize(
    "text", ["ct1", "ct1:md5:1:1:1:AA==:AA==", "ct1:scrypt:x:8:1:AA==:AA==", "ct1:scrypt:2:8:1:!:AA=="]
)
def test_bad_line_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "users"
    path.write_text(f"# one\n{text}\n")
    with pytest.raises(UsersUnusable, match=r"line 2 of .*users"):
        Users(path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsersUnusable, match="No such file"):
        Users(tmp_path / "absent")
    with pytest.raises(UsersUnusable, match="No such file"):
        read_passcode(tmp_path / "absent")
    (tmp_path / "passcode").write_bytes(b"abc\r\nmore")
    assert read_passcode(tmp_path / "passcode") == b"abc"
    (tmp_path / "passcode").write_bytes(b"\n")
    with pytest.raises(UsersUnusable, match="empty"):
        read_passcode(tmp_path / "passcode")


@pytest.mark.parametrize("name", ["", "a:b", "#a", " a", "a\nb"])
def test_names_that_cannot_stand_in_the_file(name: str) -> None:
    with pytest.raises(UsersUnusable):
        line_for(name, "x")
