"""The allow-list as a function."""

from __future__ import annotations

import pytest

from node.dicom.access import AccessList, Refusal
from node.dicom.connection import plain_address
from node.settings import PeerRule

RULES = [
    PeerRule(ae_title="CT1", address="10.1.0.0/16"),
    PeerRule(ae_title="*", address="10.2.3.4/32", called_ae_titles=["STROKE"]),
    PeerRule(ae_title="V6", address="2001:db8::/32"),
]
ACCESS = AccessList(RULES, ["AINODE", "STROKE"])


@pytest.mark.parametrize(
    ("calling", "called", "address", "expected"),
    [
        ("CT1", "AINODE", "10.1.2.3", None),
        (" CT1 ", " AINODE  ", "10.1.2.3", None),
        ("ct1", "AINODE", "10.1.2.3", Refusal.CALLING_TITLE),
        ("CT1", "OTHER", "10.1.2.3", Refusal.CALLED_TITLE),
        ("CT2", "AINODE", "10.1.2.3", Refusal.CALLING_TITLE),
        ("CT1", "AINODE", "10.2.2.3", Refusal.ADDRESS),
        ("ANY", "STROKE", "10.2.3.4", None),
        ("ANY", "AINODE", "10.2.3.4", Refusal.CALLED_TITLE),
        ("V6", "AINODE", "2001:db8::1", None),
        ("V6", "AINODE", "10.1.2.3", Refusal.CALLING_TITLE),
    ],
)
def test_refusal(calling: str, called: str, address: str, expected: Refusal | None) -> None:
    assert ACCESS.refusal(calling_ae_title=calling, called_ae_title=called, address=address) is expected


@pytest.mark.parametrize(
    ("names", "calling", "expected"),
    [
        (("MR1.hospital",), "MR1", None),
        (("other", "mr1.HOSPITAL"), "MR1", None),
        (("mr2.hospital",), "MR1", Refusal.CERTIFICATE),
        ((), "MR1", Refusal.CERTIFICATE),
        (("anything.else",), "MR2", Refusal.CALLING_TITLE),
        ((), "CT1", None),
    ],
)
def test_certificate(names: tuple[str, ...], calling: str, expected: Refusal | None) -> None:
    rules = [PeerRule(ae_title="MR1", certificate="mr1.*"), PeerRule(ae_title="CT1")]
    access = AccessList(rules, ["AINODE"])
    refusal = access.refusal(
        calling_ae_title=calling, called_ae_title="AINODE", address="127.0.0.1", certificate_names=names
    )
    assert refusal is expected


def test_no_rule_lets_nobody_in() -> None:
    empty = AccessList([], ["AINODE"])
    assert empty.refusal(calling_ae_title="A", called_ae_title="AINODE", address="127.0.0.1") is Refusal.ADDRESS


@pytest.mark.parametrize(
    ("given", "plain"), [("::ffff:10.1.2.3", "10.1.2.3"), ("fe80::1%eth0", "fe80::1"), ("10.0.0.1", "10.0.0.1")]
)
def test_plain_address(given: str, plain: str) -> None:
    assert plain_address(given) == plain
