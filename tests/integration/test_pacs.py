"""The test PACS against DCMTK, and our own clients against it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from node.archive.spool import dataset_digest
from node.dicom import query
from node.dicom.association import ClientAssociation, Peer
from node.dicom.pacs import TestPacs
from node.dicom.query import FIND_PROPOSAL, find_instances
from node.dicom.storage_scu import Sent, send_paths
from node.dicom.verify_peer import verify_peer
from node.errors import PeerBusy, PeerUnreachable
from tests.network import instance, run_tool, uid
from tests.peers import free_port


def peer(host: str, port: int) -> Peer:
    return Peer(ae_title="TESTPACS", host=host, port=port, calling_ae_title="NODE", response_timeout_seconds=5)


def test_stores_as_received_and_survives_a_restart(tmp_path: Path) -> None:
    files = [instance(tmp_path / "in", number) for number in range(3)]
    pacs = TestPacs(tmp_path / "pacs")
    with pacs.running() as address:
        assert send_paths(peer(*address), files).complete
        assert {dataset_digest(path) for path in pacs.objects.values()} == set(map(dataset_digest, files))
    again = TestPacs(tmp_path / "pacs")
    with again.running() as address:
        assert again.objects.keys() == pacs.objects.keys()
        assert send_paths(peer(*address), files).complete
    assert again.conflicts == []


def test_other_bytes_under_a_known_uid_are_refused(tmp_path: Path) -> None:
    pacs = TestPacs(tmp_path / "pacs")
    with pacs.running() as address:
        assert send_paths(peer(*address), [instance(tmp_path / "a")]).complete
        summary = send_paths(peer(*address), [instance(tmp_path / "b", Rows=8)])
        assert [report.outcome for report in summary.reports] == [Sent.REFUSED]
        assert pacs.conflicts == [uid("s", "instance", 0)]


@pytest.mark.peer
def test_findscu_at_every_level(tmp_path: Path) -> None:
    files = [instance(tmp_path / "in", k, study=study) for study in ("one", "two") for k in range(2)]
    with TestPacs(tmp_path / "pacs").running() as (host, port):
        assert send_paths(peer(host, port), files).complete
        for level, key, expected in (
            ("STUDY", "StudyInstanceUID", 2),
            ("SERIES", f"StudyInstanceUID={uid('one')}", 1),
            ("IMAGE", f"StudyInstanceUID={uid('one')}", 2),
        ):
            done = run_tool(
                "findscu", "-v", "-S", "-k", f"QueryRetrieveLevel={level}", "-k", key, "-k", "PatientID=P-*", host, port
            )
            assert done.returncode == 0, done.stdout
            assert done.stdout.count("(Pending)") == expected, done.stdout


def test_matches_without_end_end_the_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "_MOST_MATCHES", 2)
    files = [instance(tmp_path / "in", number, study=str(number)) for number in range(4)]
    every = Dataset()
    every.QueryRetrieveLevel = "STUDY"
    every.StudyInstanceUID = ""
    with TestPacs(tmp_path / "pacs").running() as address:
        assert send_paths(peer(*address), files).complete
        with (
            ClientAssociation(peer(*address), [FIND_PROPOSAL]) as association,
            pytest.raises(PeerBusy, match="more than 2 matches"),
        ):
            query.find(association, every)
        # The next one is asked as if nothing had been.
        with ClientAssociation(peer(*address), [FIND_PROPOSAL]) as association:
            assert len(query.find(association, every, limit=1)) == 2


def test_find_instances(tmp_path: Path) -> None:
    files = [instance(tmp_path / "in", number) for number in range(3)]
    wanted = [uid("s", "instance", number) for number in range(3)]
    with TestPacs(tmp_path / "pacs").running() as address:
        assert send_paths(peer(*address), files[:2]).complete
        with ClientAssociation(peer(*address), [FIND_PROPOSAL]) as association:
            found = find_instances(
                association, study_uid=uid("s"), series_uid=uid("s", "series"), sop_instance_uids=wanted
            )
        assert found == set(wanted[:2])


def test_verify_peer_tells_what_is_accepted(tmp_path: Path) -> None:
    with TestPacs(tmp_path / "pacs").running() as address:
        report = verify_peer(peer(*address))
    assert report.echo_status == 0x0000
    assert report.echo_seconds is not None
    assert report.echo_seconds < 1
    assert all(context.transfer_syntax for context in report.contexts)


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(PeerUnreachable, match="no connection"):
        verify_peer(peer("127.0.0.1", free_port()))
    with pytest.raises(PeerUnreachable, match="cannot be resolved"):
        verify_peer(peer("no-such-host.invalid", 104))


def test_more_contexts_than_one_association_carries(tmp_path: Path) -> None:
    files = [
        instance(tmp_path / "in", number, sop_class=f"1.3.6.1.4.1.99999.{number}", pixels=b"\0\0")
        for number in range(140)
    ]
    pacs = TestPacs(tmp_path / "pacs")
    with pacs.running() as address:
        assert send_paths(peer(*address), files).complete
        assert len(pacs.objects) == 140


def test_a_file_without_group_length_can_be_sent(tmp_path: Path) -> None:
    """Older archives write such files; PS3.10 7.1 forbids it."""
    file = instance(tmp_path / "in")
    content = file.read_bytes()
    file.write_bytes(content[:132] + content[144:])
    pacs = TestPacs(tmp_path / "pacs")
    with pacs.running() as address:
        assert send_paths(peer(*address), [file]).complete
        (stored,) = pacs.objects.values()
        assert stored.read_bytes().endswith(content[-500:])
