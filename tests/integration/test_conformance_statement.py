"""The conformance statement against the running receiver: every context claimed is accepted, one not claimed is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from node.conformance.blocks import Grid, as_html, as_markdown
from node.conformance.statement import statement
from node.dicom import claims
from node.dicom.association import ClientAssociation, Proposal
from node.errors import NoPresentationContext
from node.settings import load
from tests.network import Node, running_node

_UID = re.compile(r"1\.2\.840\.10008[0-9.]+")
# Services this product does not offer.
UNCLAIMED = (
    "1.2.840.10008.5.1.4.1.2.2.1",  # Study Root Query/Retrieve FIND
    "1.2.840.10008.5.1.4.1.2.1.2",  # Patient Root Query/Retrieve MOVE
    "1.2.840.10008.5.1.1.9",  # Basic Grayscale Print Management
    "1.2.840.10008.5.1.4.34.6.1",  # Unified Procedure Step Push
    "1.2.840.10008.5.1.4.31",  # Modality Worklist
    "1.2.840.10008.1.20.2",  # Storage Commitment Pull
    "1.2.840.10008.5.1.4.32.1",  # General Purpose Worklist
    "1.2.840.10008.10.1",  # Video Endoscopic Image Real-Time Communication
)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Node]]:
    """One with every service, one with as few as can be."""
    few = {"evidence": {"performed_steps": False, "notifications": False}}
    with (
        running_node(tmp_path_factory.mktemp("all")) as everything,
        running_node(tmp_path_factory.mktemp("few"), **few) as little,
    ):
        yield {"all": everything, "few": little}


def _accepted(node: Node, proposals: Sequence[Proposal]) -> set[tuple[str, str]]:
    """(SOP class, transfer syntax) of what a node accepts, asked one by one."""
    found: set[tuple[str, str]] = set()
    for at in range(0, len(proposals), 128):
        try:
            with ClientAssociation(node.peer(), proposals[at : at + 128]) as association:
                found |= set(association.accepted)
        except NoPresentationContext:
            continue
    return found


def _tables(node: Node) -> dict[str, Grid]:
    """The statement's tables by the heading above them."""
    found: dict[str, Grid] = {}
    heading = ""
    for block in statement(node.settings):
        if isinstance(block, Grid):
            found.setdefault(heading, block)
        else:
            heading = block.text if hasattr(block, "level") else heading
    return found


@pytest.mark.parametrize("name", ["all", "few"])
def test_services_are_as_stated(nodes: dict[str, Node], name: str) -> None:
    node = nodes[name]
    stated = _tables(node)["3.2 Accepted presentation contexts"].rows[1:]
    uids = {row[1] for row in stated}
    assert ("1.2.840.10008.3.1.2.3.3" in uids) == (name == "all")
    claimed = claims.accepted_services(node.settings)
    assert uids == {each.sop_class_uid for each in claimed}
    pairs = [(each.sop_class_uid, syntax) for each in claimed for syntax in each.transfer_syntaxes]
    assert _accepted(node, [Proposal(uid, (syntax,)) for uid, syntax in pairs]) == set(pairs)
    refused = [*UNCLAIMED, *({"1.2.840.10008.3.1.2.3.3", "1.2.840.10008.5.1.4.33"} - uids)]
    assert _accepted(node, [Proposal(uid) for uid in refused]) == set()


def test_storage_is_as_stated(nodes: dict[str, Node]) -> None:
    node = nodes["all"]
    classes, syntaxes = claims.accepted_storage()
    stated = {row[1] for row in _tables(node)["A.1 Storage SOP classes accepted"].rows[1:]}
    assert stated == set(classes) and len(classes) > 150 and len(syntaxes) > 25
    pairs = [(uid, syntaxes[0]) for uid in classes]
    # Each transfer syntax with one class, each class with one transfer syntax.
    pairs += [(classes[0], syntax) for syntax in syntaxes[1:]]
    private = [("1.3.12.2.1107.5.9.1", syntaxes[0]), (classes[0], "1.2.3.4.5.6")]
    wanted = [*pairs, *private]
    assert _accepted(node, [Proposal(uid, (syntax,)) for uid, syntax in wanted]) == set(wanted)


def test_preferred_syntax_is_as_stated(nodes: dict[str, Node]) -> None:
    implicit, explicit = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
    proposal = Proposal("1.2.840.10008.5.1.4.1.1.4", (implicit, explicit))
    with ClientAssociation(nodes["all"].peer(), [proposal]) as association:
        assert association.accepted == (("1.2.840.10008.5.1.4.1.1.4", explicit),)


def test_three_forms_say_the_same(tmp_path: Path) -> None:
    from node.conformance.pdf import as_pdf

    settings = load(Path(__file__).resolve().parents[2] / "config" / "node.toml")
    blocks = statement(settings)
    markdown, page = as_markdown(blocks), as_html(blocks)
    (tmp_path / "s.pdf").write_bytes(as_pdf(blocks))
    text = "".join(each.extract_text() for each in PdfReader(tmp_path / "s.pdf").pages)
    uids = set(_UID.findall(markdown))
    assert len(uids) > 150
    assert uids == set(_UID.findall(page))
    assert {each for each in uids if each not in text.replace("\n", "")} == set()
    assert "pacs" in text and "127.0.0.1:11113" in markdown


@pytest.mark.parametrize(
    ("sections", "expected", "unexpected"),
    [
        ({}, [], ["Modality Worklist", "STOW-RS", "MOVE"]),
        ({"worklist": {"ris": {"ae_title": "RIS", "host": "h", "port": 1}}}, ["Modality Worklist"], ["MOVE"]),
        (
            {"workitems": {"ris": {"ae_title": "RIS", "host": "h", "port": 1, "station_names": ["A"]}}},
            ["Unified Procedure Step - Pull", "Unified Procedure Step - Watch", "Unified Procedure Step - Event"],
            ["MOVE"],
        ),
        (
            {"workitems": {"ris": {"url": "https://ris.test", "station_names": ["A"]}}},
            ["UPS-RS"],
            ["Unified Procedure Step - Pull", "Unified Procedure Step - Event"],
        ),
        ({"destination": {"cloud": {"url": "https://h/dicom-web"}}}, ["STOW-RS"], []),
        (
            {"destination": {"pacs": {"ae_title": "P", "host": "h", "port": 1}}, "priors": {"archive": "pacs"}},
            ["Information Model - MOVE", "Information Model - GET"],
            ["STOW-RS"],
        ),
        ({"audit": {"enabled": True, "host": "h"}}, ["PS3.15 A.5 over syslog tls"], ["local ledger only"]),
    ],
)
def test_it_follows_the_configuration(sections: dict[str, Any], expected: list[str], unexpected: list[str]) -> None:
    from node.settings import Settings

    text = as_markdown(statement(Settings.model_validate(sections)))
    assert [each for each in expected if each not in text] == []
    assert [each for each in unexpected if each in text] == []
