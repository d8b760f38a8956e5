"""The console as a process serves it: over TLS, ended in time, and the command that makes its users."""

from __future__ import annotations

import json
import re
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from node.archive.engine import upgrade
from node.cli import main
from node.errors import TlsUnusable
from node.settings import Settings, load
from node.web.files import certificate_ends, check_web_files
from node.web.server import run_web
from tests.console import PASSCODE
from tests.network import wait_for
from tests.node_process import ROOT
from tests.peers import free_port
from tests.tls_certificates import Authority


def _configured(folder: Path, more: str = "") -> Path:
    file = folder / "node.toml"
    file.write_text(f'[node]\ndata_dir = "{folder / "data"}"\n{more}')
    return file


def _user(config: Path, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "node", "--config", str(config), "user", *words]
    return subprocess.run(command, input=said, text=True, capture_output=True, cwd=ROOT, check=False)


def test_over_tls_with_a_stream_open_at_the_end(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    pair = authority.issue("web")
    port = free_port()
    web = f'[web]\nenabled = true\nport = {port}\n[web.tls]\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"\n'
    settings = load(_configured(tmp_path, web))
    check_web_files(settings)
    ends = certificate_ends(settings)
    assert ends is not None and 18 <= (ends - datetime.now(UTC)).days <= 20
    upgrade(settings)
    assert _user(settings.source or tmp_path, "add", "ada", said=f"{PASSCODE}\n").returncode == 0
    stop = threading.Event()
    server = threading.Thread(target=run_web, args=(settings, stop))
    server.start()
    try:
        trust = ssl.create_default_context(cafile=str(authority.ca))
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trust) as client:
            wait_for(lambda: _answers(client), "the console answers", seconds=90)
            page = client.get("/login")
            token = re.search(r'form_token" value="([^"]+)"', page.text)
            assert token and "max-age" in page.headers["strict-transport-security"]
            entered = client.post("/login", data={"form_token": token.group(1), "name": "ada", "passcode": PASSCODE})
            assert entered.headers["set-cookie"].startswith("__Host-ainode=")
            assert client.get("/").status_code == 200
            _age_sessions(settings)
            with client.stream("GET", "/events") as stream:
                assert "data:" in next(stream.iter_text())
                assert _seen_at(settings) == 1.0, "an open page keeps no session alive"
                stop.set()
                began = time.monotonic()
                server.join(15)
                assert not server.is_alive() and time.monotonic() - began < 8
    finally:
        stop.set()
        server.join(15)


def _age_sessions(settings: Settings) -> None:
    with closing(sqlite3.connect(settings.data_dir / "node.db")) as database, database:
        database.execute("UPDATE user_sessions SET seen_at = strftime('%s', 'now') - 900")


def _seen_at(settings: Settings) -> float:
    """How many quarters of an hour ago somebody was seen."""
    with closing(sqlite3.connect(settings.data_dir / "node.db")) as database:
        (seconds,) = database.execute("SELECT strftime('%s', 'now') - seen_at FROM user_sessions").fetchone()
    return float(seconds // 900)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    wrong = tmp_path / "web.pem"
    wrong.write_text("no certificate")
    settings = load(_configured(tmp_path, f'[web.tls]\ncertificate = "{wrong}"\nkey = "{wrong}"\n'))
    with pytest.raises(TlsUnusable, match=r"web\.pem"):
        check_web_files(settings)


def test_users_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _configured(tmp_path)
    upgrade(load(config))
    assert _user(config, "add", "Ada", "--role", "administrator", said=f"{PASSCODE}\n").returncode == 0
    weak = _user(config, "add", "bob", said="short\n")
    assert weak.returncode == 1 and "ACC-004" in weak.stderr and "short" not in weak.stderr.split("ACC-004")[1]
    words = ["--config", str(config), "user"]
    assert main([*words, "role", "ada", "viewer"]) == 1, "the last administrator"
    assert main([*words, "token", "ada", "--for", "metrics", "--days", "3"]) == 0
    assert re.search(r"^ainode_[\w-]{40,}$", capsys.readouterr().out, re.M)
    assert main([*words, "token", "ada", "--list", "--json"]) == 0
    (token,) = json.loads(capsys.readouterr().out)
    assert (token["name"], token["role"]) == ("metrics", "viewer")
    assert main([*words, "token", "ada", "--revoke", str(token["id"])]) == 0
    assert main([*words, "totp", "ada"]) == 0
    assert "otpauth://totp/" in capsys.readouterr().out
    assert main([*words, "totp", "ada", "--off"]) == 0
    assert main([*words, "list", "--json"]) == 0
    (ada,) = json.loads(capsys.readouterr().out.split("without a code\n")[-1])
    assert (ada["user"], ada["role"], ada["second_factor"], ada["disabled"]) == ("ada", "administrator", False, False)
    assert main([*words, "add", "eve", "--role", "god"]) == 2


def test_the_console_listens_elsewhere_only_with_tls() -> None:
    with pytest.raises(ValueError, match=r"web\.tls"):
        Settings.model_validate({"web": {"host": "192.0.2.1"}})
