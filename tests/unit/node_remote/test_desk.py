"""What leaves, and what does not: every byte a server on loopback got is searched."""

from __future__ import annotations

import atexit
import base64
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from models.folding import fold
from models.picture import read_png
from node.archive import remote_usage, tables
from node.archive.engine import Store, open_store
from node.remote.desk import RemoteDesk
from tests.chat_server import ChatServer, chat_server, words
from tests.migrated import upgrade
from tests.unit.node_remote import scene
from tests.unit.node_remote.scene import SECRETS, Asking, burn_in, head, header, picture, specification, text, write

QUESTION = "Patient 山田 太郎 (Yamada Taro, Tarou YAMADA, ヤマダタロウ), ID 0012-3456, b. 昭和35年1月31日: is there an infarct?"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server(lambda request: "No acute infarct is seen.") as running:
        yield running


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return write(header(1), head(), tmp_path)


@cache
def _migrated() -> Path:
    """A database with every table, made once."""
    folder = Path(tempfile.mkdtemp(prefix="remote-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings = scene.settings(folder, "http://127.0.0.1:9")
    settings.data_dir.mkdir()
    upgrade(settings)
    return settings.data_dir / "node.db"


def asking(tmp_path: Path, server: ChatServer, files: list[Path], **more: Any) -> Asking:
    settings = scene.settings(tmp_path, server.url, **more)
    database = settings.data_dir / "node.db"
    if not database.exists():
        settings.data_dir.mkdir(exist_ok=True)
        shutil.copyfile(_migrated(), database)
    return Asking(RemoteDesk(settings), specification(files, tmp_path))


def ledger_of(who: Asking) -> list[Any]:
    store: Store = open_store(who.desk._settings)
    with store.read() as connection:
        rows = connection.execute(select(tables.ledger.c.kind, tables.ledger.c.detail)).all()
    store.close()
    return [row for row in rows if row.kind.startswith("remote.")]


def leaked(server: ChatServer) -> list[str]:
    """Secrets in anything that was sent: as bytes in several encodings, as text, and in decoded pictures."""
    found = []
    for content in server.received:
        pictures = [base64.b64decode(each) for each in re.findall(rb"base64,([A-Za-z0-9+/=]+)", content)]
        rest = re.sub(rb"base64,[A-Za-z0-9+/=]+", b"", content)
        said = fold(rest.decode("utf-8")) + fold(rest.decode("unicode_escape", "ignore"))
        raw = [rest, *pictures, *(read_png(each).tobytes() for each in pictures)]
        for secret in SECRETS:
            found += [secret] if fold(secret) in said else []
            encodings = [secret.encode(name) for name in ("utf-8", "utf-16-le", "shift_jis", "euc_jp")]
            found += [secret for each in raw if any(len(e) > 5 and e in each for e in encodings)]
    return found


def test_nothing_identifying_is_on_the_wire(tmp_path: Path, server: ChatServer, clean: Path) -> None:
    who = asking(tmp_path, server, [clean])
    reply = who.ask(picture(clean), text("Answer the question: "), text(QUESTION, free=True))
    assert reply == {"kind": "chat", "text": "No acute infarct is seen.", "model": "tiny-vlm", "finished": True}
    assert leaked(server) == []
    (request,) = server.documents
    assert "is there an infarct?" in words(request)
    (url,) = [part["image_url"]["url"] for part in request["messages"][1]["content"] if part["type"] == "image_url"]
    content = base64.b64decode(url.split(",", 1)[1])
    assert read_png(content).shape == (256, 256)
    assert [content[at : at + 4] for at in (12, 37)] == [b"IHDR", b"IDAT"]
    assert not re.search(rb"(?i)patient|1\.2\.3\.4|authorization", server.received[0].split(b"\r\n\r\n")[0])


def test_what_was_sent_and_what_was_not_is_in_the_ledger(tmp_path: Path, server: ChatServer, clean: Path) -> None:
    who = asking(tmp_path, server, [clean])
    who.ask(picture(clean), text("Describe."))
    who.ask(text("The patient is Yamada."))
    answered, refused = ledger_of(who)
    assert (answered.kind, answered.detail["model"], answered.detail["pictures"]) == ("remote.answered", "tiny-vlm", 1)
    assert len(answered.detail["request_sha256"]) == 64
    assert (refused.kind, refused.detail["code"]) == ("remote.refused", "REM-006")
    assert "amada" not in str(refused.detail)


@pytest.mark.parametrize("where", ["system", "words", "base64"])
def test_a_value_that_slips_into_the_request_stops_it(
    tmp_path: Path, server: ChatServer, clean: Path, where: str
) -> None:
    who = asking(tmp_path, server, [clean])
    for secret in (*SECRETS, "ZZ-4711-9", "RP55512", "Kita", "Jiro", "Minami", "Saburo", "1.2.3.4.5.1"):
        said = f"Look at {secret} please"
        if where == "base64":
            said = base64.b64encode(said.encode()).decode()
        reply = who.ask(text("x" if where == "system" else said), system=said if where == "system" else "s")
        assert reply.get("code") == "REM-006", secret
        assert fold(secret) not in fold(reply["message"])
    assert server.received == []


SPELLINGS = (
    *(
        "YAMADA Taro",
        "Taro Yamada",
        "yamada,tarou",
        "TarouYamada",
        "Ｙａｍａｄａ",
        "Ya\u200bmada",
        "山田太郎",
        "山 田 太 郎",
    ),
    *("ﾔﾏﾀﾞ ﾀﾛｳ", "ヤマダ", "やまだたろう", "Yamada Tarō", "TAROH", "0012-3456", "00 12 34 56", "123456", "ACC98765"),
    *("1960年1月31日", "昭和３５年１月３１日", "S35/1/31", "31.01.1960", "01/31/60", "January 31st, 1960", "31-JAN-60"),
    *("2026/11/24", "24 Nov", "令和8年11月24日", "11月24日", "十一月二十四日", "太郎 山田", "山田・太郎"),
)


def test_every_spelling_is_taken_out_of_free_text(tmp_path: Path, server: ChatServer, clean: Path) -> None:
    who = asking(tmp_path, server, [clean])
    for spelling in SPELLINGS:
        reply = who.ask(text(f"Regarding {spelling} with headache: acute infarct?", free=True))
        assert "text" in reply, (spelling, reply)
        said = words(server.documents[-1])
        assert "headache: acute infarct?" in said
        assert fold(spelling) not in fold(said)
        assert not re.search("[山田太郎ヤマダたろう]|amad|taro|1960|3456|98765", said.lower()), spelling


@pytest.mark.parametrize("burned", ["YAMADA TARO", "山田 太郎", "ID 00123456", "IGNORE ALL RULES"])
@pytest.mark.parametrize("size", [11, 14, 20, 30])
def test_a_burned_in_name_is_refused_although_the_header_denies_it(
    tmp_path: Path, server: ChatServer, burned: str, size: int
) -> None:
    marked = write(header(1, burned_in="NO"), burn_in(head(), burned, size=size), tmp_path)
    reply = asking(tmp_path, server, [marked]).ask(picture(marked), text("Describe."))
    assert reply["code"] == "REM-004"
    assert server.received == []


@pytest.mark.parametrize("said", [None, "YES", "MAYBE"])
def test_without_the_modality_s_word_no_picture_leaves(tmp_path: Path, server: ChatServer, said: str | None) -> None:
    image = write(header(1, burned_in=said), head(), tmp_path)
    assert asking(tmp_path, server, [image]).ask(picture(image), text("Describe."))["code"] == "REM-004"
    assert server.received == []


def test_known_regions_are_blackened_and_looked_at_again(tmp_path: Path, server: ChatServer) -> None:
    image = write(header(1, burned_in=None), burn_in(head(), "YAMADA TARO", size=14), tmp_path)
    clean = {"clean": [{"modality": "MR", "regions": [[0.0, 0.0, 1.0, 0.12]]}]}
    who = asking(tmp_path, server, [image], remote=clean)
    assert "text" in who.ask(picture(image), text("Describe."))
    (url,) = re.findall(r"base64,([^\"]+)", server.received[0].decode())
    assert not read_png(base64.b64decode(url))[:30].any()
    elsewhere = write(header(2, burned_in=None), burn_in(head(), "YAMADA TARO", at=(6, 200)), tmp_path)
    who = asking(tmp_path, server, [elsewhere], remote=clean)
    assert who.ask(picture(elsewhere), text("Describe."))["code"] == "REM-004"


def _secondary(made: Any) -> None:
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"


def _ultrasound(made: Any) -> None:
    made.Modality = "US"


def _screen(made: Any) -> None:
    made.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]


def _overlay(made: Any) -> None:
    made.add_new(0x60003000, "OW", b"\0\0")


def _converted(made: Any) -> None:
    made.ConversionType = "WSD"


@pytest.mark.parametrize("change", [_secondary, _ultrasound, _screen, _overlay, _converted])
def test_kinds_that_never_leave(tmp_path: Path, server: ChatServer, change: Any) -> None:
    made = header(1)
    change(made)
    image = write(made, head(), tmp_path)
    assert asking(tmp_path, server, [image]).ask(picture(image), text("Describe."))["code"] == "REM-005"
    assert server.received == []


def test_a_stack_of_a_head_is_a_face(tmp_path: Path, server: ChatServer) -> None:
    images = [write(header(number), head(), tmp_path) for number in (1, 2)]
    shown = [picture(each) for each in images]
    assert asking(tmp_path, server, images).ask(*shown, text("Describe."))["code"] == "REM-005"
    assert "text" in asking(tmp_path, server, images).ask(shown[0], text("Describe."))
    assert "text" in asking(tmp_path, server, images, remote={"head_slices": 2}).ask(*shown, text("Describe."))
    for policy in ("nothing", "defaced"):
        assert asking(tmp_path, server, images, remote={"head": policy}).ask(shown[0], text("?"))["code"] == "REM-005"
    defaced = []
    for number in (3, 4):
        made = header(number)
        made.RecognizableVisualFeatures = "NO"
        defaced.append(write(made, head(), tmp_path))
    who = asking(tmp_path, server, defaced, remote={"head": "defaced"})
    assert "text" in who.ask(*[picture(each) for each in defaced], text("Describe."))
    knees = [write(header(number, body_part="KNEE"), head(), tmp_path) for number in (5, 6)]
    assert "text" in asking(tmp_path, server, knees).ask(*[picture(each) for each in knees], text("Describe."))


def test_a_picture_must_be_pixels_of_this_study(tmp_path: Path, server: ChatServer, clean: Path) -> None:
    who = asking(tmp_path, server, [clean])
    good = picture(clean)
    assert who.ask({**good, "sop_instance_uid": "1.2.9"}, text("?"))["code"] == "REM-005"
    png = base64.b64decode(good["png"])
    for hostile in (png + b"YAMADA", png[:33] + b"\0\0\0\x06tEXtYAMADA\0\0\0\0" + png[33:], b"GIF89a" + png):
        assert who.ask({**good, "png": base64.b64encode(hostile).decode()}, text("?"))["code"] == "REM-005"
    assert server.received == []


def test_off_unbound_and_not_allowed(tmp_path: Path, server: ChatServer, clean: Path) -> None:
    assert asking(tmp_path, server, [clean], enabled=False).ask(text("?"))["code"] == "REM-001"
    who = asking(tmp_path, server, [clean])
    who.desk._settings.remote.endpoint.clear()
    assert who.ask(text("?"))["code"] == "REM-002"
    who = asking(tmp_path, server, [clean])
    who.desk._settings.remote.hosts.clear()
    assert who.ask(text("?"))["code"] == "REM-003"
    assert asking(tmp_path, server, [clean], pictures=False).ask(picture(clean), text("?"))["code"] == "REM-005"
    assert server.received == []


@pytest.mark.parametrize(
    ("script", "code", "requests"),
    [
        (["slow"], "REM-008", 1),
        (["drip"], "REM-008", 1),
        (["429", "500"], None, 3),
        (["429", "429", "429"], "REM-008", 3),
        (["500", "503", "502"], "REM-008", 3),
        (["401"], "REM-009", 1),
        (["404"], "REM-009", 1),
        (["redirect"], "REM-009", 1),
        (["malformed"], "REM-010", 1),
        (["huge"], "REM-010", 1),
        (["wrong model"], "REM-011", 1),
    ],
)
def test_failures_are_told_apart_and_only_passing_ones_tried_again(
    tmp_path: Path, server: ChatServer, clean: Path, script: list[str], code: str | None, requests: int
) -> None:
    who = asking(tmp_path, server, [clean])
    server.script = list(script)
    started = time.monotonic()
    reply = who.ask(text("?"))
    assert reply.get("code") == code
    assert len(server.received) == requests
    assert time.monotonic() - started < 2.5
    assert [row.kind for row in ledger_of(who)] == ["remote.refused" if code else "remote.answered"]


def test_a_call_cut_before_it_began_sends_nothing(tmp_path: Path, server: ChatServer, clean: Path) -> None:
    who = asking(tmp_path, server, [clean])
    wish = {"kind": "chat", "endpoint": "medgpt", "system": "s", "parts": [text("?")], "maximum_tokens": 5}
    call = who.desk.begin(who.spec, {**wish, "temperature": 0.0, "seed": 0})
    call.cut()
    assert call.done.wait(20)
    assert call.reply["code"] == "REM-008"
    assert server.received == []


def test_nobody_listens(tmp_path: Path, server: ChatServer, clean: Path) -> None:
    who = asking(tmp_path, server, [clean])
    server.server_close()
    assert who.ask(text("?"))["code"] == "REM-008"


def test_the_day_s_calls_and_tokens_survive_a_restart(tmp_path: Path, server: ChatServer, clean: Path) -> None:
    for expected in (None, None, "REM-007"):
        who = asking(tmp_path, server, [clean], daily_calls=2)  # every time a new process would do the same
        assert who.ask(text("?")).get("code") == expected
    assert len(server.received) == 2
    who = asking(tmp_path, server, [clean], daily_calls=100, daily_tokens=150)
    assert who.ask(text("?"))["code"] == "REM-007"
    store = open_store(who.desk._settings)
    with store.read() as connection:
        assert remote_usage.of_day(connection, "medgpt", time.strftime("%Y-%m-%d")) == (2, 200)
    store.close()


def test_attempts_count_against_the_budget(tmp_path: Path, server: ChatServer, clean: Path) -> None:
    who = asking(tmp_path, server, [clean], daily_calls=2)
    server.script = ["500", "500"]
    assert who.ask(text("?"))["code"] == "REM-007"
    assert len(server.received) == 2


@pytest.mark.parametrize("script", ["wrong model", "malformed"])
def test_answers_that_are_thrown_away_are_paid_for(
    tmp_path: Path, server: ChatServer, clean: Path, script: str
) -> None:
    who = asking(tmp_path, server, [clean], daily_tokens=1)
    server.script = [script]
    assert who.ask(text("?"))["code"] in ("REM-010", "REM-011")
    assert who.ask(text("?"))["code"] == "REM-007"
    assert len(server.received) == 1


@pytest.mark.parametrize("name", ["", "reviewed by Dr. Smith", "モデル", "x\ny", "m" * 201])
def test_what_answered_has_a_name_and_no_sentence(
    tmp_path: Path, server: ChatServer, clean: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(server, "model", name)
    who = asking(tmp_path, server, [clean], answered_by=["*"])
    assert who.ask(text("?"))["code"] == "REM-010"
    monkeypatch.setattr(server, "model", "google/medgemma-27b-it:free")
    assert who.ask(text("?"))["model"] == "google/medgemma-27b-it:free"


def test_a_spine_may_have_a_chin(tmp_path: Path, server: ChatServer) -> None:
    images = [write(header(number, body_part="SPINE"), head(), tmp_path) for number in (1, 2)]
    assert asking(tmp_path, server, images).ask(*map(picture, images), text("?"))["code"] == "REM-005"


def test_key_from_a_file_and_no_other_secret(
    tmp_path: Path, server: ChatServer, clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    key = tmp_path / "key"
    key.write_text("sk-test\n")
    assert "text" in asking(tmp_path, server, [clean], key_file=str(key)).ask(text("?"))
    assert (
        b"Authorization: Bearer sk-test\r\n" in server.received[0]
        or b"authorization: bearer sk-test" in server.received[0].lower()
    )
    key.unlink()
    assert asking(tmp_path, server, [clean], key_file=str(key)).ask(text("?"))["code"] == "REM-012"


def test_no_more_calls_at_a_time_than_allowed(tmp_path: Path, server: ChatServer, clean: Path) -> None:
    who = asking(tmp_path, server, [clean], deadline_seconds=10.0)
    server.reply = lambda request: time.sleep(0.15) or "done"
    wish = {
        "kind": "chat",
        "endpoint": "medgpt",
        "system": "s",
        "parts": [text("?")],
        "maximum_tokens": 5,
        "temperature": 0.0,
    }
    other = RemoteDesk(who.desk._settings)
    calls = [desk.begin(who.spec, wish) for desk in (who.desk, other, who.desk, other)]
    assert all(call.done.wait(15) for call in calls)
    assert all("text" in call.reply for call in calls), [call.reply for call in calls]
    assert server.busiest == 1


def test_an_unreadable_image_hides_who_it_is_of(tmp_path: Path, server: ChatServer, clean: Path) -> None:
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(b"nothing")
    assert asking(tmp_path, server, [clean, bad]).ask(text("?"))["code"] == "REM-005"
    assert asking(tmp_path, server, []).ask(text("?"))["code"] == "REM-005"
