"""Days left of peers' certificates: of those that call us, and of those we call."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from node.dicom.association import ClientAssociation, Proposal
from node.metrics.surroundings import surroundings
from node.monitor.certificates import peer_dates, shown_dates
from node.settings import DestinationTlsSection, Settings
from tests.network import running_node
from tests.peers import free_port
from tests.tls_certificates import Authority

DAY = 86400.0


@pytest.mark.parametrize("minimum_version", ["1.2", "1.3"])
def test_both_directions_are_known(tmp_path: Path, minimum_version: str) -> None:
    authority = Authority(tmp_path, "ca")
    own, modality = authority.issue("node", days=9), authority.issue("mr1", days=5)
    receive: dict[str, Any] = {"tls": own.listener(port=free_port(), minimum_version=minimum_version), "plain": False}
    with running_node(tmp_path / "node", receive=receive) as node:
        tls = DestinationTlsSection.model_validate(modality.client(server_name="localhost"))
        with ClientAssociation(node.peer(tls=tls, calling_ae_title="MR 1"), [Proposal("1.2.840.10008.1.1")]):
            pass
        (inbound,) = shown_dates(node.settings)
        assert inbound.name == "peer MR 1" and inbound.expires_at == pytest.approx(time.time() + 5 * DAY, abs=300)
        page = {
            sample.labels["certificate"]: sample.value
            for family in surroundings(node.settings)
            if family.name == "ainode_certificate_days"
            for sample in family.samples
        }
        assert page["peer MR 1"] == pytest.approx(5, abs=0.1)
        assert page["receive.tls.certificate"] == pytest.approx(9, abs=0.1)
        # As a destination, seen from another node; without a client certificate of its own, too.
        for client in (modality.client(server_name="localhost"), {"ca": str(authority.ca)}):
            pacs = {"ae_title": "A", "host": "127.0.0.1", "port": node.port, "tls": client}
            other = Settings.model_validate({"destination": {"pacs": pacs}})
            found = peer_dates(other)
            if found or "certificate" in client:
                (outbound,) = found
                assert outbound.name == "peer destination.pacs"
                assert outbound.expires_at == pytest.approx(time.time() + 9 * DAY, abs=300)
