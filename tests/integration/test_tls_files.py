"""Certificates that cannot be used are said before anything starts: which key, which file, what to do."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from node.cli import main
from node.dicom.files import check_files
from node.dicom.passcodes import line_for
from node.errors import TlsUnusable, UsersUnusable
from node.settings import Settings
from tests.tls_certificates import Authority, Certificate


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("files"), "authority")


@pytest.fixture(scope="module")
def good(authority: Authority) -> Certificate:
    return authority.issue("node", days=10)


def listening(tls: dict[str, Any]) -> Settings:
    return Settings.model_validate({"receive": {"tls": tls}})


def sending(tls: dict[str, Any]) -> Settings:
    destination = {"ae_title": "A", "host": "h", "port": 1, "tls": tls}
    return Settings.model_validate({"destination": {"pacs": destination}})


def test_good_files_and_when_they_end(good: Certificate) -> None:
    assert check_files(Settings()) is None
    assert check_files(sending({})) is None
    for settings in (listening(good.listener()), sending(good.client())):
        ends = check_files(settings)
        assert ends is not None
        assert timedelta(days=9) < ends - datetime.now(UTC) < timedelta(days=11)


@pytest.mark.parametrize("kind", ["listener", "destination"])
def test_bad_files_are_named(tmp_path: Path, authority: Authority, good: Certificate, kind: str) -> None:
    expired, other = authority.issue("expired", days=-1), authority.issue("other")
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    key = "receive.tls" if kind == "listener" else "destination.pacs.tls"
    cases: tuple[tuple[dict[str, Any], str, str], ...] = (
        ({"certificate": str(tmp_path / "absent.pem")}, f"{key}.certificate", "absent.pem cannot be read"),
        ({"key": str(tmp_path / "absent.key")}, f"{key}.key", "absent.key cannot be read"),
        ({"ca": str(tmp_path / "absent.pem")}, f"{key}.ca", "absent.pem cannot be read"),
        ({"key": str(other.key)}, f"{key}.key", "is not the key of"),
        ({"certificate": str(text)}, f"{key}.certificate", "must be PEM"),
        ({"ca": str(text)}, f"{key}.ca", "holds no certificates"),
        ({"certificate": str(expired.certificate), "key": str(expired.key)}, f"{key}.certificate", "expired; renew it"),
    )
    for changes, where, words in cases:
        tls = good.listener() if kind == "listener" else good.client()
        with pytest.raises(TlsUnusable, match=words) as caught:
            check_files((listening if kind == "listener" else sending)({**tls, **changes}))
        assert where in str(caught.value)
        assert caught.value.remedy


def test_commands_say_so(
    tmp_path: Path, authority: Authority, good: Certificate, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "node.toml"
    expired = authority.issue("late", days=-1)

    def write(certificate: Certificate) -> None:
        config.write_text(
            f"[node]\ndata_dir = 'data'\n[receive.tls]\nenabled = true\nca = '{certificate.ca}'\n"
            f"certificate = '{certificate.certificate}'\nkey = '{certificate.key}'\n"
        )

    write(good)
    assert main(["check-config", str(config)]) == 0
    assert "with TLS on 127.0.0.1:2762" in (said := capsys.readouterr().out)
    assert "the first expires on" in said
    main(["--config", str(config), "doctor"])
    assert re.search(
        r"BAD   certificates   CFG-004: receive.tls.certificate has \d+ days left", capsys.readouterr().out
    )
    write(expired)
    for words in (["check-config", str(config)], ["--config", str(config), "serve"]):
        assert main(words) == 1
        assert "CFG-004: receive.tls.certificate" in capsys.readouterr().err


def test_users_and_passcodes_are_read(tmp_path: Path) -> None:
    (tmp_path / "users").write_text(line_for("a", "b"))
    check_files(Settings.model_validate({"receive": {"users": str(tmp_path / "users")}}))
    with pytest.raises(UsersUnusable):
        check_files(Settings.model_validate({"receive": {"users": str(tmp_path / "absent")}}))
    destination = {"ae_title": "A", "host": "h", "port": 1, "username": "u", "passcode_file": str(tmp_path / "absent")}
    with pytest.raises(UsersUnusable):
        check_files(Settings.model_validate({"destination": {"pacs": destination}}))
