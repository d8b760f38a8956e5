"""The console's pages over a store of either kind."""

from __future__ import annotations

import re
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from models.remedies import remedies
from node.accounts.roles import Role
from node.archive import ledger, orders, tables
from node.archive.engine import Store
from node.archive.pauses import Scope
from node.delivery import capabilities
from node.delivery.gate_states import GateState, publish
from node.jobs.progress import ProgressBoard
from node.manual import product_errors
from node.orders import Code, Order
from node.settings import Settings
from node.settings.dicomweb import DicomWebSection
from node.web.app import create_app
from node.web.overview import Stage, latest, needing_somebody, study_lines
from node.web.phrases import Phrases, best_language
from node.web.study_list import StudyFilter, study_page
from tests.console import STUDY, acted, fill, give_up, press, signed_in
from tests.integration.test_store_outbox import freeze, written

pytest_plugins = ["tests.store_fixtures"]

SECRETS = ("SECRET^NAME", "SECRETID", "19011231")
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}"
PAGES = (
    *("/", "/studies", f"/study/{STUDY}", "/destinations", "/models", "/rules", "/rules/dry-run?days=7", "/system"),
    *("/audit", "/audit?kind=", "/users", "/account"),
)


@pytest.fixture
def client(store_settings: Settings, store: Store) -> TestClient:
    (store_settings.data_dir / "run").mkdir(exist_ok=True)
    return signed_in(store_settings, store, Role.ADMINISTRATOR)


def test_first_page(client: TestClient, store: Store) -> None:
    assert "Nothing needs a person." in client.get("/").text
    fill(store)
    page = client.get("/").text
    assert "1 queued" in page and f'href="/study/{STUDY}"' in page
    assert "SCANNER" in client.get(f"/study/{STUDY}").text
    assert client.get("/study/9.9").status_code == 404


def test_no_patient_on_any_page(client: TestClient, store: Store) -> None:
    fill(store)
    for path in (
        *PAGES,
        "/metrics",
        "/readyz",
        "/healthz",
        "/api/v1/studies",
        f"/api/v1/studies/{STUDY}",
        "/api/v1/ledger",
    ):
        answer = client.get(path)
        assert answer.status_code in (200, 503), path
        assert not [secret for secret in SECRETS if secret in answer.text], path


def test_hostile_text_is_shown_as_text(client: TestClient, store: Store, store_settings: Settings) -> None:
    """In every text that a DICOM peer, an order or a person can send."""
    job = fill(
        store,
        calling=HOSTILE[:16],
        accession_number=HOSTILE,
        modality=HOSTILE[:16],
        patient_name=HOSTILE,
        routing={"modality": HOSTILE, "study_description": HOSTILE, "series_description": HOSTILE},
    )
    give_up(store, job)
    with store.write() as connection:
        tables_job = tables.jobs.update().where(tables.jobs.c.id == job)
        connection.execute(
            tables_job.values(message=HOSTILE, rule=HOSTILE[:64], model_id=HOSTILE, result={"outcome": HOSTILE})
        )
        order = Order(
            study_uid="1.2.9",
            accession_number=HOSTILE,
            modality=HOSTILE[:16],
            station_name=HOSTILE,
            starts_at=time.time(),
            requested_procedure_description=HOSTILE,
            procedure_codes=(Code(HOSTILE, HOSTILE, HOSTILE),),
        )
        orders.take(connection, time.time(), "ris", [order])
        ledger.record(
            connection, time.time(), ledger.Kind.EVIDENCE_RECEIVED, study_uid=STUDY, source=HOSTILE, status=HOSTILE
        )
        ledger.record(connection, time.time(), ledger.Kind.STUDY_HELD, study_uid=STUDY, reason=HOSTILE)
    press(client, f"/study/{STUDY}/hold", reason=HOSTILE)
    for path in (
        *PAGES,
        f"/studies?accession={HOSTILE}",
        f"/audit?who={HOSTILE}",
        "/?said=" + HOSTILE,
        f"/study/{HOSTILE}",
    ):
        text = client.get(path).text
        assert "<script>alert" not in text and "<img src=x" not in text, path
        for tag in re.findall(r"<[a-z][^>]*>", text):
            # No attribute was opened by what was sent.
            assert not re.search(r"\sonerror=", re.sub(r'"[^"]*"', '""', tag)), (path, tag)
    assert "&lt;script&gt;" in client.get(f"/study/{STUDY}").text


def test_metrics(client: TestClient, store: Store) -> None:
    fill(store)
    lines = client.get("/metrics").text.splitlines()
    assert 'ainode_jobs{state="queued"} 1.0' in lines
    assert any(line.startswith("ainode_oldest_queued_job_seconds 3") for line in lines)
    assert "ainode_outdated_deliveries 0.0" in lines


def test_readiness(store_settings: Settings, store: Store) -> None:
    enough = store_settings.model_copy(
        update={"receive": store_settings.receive.model_copy(update={"disk_reserve_bytes": 0})}
    )
    # No process of a node runs here: that it says, and nothing else (tests/integration/test_monitor_node.py has a whole one).
    problems = TestClient(create_app(enough, store)).get("/readyz").json()["problems"]
    assert problems and all("signs of life" in each or "listens" in each for each in problems)
    receive = store_settings.receive.model_copy(update={"disk_reserve_bytes": 2**60})
    full = store_settings.model_copy(update={"receive": receive})
    answer = TestClient(create_app(full, store)).get("/readyz")
    assert answer.status_code == 503
    assert "SPO-001" in answer.text


def test_stages(store: Store) -> None:
    job = fill(store)

    def stage() -> Stage:
        with store.read() as connection:
            (line,) = study_lines(connection, latest(connection))
            assert (line.stage is Stage.NEEDS_SOMEBODY) == (needing_somebody(connection) == [STUDY])
            return line.stage

    def put(table: Any, **values: Any) -> None:
        with store.write() as connection:
            connection.execute(table.update().values(**values))

    assert stage() is Stage.ARRIVING
    put(tables.studies, state="complete")
    assert stage() is Stage.RUNNING
    give_up(store, job)
    assert stage() is Stage.NEEDS_SOMEBODY
    put(tables.jobs, state="done", error_code=None)
    assert stage() is Stage.NOTHING_TO_DO
    with store.write() as connection:
        freeze(connection, [written()], job_id=job)
    put(tables.objects, study_uid=STUDY)
    assert stage() is Stage.SENDING
    put(tables.deliveries, state="dead")
    assert stage() is Stage.NEEDS_SOMEBODY
    put(tables.deliveries, state="committed")
    assert stage() is Stage.DELIVERED
    put(tables.studies, held_reason="two patients")
    assert stage() is Stage.NEEDS_SOMEBODY


def test_pages_of_studies_meet_without_gap_or_double(store: Store) -> None:
    rows = [
        {"study_uid": f"1.{number}", "first_at": 1.0, "last_at": float(number // 3), "evaluated_at": 0.0}
        for number in range(25)
    ]
    with store.write() as connection:
        connection.execute(tables.studies.insert(), rows)
    seen: list[str] = []
    after = ""
    with store.read() as connection:
        while True:
            page = study_page(connection, StudyFilter(), after=after, limit=4)
            seen += [line.study_uid for line in page.lines]
            if not (after := page.following):
                break
    assert len(seen) == 25 and len(set(seen)) == 25


def test_buttons(client: TestClient, store: Store) -> None:
    """Each does what the command does, sends the browser back, and stands in the ledger with who it was."""
    job = fill(store)
    assert press(client, f"/job/{job}/cancel").headers["location"] == f"/study/{STUDY}?said=cancelled#runs"
    assert press(client, f"/job/{job}/cancel").status_code == 409, "there is nothing left to cancel"
    assert press(client, f"/job/{job}/retry").status_code == 303
    assert press(client, f"/study/{STUDY}/hold", reason="wrong side").status_code == 303
    assert "operator: wrong side" in client.get(f"/study/{STUDY}").text
    assert press(client, f"/study/{STUDY}/release").status_code == 303
    assert press(client, "/pauses", scope="all ", reason="maintenance").status_code == 303
    assert "maintenance" in client.get("/system").text
    ending = press(client, "/pauses/end", scope="all", name="", reason="over", backlog="run")
    assert ending.status_code == 303
    assert press(client, "/job/999/retry").status_code == 404
    assert press(client, f"/job/{2**70}/retry").status_code == 409
    done = [each for each in acted(store) if each["kind"] == "person.acted"]
    assert [each["action"] for each in done] == ["cancel", "retry", "hold", "release", "pause", "resume"]
    assert {(each["by"], each["role"], each["via"]) for each in done} == {
        ("the-administrator", "administrator", "console")
    }
    assert done[0]["study_uid"] == STUDY
    assert "asked for: cancel" in client.get(f"/study/{STUDY}").text


def test_replay(client: TestClient, store: Store) -> None:
    job = fill(store)
    with store.write() as connection:
        freeze(connection, [written()], job_id=job)
        connection.execute(tables.objects.update().values(study_uid=STUDY))
        connection.execute(tables.deliveries.update().values(state="dead"))
        number = connection.execute(select(tables.deliveries.c.id)).scalar_one()
    assert "Replay" in client.get(f"/study/{STUDY}").text
    assert press(client, f"/delivery/{number}/replay").headers["location"].endswith("?said=replayed#objects")
    with store.read() as connection:
        assert connection.execute(select(tables.deliveries.c.state)).scalar_one() == "queued"


def test_looking_is_recorded_once(client: TestClient, store: Store) -> None:
    fill(store)
    client.get(f"/study/{STUDY}")
    client.get(f"/study/{STUDY}", headers={"X-Refresh": "1"})
    looks = [each for each in acted(store) if each["kind"] == "person.looked"]
    assert [(each["study"], each["by"]) for each in looks] == [(STUDY, "the-administrator")]


def test_a_viewer_sees_no_buttons(store_settings: Settings, store: Store) -> None:
    job = fill(store)
    give_up(store, job)
    viewer = signed_in(store_settings, store, Role.VIEWER)
    for path in ("/", f"/study/{STUDY}", "/destinations", "/models", "/system"):
        actions = re.findall(r'method="post" action="([^"]+)"', viewer.get(path).text)
        assert set(actions) == {"/logout"}, path
    page = viewer.get(f"/study/{STUDY}").text
    assert "JOB-003" in page and "after the cause is removed" in page, "what to do is told to everybody"


def test_destinations(store_settings: Settings, store: Store) -> None:
    settings = Settings.model_validate(
        {
            **store_settings.model_dump(exclude={"source"}),
            "destination": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}},
        }
    )
    (settings.data_dir / "run").mkdir(exist_ok=True)
    publish(settings.data_dir, {"pacs": GateState("open", time.time() + 30.0, time.time())})
    seg = "1.2.840.10008.5.1.4.1.1.66.4"
    with store.write() as connection:
        capabilities.store(connection, time.time(), "pacs", storage={seg: ["1.2.840.10008.1.2.1"]})
        row = {"scope": str(Scope.DESTINATION), "name": "pacs", "reason": "moving", "by": "ada", "since": 1.0}
        connection.execute(tables.pauses.insert().values(**row))
    client = signed_in(settings, store, Role.OPERATOR)
    page = client.get("/destinations").text
    for words in ("OPEN", "ada: moving", "Segmentation Storage", "Explicit VR Little Endian"):
        assert words in page
    (told,) = client.get("/api/v1/destinations").json()
    assert told["breaker"] == "open" and told["takes"][0]["sop_class_uid"] == seg


def test_audit_search(client: TestClient, store: Store) -> None:
    job = fill(store)
    press(client, f"/job/{job}/cancel")
    assert ">person.acted<" in client.get("/audit").text
    assert ">instance.received<" not in client.get("/audit").text
    assert ">instance.received<" in client.get("/audit?kind=&study=A1").text
    assert ">person.acted<" in client.get("/audit?who=the-administrator&since=1h").text
    assert ">person.acted<" not in client.get("/audit?who=somebody").text
    found = client.get("/api/v1/ledger", params={"kind": "job", "limit": 1}).json()
    assert [row["kind"] for row in found["rows"]] == ["job.cancelled"] and found["before"]
    older = client.get("/api/v1/ledger", params={"kind": "job", "before": found["before"]}).json()
    assert [row["kind"] for row in older["rows"]] == ["job.queued"]


def test_people(client: TestClient, store: Store) -> None:
    assert press(client, "/users", name="Eve", role="viewer", passcode="another long passcode").status_code == 303
    assert press(client, "/users/eve", action="role", role="operator").status_code == 303
    assert press(client, "/users/eve", action="disable").status_code == 303
    assert press(client, "/users", name="x y", role="viewer", passcode="another long passcode").status_code == 422
    assert press(client, "/users", name="bob", role="god", passcode="another long passcode").status_code == 422
    (eve,) = [each for each in client.get("/api/v1/users").json() if each["name"] == "eve"]
    assert eve["role"] == "operator" and eve["disabled"]
    answer = press(client, "/tokens", owner="the-administrator", purpose="scripts", role="viewer", days="3")
    token = re.search(r'id="token">(ainode_[\w-]+)<', answer.text)
    assert token and token.group(1) not in client.get("/users").text, "shown once"


def test_times_name_their_zone(client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        page = client.get("/").text
    finally:
        monkeypatch.undo()
        time.tzset()
    assert re.search(r'<time datetime="[^"]+\+09:00">\d{4}-\d\d-\d\d \d\d:\d\d:\d\d JST</time>', page)
    assert "Asia/Tokyo (JST)" in page


def test_languages(client: TestClient, store: Store) -> None:
    assert '<html lang="ja"' in client.get("/", headers={"Accept-Language": "fr, ja;q=0.8, en;q=0.5"}).text
    assert "要対応" in client.get("/", headers={"Accept-Language": "ja"}).text
    client.get("/preferences?language=ja&theme=dark&back=/")
    page = client.get("/", headers={"Accept-Language": "en"}).text
    assert '<html lang="ja" data-theme="dark"' in page, "the choice is remembered"
    assert best_language("", "ja") == "ja" and best_language("de,en-GB;q=0.3", "ja") == "en"


def test_images_of_a_study_are_one_step_away(client: TestClient, store: Store, store_settings: Settings) -> None:
    fill(store)
    link = f'href="/study/{STUDY}/view"'
    assert link in client.get(f"/study/{STUDY}").text
    off = store_settings.model_copy(update={"dicomweb": DicomWebSection(enabled=False)})
    without = signed_in(off, store, Role.VIEWER)
    assert link not in without.get(f"/study/{STUDY}").text


def test_what_the_viewers_scripts_say_is_in_their_page() -> None:
    folder = Path(__file__).resolve().parents[2] / "node" / "web"
    listed = set(
        re.findall(r't\("([^"]+)"\)', (folder / "templates" / "viewer_words.html").read_text(encoding="utf-8"))
    )
    said = set[str]()
    for file in (folder / "static" / "viewer").glob("*.js"):
        said |= set(re.findall(r"\bsay\('([^']+)'", file.read_text(encoding="utf-8")))
    said |= set(re.findall(r'refusal="([^"]+)"', (folder / "viewer" / "overlays.py").read_text(encoding="utf-8")))
    assert len(said) > 20 and said <= listed


def test_what_to_do_is_said_in_the_readers_language(client: TestClient) -> None:
    errors = {error.code: error.remedy for error in product_errors()}
    asked = {"Accept-Language": "ja"}
    assert remedies("ja")["STO-007"] in client.get("/study/1.2.3.4.5", headers=asked).text
    assert errors["STO-007"] in client.get("/study/1.2.3.4.5", headers={"Accept-Language": "en"}).text.replace(
        "&#39;", "'"
    )
    # Programs read one language.
    assert client.get("/api/v1/studies/1.2.3.4.5", headers=asked).json()["remedy"] == errors["STO-007"]


def test_the_page_of_a_study_says_in_japanese_what_to_do(client: TestClient, store: Store) -> None:
    job = fill(store)
    with store.write() as connection:
        failed = tables.jobs.update().where(tables.jobs.c.id == job)
        connection.execute(failed.values(state="failed", error_code="JOB-001", message="as told"))
    page = client.get(f"/study/{STUDY}", headers={"Accept-Language": "ja"}).text
    assert remedies("ja")["JOB-001"] in page and "Raise deadline_seconds" not in page


def test_every_phrase_is_translated() -> None:
    folder = Path(__file__).resolve().parents[2] / "node" / "web"
    phrases, said = Phrases(), set[str]()
    for file in (folder / "templates").glob("*.html"):
        said |= {
            a or b for a, b in re.findall(r"""\bt\((?:"([^"]*)"|'([^']*)')(?! ~)""", file.read_text(encoding="utf-8"))
        }
    assert len(said) > 150
    assert [phrase for phrase in sorted(said) if not phrases.knows("ja", phrase)] == []
    english = tomllib.loads((folder / "catalogues" / "en.toml").read_text(encoding="utf-8"))["phrases"]
    assert [phrase for phrase in english if not phrases.knows("ja", phrase)] == []
    assert [str(stage) for stage in Stage if not phrases.knows("ja", str(stage))] == []


def test_the_row_of_a_run_shows_how_far_its_text_is(
    client: TestClient, store: Store, store_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    job = fill(store)
    told = {"model": "m", "tokens": 12, "limit": 256, "tokens_per_second": 8.1}
    ProgressBoard(store_settings.data_dir).note(job, told)
    assert "12 of 256" not in client.get(f"/study/{STUDY}").text  # it does not run yet
    assert client.get("/api/v1/jobs").json()[0]["progress"] is None
    with store.write() as connection:
        connection.execute(tables.jobs.update().values(state="running", started_at=time.time() - 60))
    for page in (f"/study/{STUDY}", f"/job/{job}/progress"):
        shown = client.get(page, headers={"X-Refresh": "1"}).text
        assert "12 of 256 tokens, 8.1/s" in " ".join(shown.split()) and f'hx-get="/job/{job}/progress"' in shown
    assert "12 / 256 トークン" in client.get(f"/job/{job}/progress", headers={"Accept-Language": "ja"}).text
    found = client.get("/api/v1/jobs").json()[0]["progress"]
    assert {key: found[key] for key in told} == told
    with store.write() as connection:
        connection.execute(tables.jobs.update().values(state="done", ended_at=time.time()))
    assert client.get(f"/job/{job}/progress").text.strip() == ""
    assert client.get(f"/job/{job + 1}/progress").status_code == 404
