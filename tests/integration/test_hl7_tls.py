"""HL7 v2 over TLS: who is let in, who is not and is audited, and that the listener lives."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from node.archive import tables
from node.hl7.inbox import Inbox
from node.hl7.listener import Listener, tls_gate
from node.settings import Hl7InboundSection
from tests.hl7_messages import Client, merge, patient
from tests.network import Node, running_node, wait_for
from tests.tls_certificates import Authority, Certificate

MERGE = merge("TEMP-1", patient("REAL-1"))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("hospital"), "hospital")


@pytest.fixture(scope="module")
def own(hospital: Authority) -> Certificate:
    return hospital.issue("node")


@contextmanager
def listening(folder: Path, own: Certificate, **tls: Any) -> Iterator[tuple[Node, tuple[str, int]]]:
    with running_node(folder) as node:
        section = Hl7InboundSection.model_validate({"enabled": True, "tls": {**own.listener(), **tls}})
        inbox = Inbox(section, node.store, node.settings.data_dir / "run")
        listener = Listener(section, inbox.take, tls_gate(section, node.store))
        try:
            yield node, listener.start(0)
        finally:
            listener.stop()


def _as(certificate: Certificate | None, ca: Path, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    context.minimum_version = context.maximum_version = version
    if version < ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("ALL:@SECLEVEL=0")
    if certificate is not None:
        context.load_cert_chain(certificate.certificate, certificate.key)
    return context


def _say(address: tuple[str, int], context: ssl.SSLContext | None) -> str:
    """The acknowledgement's code."""
    with Client(*address) as client:
        if context is not None:
            client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
        return client.send(MERGE)[1][1]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_ris_with_a_certificate_is_served(
    tmp_path: Path, hospital: Authority, own: Certificate, version: ssl.TLSVersion
) -> None:
    with listening(tmp_path, own) as (_, address):
        assert _say(address, _as(hospital.issue("ris"), own.ca, version)) == "AA"


def test_others_are_refused_audited_and_the_listener_lives(
    tmp_path: Path, hospital: Authority, own: Certificate
) -> None:
    stranger = Authority(tmp_path, "elsewhere").issue("ris")
    with listening(tmp_path, own) as (node, address):
        attempts = [
            None,
            _as(None, own.ca),
            _as(stranger, own.ca),
            _as(hospital.issue("old", days=-1), own.ca),
            _as(hospital.issue("ris"), own.ca, ssl.TLSVersion.TLSv1_1),
        ]
        for context in attempts:
            with pytest.raises(OSError):
                _say(address, context)
        wait_for(lambda: len(_refusals(node)) == len(attempts), "a row for each refusal")
        assert set(_refusals(node)) == {
            "no TLS",
            "no certificate",
            "certificate not from a trusted authority",
            "certificate expired",
            "TLS version too old",
        }
        assert node.rows(tables.patient_changes) == []
        assert _say(address, _as(hospital.issue("ris"), own.ca)) == "AA"
        assert len(node.rows(tables.patient_changes)) == 1


def test_without_client_certificates_where_the_site_says_so(tmp_path: Path, own: Certificate) -> None:
    with listening(tmp_path, own, require_client_certificate=False) as (_, address):
        assert _say(address, _as(None, own.ca)) == "AA"


def _refusals(node: Node) -> list[str]:
    rows = [row for row in node.rows(tables.ledger) if row.kind == "tls.refused"]
    assert all(row.detail["service"] == "HL7" for row in rows)
    return [row.detail["reason"] for row in rows]
