"""The shipped configuration loads, names every key, and equals the defaults it documents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from node import settings
from node.errors import ConfigError

CONFIG = Path(__file__).resolve().parents[3] / "config"


def test_shipped_files_load() -> None:
    loaded = settings.load(CONFIG / "node.toml")
    assert [rule.name for rule in loaded.rule] == ["acute-infarct"]
    assert loaded.destination["pacs"].port == 11113


def test_shipped_defaults_are_the_defaults() -> None:
    loaded = settings.load(CONFIG / "node.toml")
    default = settings.load(None)
    sections = (
        "store",
        "receive",
        "arrival",
        "evidence",
        "priors",
        "reconcile",
        "hl7",
        "jobs",
        "models",
        "remote",
        "delivery",
        "notifications",
        "web",
        "dicomweb",
        "monitor",
        "canary",
        "audit",
        "log",
    )
    for section in sections:
        assert getattr(loaded, section) == getattr(default, section), section
    assert loaded.profile["standard"] == settings.ProfileSection()


@pytest.mark.parametrize(
    ("file", "models"),
    [
        (
            "node.toml",
            [
                settings.NodeSection,
                settings.StoreSection,
                settings.ReceiveSection,
                settings.ReceiveTlsSection,
                settings.DestinationTlsSection,
                settings.PeerRule,
                settings.ArrivalSection,
                settings.EvidenceSection,
                settings.RequestorSection,
                settings.WorklistSection,
                settings.PriorsSection,
                settings.ReconcileSection,
                settings.WatchSection,
                settings.WorkitemsSection,
                settings.RetentionSection,
                settings.Hl7InboundSection,
                settings.ServerTlsSection,
                settings.JobsSection,
                settings.ModelsSection,
                settings.RemoteSection,
                settings.EndpointSection,
                settings.CleanSection,
                settings.DeliverySection,
                settings.WebSection,
                settings.WebTlsSection,
                settings.OidcSection,
                settings.DicomWebSection,
                settings.LogSection,
                settings.MonitorSection,
                settings.CanarySection,
                settings.AuditSection,
                settings.ProfileSection,
                settings.DestinationSection,
                settings.AvailabilitySection,
                settings.OAuthSection,
                settings.SourceSection,
                settings.NotificationsSection,
                settings.WebhookSection,
                settings.EmailSection,
                settings.Hl7Section,
                settings.FhirSection,
            ],
        ),
        (
            "routing.toml",
            [
                settings.RuleSection,
                settings.RuleMatch,
                settings.NotifySection,
                settings.NotifyWhen,
                settings.EscalationSection,
                settings.PromptSection,
            ],
        ),
        (
            "routing.toml",
            [settings.RuleSection, settings.RuleMatch, settings.OrderMatch, settings.RoleSection, settings.ImageMatch],
        ),
    ],
)
def test_every_key_is_documented(file: str, models: list[type[BaseModel]]) -> None:
    text = (CONFIG / file).read_text(encoding="utf-8")
    for model in models:
        for key in model.model_fields:
            assert re.search(rf"^#? ?(\[+[\w.]+\.)?{key}\b", text, re.M), f"{file} does not show {model.__name__}.{key}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[receive]\nprot = 11112\n", ["receive.prot", "not a known key"]),
        ("[receive]\nport = 70000\n", ["receive.port", "65535"]),
        ("[node]\nae_title = 'SEVENTEEN_LETTERS'\n", ["node.ae_title", "16"]),
        ("[receive]\nhost = ", ["TOML"]),
        ("[destination.a]\nae_title='A'\nhost='127.0.0.1'\nport=11112\n", ["own listener"]),
        (
            "[receive]\nhost='0.0.0.0'\n[destination.a]\nae_title='A'\nhost='localhost'\nport=11112\n",
            ["own listener"],
        ),
        ("[destination.a]\nae_title='A'\nhost='h'\nport=1\nprofile='x'\n", ["[profile.x]"]),
        ("[[rule]]\nname='r'\nmodel='m'\ndestinations=['nowhere']\n", ["[destination.nowhere]"]),
        ("[[rule]]\nname='r'\nmodel='m'\n[[rule]]\nname='r'\nmodel='m'\n", ["two rules"]),
        ("[[rule]]\nname='r'\nmodel='m'\nearly=true\n", ["early", "[[rule.role]]"]),
        ("[[rule]]\nname='r'\nmodel='m'\nhours=['8-9']\n", ["hours", "22:00-06:00"]),
        ("[[rule]]\nname='r'\nmodel='m'\n[rule.match.tag]\nPatientName=['*']\n", ["tag.PatientName", "KVP"]),
        ("[[rule]]\nname='r'\nmodel='m'\n[rule.match.order]\npriority=['NOW']\n", ["order.priority", "STAT"]),
        ("[remote.endpoint.a]\nurl='https://h/v1'\nmodel='m'\n", ["endpoint.a.url", "remote.hosts"]),
        ("[remote]\nhosts=['h']\n[remote.endpoint.a]\nurl='http://h/v1'\nmodel='m'\n", ["clear", "https"]),
        ("[arrival]\narchive='x'\n", ["arrival.archive", "[destination.x]"]),
        ("[evidence]\nanswer_commitment=true\n", ["commitment_archive"]),
        ("[[receive.allow]]\naddress='10.0.0.0/99'\n", ["receive.allow.0.address"]),
        ("[reconcile]\narchive='x'\n", ["reconcile.archive", "[destination.x]"]),
        ("[watch.x]\n", ["watch.x", "[destination.x]"]),
        ("[node]\ntime_zone='JST'\n", ["time_zone", "Asia/Tokyo"]),
        ("[hl7]\nenabled=true\nhost='0.0.0.0'\n", ["hl7", "allow"]),
        ("[hl7]\naccession_fields=['accession']\n", ["accession_fields", "OBR-18"]),
        ("[web]\nenabled=true\nport=11112\n", ["web.port"]),
        ("[dicomweb]\norigins=['*']\n", ["dicomweb.origins", "https://viewer.hospital"]),
        ("[dicomweb]\nstore_allow=['all']\n", ["dicomweb.store_allow"]),
        ("[receive]\nplain=false\n", ["receive", "plain", "[receive.tls]"]),
        ("[receive]\nport=2762\n[receive.tls]\nenabled=true\ncertificate='c'\nkey='k'\nca='a'\n", ["tls.port"]),
        ("[receive.tls]\nenabled=true\n", ["receive.tls", "certificate"]),
        ("[receive.tls]\nenabled=true\ncertificate='c'\nkey='k'\n", ["receive.tls", "ca"]),
        ("[receive]\nrequire_user_identity=true\n", ["users"]),
        ("[[receive.allow]]\ncertificate='mr1'\n", ["allow.certificate", "[receive.tls]"]),
        ("[destination.a]\nae_title='A'\nhost='h'\nport=1\npasscode_file='p'\n", ["destination.a", "username"]),
        ("[destination.a]\nae_title='A'\nhost='h'\nport=1\n[destination.a.tls]\nkey='k'\n", ["destination.a.tls"]),
        ("[destination.a]\nae_title='A'\n", ["destination.a", "all three"]),
        ("[destination.a]\nurl='http://h/dicom-web'\nhost='h'\n", ["destination.a", "name one"]),
        ("[destination.a]\nurl='http://u:p@h/'\n", ["destination.a", "passcode_file"]),
        ("[destination.a]\nurl='http://h/'\nusername='u'\npasscode_file='p'\n", ["destination.a", "in the clear"]),
        ("[destination.a]\nurl='http://h/'\n[destination.a.tls]\nca='c'\n", ["destination.a", "https://"]),
        ("[profile.r]\nanonymous=true\n", ["profile.r", "cannot be made anonymous"]),
        ("[profile.r]\nimages=true\n", ["profile.r", "anonymous = true"]),
        ("[channel.a]\nkind='hl7'\nhost='h'\n", ["channel.a", "filed nowhere"]),
        ("[channel.a]\nkind='pigeon'\n", ["channel.a", "pigeon"]),
        ("[channel.a]\nkind='email'\nhost='h'\nsender='a'\nrecipients=['b@c']\n", ["channel.a", "not an address"]),
        ("[[notify]]\nname='n'\nchannels=['c']\n[notify.when]\noutcome=['found']\n", ["[channel.c]"]),
        ("[[notify]]\nname='n'\npriority='stat'\n[notify.when]\n", ["notify.0.when", "no condition"]),
        ("[[notify]]\nname='n'\n[notify.when]\noutcome=['found']\n", ["notify.0", "does nothing"]),
        ("[monitor]\nchannels=['x']\n", ["monitor.channels", "[channel.x]"]),
        ("[monitor]\ndigest_at='7am'\n", ["digest_at", "07:00"]),
        ("[canary]\nenabled=true\nport=11112\n", ["canary.port"]),
        ("[canary]\nenabled=true\ninterval_seconds=5\n", ["canary", "limit_seconds"]),
        ("[canary]\nenabled=true\n[[rule]]\nname='canary'\nmodel='m'\n", ["rule.canary", "canary's own"]),
        ("[audit]\nenabled=true\n", ["audit", "host"]),
        ("[web_source.a]\nurl='ftp://h/'\n", ["web_source.a", "https://"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "node.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        settings.load(path)
    for part in [*expected, str(path)]:
        assert part in str(caught.value)


def test_files_count_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(
        "[receive]\nusers = 'users'\n[receive.tls]\nenabled = true\ncertificate = 'tls/c.pem'\nkey = '/k.pem'\nca = 'ca.pem'\n"
        "[destination.a]\nae_title = 'A'\nhost = 'h'\nport = 1\n[destination.a.tls]\nca = 'tls/ca.pem'\n"
    )
    loaded = settings.load(tmp_path / "node.toml")
    assert loaded.receive.users == tmp_path / "users"
    assert loaded.receive.tls.certificate == tmp_path / "tls" / "c.pem"
    assert loaded.receive.tls.key == Path("/k.pem")
    tls = loaded.destination["a"].tls
    assert tls is not None
    assert tls.ca == tmp_path / "tls" / "ca.pem"
    assert settings.load(None).receive_addresses == [("127.0.0.1", 11112)]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        settings.load(tmp_path / "absent.toml")


def test_rules_in_two_files_clash(tmp_path: Path) -> None:
    rule = "[[rule]]\nname='r'\nmodel='m'\n"
    (tmp_path / "node.toml").write_text(rule)
    (tmp_path / "routing.toml").write_text(rule)
    with pytest.raises(ConfigError, match="one file"):
        settings.load(tmp_path / "node.toml")


def test_relative_data_dir_counts_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("[node]\ndata_dir = 'data'\n")
    assert settings.load(tmp_path / "node.toml").data_dir == tmp_path / "data"
