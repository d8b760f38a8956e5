"""One alert for each finding, whatever runs say it; escalation and corrections. On SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from node import kill_switch
from node.archive import tables
from node.archive.engine import Store
from node.archive.pauses import Scope
from node.errors import NotStored, UsageError
from node.notify import alerts, escalation, notification_rows
from node.notify.acknowledgement import Acknowledgement
from node.notify.states import Event
from node.settings import Settings
from tests.notification_scene import ACCESSION, PATIENT_ID, SECRETS, end_run, kinds, receive, rows, summary

pytest_plugins = ["tests.store_fixtures"]


@pytest.fixture
def settings(store_settings: Settings) -> Settings:
    """Three channels that see ever more of the identity, and one rule with a chain."""
    webhook = {"kind": "webhook", "url": "http://127.0.0.1:1/", "secret_file": "/nowhere"}
    content = store_settings.model_dump(exclude={"channel", "notify", "source"})
    content["channel"] = {
        "pager": webhook,
        "board": {**webhook, "identity": "study", "updates": False},
        "ris": {**webhook, "identity": "patient"},
        "senior": webhook,
        "chief": webhook,
    }
    content["notify"] = [
        {
            "name": "big",
            "when": {"volume_ml_over": 1.0, "priority": ["stat", "urgent"]},
            "channels": ["pager", "board", "ris"],
            "priority": "stat",
            "escalate": [
                {"after_seconds": 60, "channels": ["senior"]},
                {"after_seconds": 120, "channels": ["chief"]},
            ],
        }
    ]
    return Settings.model_validate(content)


def _send_all(store: Store, now: float, *channels: str) -> list[tuple[str, str]]:
    """Deliver what is due; (channel, event) in order."""
    done = []
    for channel in channels:
        while True:
            with store.write() as connection:
                claimed = notification_rows.claim(connection, now, channel)
                if claimed is None:
                    break
                notification_rows.delivered(connection, now, claimed.id, "ok")
            done.append((channel, str(claimed.event)))
    return done


def _alert(store: Store) -> Any:
    (alert,) = rows(store, tables.alerts)
    return alert


def test_identity_goes_only_where_it_is_asked_for(store: Store, settings: Settings) -> None:
    receive(store)
    announced = end_run(store, settings, priority=1, now=100.0)
    assert (announced.notifications, announced.priority) == (3, 0)
    assert announced.destinations == {"wide": ["research"]}
    pager, board, ris = rows(store)
    assert pager.content["identity"] == {}
    assert not [secret for secret in SECRETS if secret in repr(pager.content)]
    assert board.content["identity"] == {"study_uid": "1.2.3", "accession_number": ACCESSION}
    assert ris.content["identity"]["patient_id"] == PATIENT_ID
    ledger = repr([row.detail for row in rows(store, tables.ledger)])
    assert not [secret for secret in SECRETS if secret in ledger]
    assert len({row.control_id for row in (pager, board, ris)}) == 3


def test_nothing_is_filed_where_no_rule_holds(store: Store, settings: Settings) -> None:
    announced = end_run(store, settings, found=summary(0.4), now=100.0)
    assert (announced.notifications, announced.destinations) == (0, {})
    assert rows(store) == []
    (skipped,) = [row for row in rows(store, tables.ledger) if row.kind == "notify.skipped"]
    assert any("0.40 mL" in each for each in skipped.detail["explanation"])


def test_one_alert_over_provisional_and_final(store: Store, settings: Settings) -> None:
    receive(store)
    end_run(store, settings, now=100.0)
    assert len(_send_all(store, 101.0, "pager", "board", "ris")) == 3
    end_run(store, settings, run=2, now=200.0)
    assert _send_all(store, 201.0, "pager", "board", "ris") == [], "the same again is nothing new"
    end_run(store, settings, found=summary(30.0), run=3, now=300.0)
    assert _send_all(store, 301.0, "pager", "board", "ris") == [("pager", "update"), ("ris", "update")]
    end_run(store, settings, outcome="not_assessed", found=summary(None), run=4, now=400.0)
    assert _send_all(store, 401.0, "pager", "board", "ris") == [], "who could not look contradicts nobody"
    end_run(store, settings, outcome="nothing_found", found=summary(0.0), run=5, now=500.0)
    told = _send_all(store, 501.0, "pager", "board", "ris")
    assert told == [("pager", "retraction"), ("board", "retraction"), ("ris", "retraction")]
    assert (_alert(store).state, _alert(store).escalate_at) == ("retracted", None)
    end_run(store, settings, run=6, now=600.0)
    assert len(_send_all(store, 601.0, "pager", "board", "ris")) == 3, "found again: told again"
    assert [kind for kind in kinds(store) if kind.startswith("alert.")] == [
        "alert.opened",
        "alert.updated",
        "alert.retracted",
        "alert.opened",
    ]


def test_job_that_looks_at_nothing_takes_nothing_back(store: Store, settings: Settings) -> None:
    end_run(store, settings, now=100.0)
    announced = end_run(store, settings, outcome="nothing_to_retract", found={}, run=2, now=200.0)
    assert announced.notifications == 0
    assert _alert(store).state == "open"


def test_another_rule_of_the_same_study_retracts_nothing(store: Store, settings: Settings) -> None:
    end_run(store, settings, now=100.0)
    end_run(store, settings, outcome="nothing_found", found=summary(0.0), rule="another", now=200.0)
    assert _alert(store).state == "open"


def test_retraction_never_overtakes_and_reaches_who_may_have_heard(store: Store, settings: Settings) -> None:
    end_run(store, settings, now=100.0)
    with store.write() as connection:
        sending = notification_rows.claim(connection, 101.0, "pager")
    assert sending is not None
    end_run(store, settings, outcome="nothing_found", found=summary(0.0), run=2, now=200.0)
    assert [(row.channel, row.event, row.state) for row in rows(store)] == [
        ("pager", "alert", "sending"),
        ("board", "alert", "withdrawn"),
        ("ris", "alert", "withdrawn"),
        ("pager", "retraction", "queued"),
    ]
    assert _send_all(store, 201.0, "pager", "board", "ris") == [], "not before the alert itself is settled"
    with store.write() as connection:
        notification_rows.unknown(connection, 202.0, sending.id, "lost", not_before=202.0)
        notification_rows.withdraw_moot(connection, 203.0)
    assert _send_all(store, 204.0, "pager") == [("pager", "retraction")]


def test_chain_goes_on_until_somebody_acknowledges(store: Store, settings: Settings) -> None:
    end_run(store, settings, now=100.0)
    _send_all(store, 101.0, "pager", "board", "ris")
    with store.write() as connection:
        assert escalation.escalate_due(connection, 159.0, settings) == []
        (step,) = escalation.escalate_due(connection, 160.0, settings)
        assert (step.level, step.channels) == (1, ("senior",))
        assert escalation.escalate_due(connection, 279.0, settings) == []
        (step,) = escalation.escalate_due(connection, 280.0, settings)
        assert step.channels == ("chief",)
    assert _send_all(store, 281.0, "senior") == [("senior", "escalation")]
    token = Acknowledgement(settings.data_dir, "").token(_alert(store).id)
    assert Acknowledgement(settings.data_dir, "").alert_of(token.lower()) == _alert(store).id
    with pytest.raises(UsageError):
        Acknowledgement(settings.data_dir, "").alert_of(token.replace("-", "-A"))
    with store.write() as connection:
        assert alerts.acknowledge(connection, 300.0, _alert(store).id, by="Dr A")
        assert not alerts.acknowledge(connection, 301.0, _alert(store).id, by="Dr B")
        with pytest.raises(NotStored):
            alerts.acknowledge(connection, 301.0, 999, by="Dr B")
        assert escalation.escalate_due(connection, 9999.0, settings) == []
    assert _send_all(store, 302.0, "chief") == [], "who has not been called yet is not called any more"
    assert _alert(store).acknowledged_by == "Dr A"


def test_silence_at_the_end_of_the_chain_is_noticed(store: Store, settings: Settings) -> None:
    end_run(store, settings, now=100.0)
    with store.write() as connection:
        steps = [
            each
            for now in (160.0, 280.0, 399.0, 400.0, 999.0)
            for each in escalation.escalate_due(connection, now, settings)
        ]
    assert [step.channels for step in steps] == [("senior",), ("chief",), ()]
    assert kinds(store)[-1] == "alert.unheard"


def test_dead_letter_escalates_at_once(store: Store, settings: Settings) -> None:
    end_run(store, settings, now=100.0)
    with store.write() as connection:
        claimed = notification_rows.claim(connection, 100.0, "pager")
        assert claimed is not None
        notification_rows.failed(connection, 101.0, claimed.id, message="refused", transient=False, not_before=0.0)
        escalation.unheard(connection, 101.0, _alert(store).id)
    with store.write() as connection:
        (step,) = escalation.escalate_due(connection, 101.0, settings)
    assert step.channels == ("senior",)
    with store.write() as connection:
        assert notification_rows.replay(connection, 102.0, notification_id=claimed.id) == [claimed.id]
        again = notification_rows.claim(connection, 102.0, "pager")
    assert again is not None
    assert (again.control_id, again.content, again.attempt) == (claimed.control_id, claimed.content, 1)


def test_old_identity_never_leaves_after_a_correction(store: Store, settings: Settings) -> None:
    receive(store)
    end_run(store, settings, now=100.0)
    assert _send_all(store, 101.0, "ris") == [("ris", "alert")]
    receive(store, patient_id="CORRECTED", digest="d2")
    assert _send_all(store, 102.0, "pager", "board") == [], "nothing of the superseded run leaves"
    with store.write() as connection:
        assert escalation.escalate_due(connection, 9999.0, settings) == []
        (outdated,) = notification_rows.withdraw_moot(connection, 103.0)
        assert notification_rows.withdraw_moot(connection, 103.0) == []
        assert outdated.channel == "ris"
        with pytest.raises(UsageError, match="corrected"):
            notification_rows.replay(connection, 104.0, notification_id=outdated.id)
    end_run(store, settings, run=2, digest="d2", now=200.0)
    assert _send_all(store, 201.0, "pager", "board", "ris") == [
        ("pager", "alert"),
        ("board", "alert"),
        ("ris", "update"),
    ]
    (update_,) = [row for row in rows(store) if row.channel == "ris" and row.event == Event.UPDATE]
    assert update_.content["identity"]["patient_id"] == "CORRECTED"


def test_retraction_under_another_identity_is_not_sent(store: Store, settings: Settings) -> None:
    receive(store)
    end_run(store, settings, now=100.0)
    _send_all(store, 101.0, "pager", "board", "ris")
    receive(store, patient_id="CORRECTED", digest="d2")
    end_run(store, settings, outcome="nothing_found", found=summary(0.0), run=2, digest="d2", now=200.0)
    assert _send_all(store, 201.0, "pager", "board", "ris") == [("pager", "retraction"), ("board", "retraction")]
    (retracted,) = [row for row in rows(store, tables.ledger) if row.kind == "alert.retracted"]
    assert retracted.detail["another_identity"] == ["ris"]


def test_held_study_is_not_told_about(store: Store, settings: Settings) -> None:
    receive(store)
    end_run(store, settings, now=100.0)
    with store.write() as connection:
        connection.execute(update(tables.studies).values(held_reason="mixed-patients"))
    assert _send_all(store, 101.0, "pager") == []
    with store.write() as connection:
        connection.execute(update(tables.studies).values(held_reason=None))
    assert _send_all(store, 101.0, "pager") == [("pager", "alert")]


def test_paused_run_is_not_told_about_until_it_is_resumed(store: Store, settings: Settings) -> None:
    words = {"reason": "figures are in doubt", "by": "test"}
    end_run(store, settings, now=100.0)
    assert _send_all(store, 100.0, "board") == [("board", "alert")]
    with store.write() as connection:
        claimed = notification_rows.claim(connection, 100.0, "pager")
        assert claimed is not None
        kill_switch.pause(connection, 101.0, Scope.RULE, "infarct", **words)
        assert notification_rows.verdict(connection, claimed) is notification_rows.Verdict.PAUSED
        notification_rows.give_back(connection, 101.0, claimed.id)
        assert escalation.escalate_due(connection, 9999.0, settings) == []
    assert _send_all(store, 102.0, "pager", "ris") == []
    with store.write() as connection:
        kill_switch.resume(connection, 103.0, Scope.RULE, "infarct", run_backlog=True, **words)
    assert _send_all(store, 104.0, "pager") == [("pager", "alert")]
    with store.write() as connection:
        kill_switch.pause(connection, 105.0, Scope.ALL, "", **words)
        kill_switch.resume(connection, 106.0, Scope.ALL, "", run_backlog=False, **words)
    assert _send_all(store, 107.0, "ris") == [], "an operator has discarded it"


def test_what_a_dead_process_left_is_said_again_under_its_name(store: Store, settings: Settings) -> None:
    end_run(store, settings, now=100.0)
    with store.write() as connection:
        first = notification_rows.claim(connection, 101.0, "pager")
    with store.write() as connection:
        assert notification_rows.recover(connection, 102.0, "pager") == 1
        second = notification_rows.claim(connection, 102.0, "pager")
    assert first is not None
    assert second is not None
    assert (second.control_id, second.attempt) == (first.control_id, 2)
