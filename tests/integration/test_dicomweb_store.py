"""STOW-RS into this node: the same spool, checks and answers as C-STORE."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from dicomweb_client import DICOMwebClient
from pydicom import dcmread

from node.archive import tables
from node.archive.part10 import dataset_offset
from node.dicom.storage_scu import read_object_file
from node.dicomweb import stow
from node.dicomweb.web_client import WebClient, WebPeer
from tests.network import Node, instance, running_node, uid
from tests.web_scene import receive, running_web

FAILED, STORED, OTHERS, REASON = "00081198", "00081199", "0008119A", "00081197"


@pytest.fixture
def taking(tmp_path: Path) -> Iterator[tuple[Node, str]]:
    """A node that takes objects."""
    with (
        running_node(tmp_path / "node", dicomweb={"store": True}) as node,
        running_web(node.settings, node.store) as url,
    ):
        yield node, f"{url}/dicom-web"


def body(*contents: bytes, kind: str = "application/dicom") -> bytes:
    made = b"".join(b"--b\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + each + b"\r\n" for each in contents)
    return made + b"--b--\r\n"


def post(url: str, content: Any, *, path: str = "/studies", kind: str = "application/dicom", **headers: str) -> Any:
    named = {"Content-Type": f'multipart/related; type="{kind}"; boundary=b', **headers}
    return httpx.post(url + path, content=content, headers=named, timeout=60)


def reasons(answer: httpx.Response) -> dict[str, int]:
    items = answer.json().get(FAILED, {}).get("Value", [])
    return {item["00081155"]["Value"][0]: item[REASON]["Value"][0] for item in items}


def stored(answer: httpx.Response) -> list[str]:
    return [item["00081155"]["Value"][0] for item in answer.json().get(STORED, {}).get("Value", [])]


def test_objects_are_filed_as_by_c_store(taking: tuple[Node, str], tmp_path: Path) -> None:
    node, url = taking
    files = [instance(tmp_path, number, study="s") for number in range(3)]
    answer = post(url, body(*(file.read_bytes() for file in files)))
    assert answer.status_code == 200 and len(stored(answer)) == 3
    assert answer.json()[STORED]["Value"][0]["00081190"]["Value"][0].startswith(f"{url}/studies/{uid('s')}/series/")
    given = {file.read_bytes()[dataset_offset(file) :] for file in files}
    assert {file.read_bytes()[dataset_offset(file) :] for file in node.files()} == given
    rows = node.rows(tables.instances)
    assert {(row.calling_ae_title, row.called_ae_title, row.active) for row in rows} == {("STOW-RS", "AINODE", True)}
    (study,) = node.rows(tables.studies)
    assert study.due_at is not None, "the study is looked at"
    (association,) = node.rows(tables.associations)
    assert association.ending == "released" and association.address == "127.0.0.1"
    again = post(url, body(files[0].read_bytes()), path=f"/studies/{uid('s')}")
    assert again.status_code == 200 and len(node.files()) == 3
    assert again.json()["00081190"]["Value"] == [f"{url}/studies/{uid('s')}"]
    assert node.ledger("instance.duplicate")


def test_public_clients_store_and_read_back(taking: tuple[Node, str], tmp_path: Path) -> None:
    """dicomweb-client, and this node's own client towards itself."""
    node, url = taking
    files = [instance(tmp_path, number, study="p") for number in range(2)]
    client = DICOMwebClient(url)
    client.store_instances([dcmread(files[0])])
    (read,) = client.retrieve_study(uid("p"))
    assert read == dcmread(files[0])
    with WebClient(WebPeer(url=url)) as ours:
        assert stow.store(ours, read_object_file(files[1]), study_uid=uid("p")).status == 0
    assert len(node.files()) == 2


def test_each_object_has_its_own_answer(taking: tuple[Node, str], tmp_path: Path) -> None:
    node, url = taking
    good, other = instance(tmp_path, 0, study="g"), instance(tmp_path, 0, study="h")
    lying = tmp_path / "lying.dcm"
    lying.write_bytes(other.read_bytes()[: dataset_offset(other)] + good.read_bytes()[dataset_offset(good) :])
    some = post(url, body(b"no dicom", good.read_bytes(), lying.read_bytes(), good.read_bytes()[:200]))
    assert some.status_code == 202 and stored(some) == [uid("g", "instance", 0)]
    assert reasons(some)[uid("h", "instance", 0)] == 0xA900
    assert some.json()[OTHERS]["Value"]
    wrong = post(url, body(other.read_bytes()), path=f"/studies/{uid('g')}")
    assert wrong.status_code == 409 and reasons(wrong) == {uid("h", "instance", 0): 0xA900}
    assert len(node.files()) == 1
    assert [path for path in (node.settings.data_dir / "spool").rglob("*.part")] == []


def test_another_content_and_a_correction(taking: tuple[Node, str], tmp_path: Path) -> None:
    """What C-STORE makes of them: the first copy counts; a corrected identity takes its place."""
    node, url = taking
    receive(node, [instance(tmp_path / "a", 0, study="x", PatientID="OLD")])
    conflicting = instance(tmp_path / "b", 0, study="x", PatientID="OLD", pixels=b"\1" * 512)
    assert post(url, body(conflicting.read_bytes())).status_code == 200
    assert node.ledger("instance.conflict") and len(node.files()) == 2
    corrected = instance(tmp_path / "c", 0, study="x", PatientID="NEW")
    assert post(url, body(corrected.read_bytes())).status_code == 200
    assert [row.patient_id for row in node.rows(tables.instances, tables.instances.c.active)] == ["NEW"]


def test_limits_hold(tmp_path: Path) -> None:
    file = instance(tmp_path, 0, study="l", pixels=bytes(100_000))
    small = instance(tmp_path, 1, study="l")
    receive_limits = {"maximum_object_bytes": 50_000}
    with running_node(tmp_path / "node", dicomweb={"store": True}, receive=receive_limits) as node:
        with running_web(node.settings, node.store) as url:
            answer = post(f"{url}/dicom-web", body(file.read_bytes(), small.read_bytes()))
            assert answer.status_code == 202 and reasons(answer) == {uid("l", "instance", 0): 0xC000}
            assert stored(answer) == [uid("l", "instance", 1)]
        full = node.settings.receive.model_copy(update={"disk_reserve_bytes": 1 << 60})
        with running_web(node.settings.model_copy(update={"receive": full}), node.store) as url:
            answer = post(f"{url}/dicom-web", body(small.read_bytes()))
            assert answer.status_code == 409 and reasons(answer) == {uid("l", "instance", 1): 0xA700}


def test_large_objects_are_streamed(taking: tuple[Node, str], tmp_path: Path) -> None:
    """The body comes in pieces of any size; nothing of it is needed at once."""
    node, url = taking
    file = instance(tmp_path, 0, study="big", pixels=bytes(24 << 20))
    whole = body(file.read_bytes())

    def pieces() -> Iterator[bytes]:
        at, size = 0, 1
        while at < len(whole):
            yield whole[at : at + size]
            at, size = at + size, min(size * 3 + 1, 1 << 20)

    assert post(url, pieces()).status_code == 200
    assert node.files()[0].stat().st_size > 24 << 20


@pytest.mark.parametrize("cut", [10, 200, -20])
def test_body_that_ends_early_keeps_what_was_whole(taking: tuple[Node, str], tmp_path: Path, cut: int) -> None:
    node, url = taking
    whole = body(*(instance(tmp_path, number, study="e").read_bytes() for number in range(2)))
    answer = post(url, whole[:cut] if cut > 0 else whole[: len(whole) + cut])
    assert answer.status_code == 400
    assert len(node.files()) == (1 if cut < 0 else 0)
    assert [path for path in (node.settings.data_dir / "spool").rglob("*.part")] == []


def test_media_types(taking: tuple[Node, str], tmp_path: Path) -> None:
    _, url = taking
    content = instance(tmp_path, 0, study="t").read_bytes()
    for kind in ("application/dicom", "application/json", "text/plain"):
        answer = httpx.post(f"{url}/studies", content=content, headers={"Content-Type": kind})
        assert answer.status_code == 415, kind
    assert post(url, body(content), kind="application/dicom+json").status_code == 415
    assert post(url, body(content), Accept="text/html").status_code == 406
    none = httpx.post(
        f"{url}/studies", content=body(content), headers={"Content-Type": 'multipart/related; type="application/dicom"'}
    )
    assert none.status_code == 400
    assert post(url, body(content), path="/studies/not-a-uid").status_code == 400
    parts = post(url, body(content, kind="image/jpeg"))
    assert parts.status_code == 409 and parts.json()[OTHERS]["Value"]


def test_only_who_may_stores_and_only_where_switched_on(tmp_path: Path) -> None:
    content = body(instance(tmp_path, 0, study="n").read_bytes())
    with running_node(tmp_path / "node", dicomweb={"store": True, "store_allow": ["10.0.0.0/8"]}) as node:
        with running_web(node.settings, node.store) as url:
            assert post(f"{url}/dicom-web", content).status_code == 403
        off = node.settings.model_copy(update={"dicomweb": node.settings.dicomweb.model_copy(update={"store": False})})
        with running_web(off, node.store) as url:
            assert post(f"{url}/dicom-web", content).status_code == 405
        assert node.files() == []


def test_association_mode_answers_when_it_is_durable(tmp_path: Path) -> None:
    files = [instance(tmp_path, number, study="m") for number in range(20)]
    mode = {"mode": "association"}
    with (
        running_node(tmp_path / "node", dicomweb={"store": True}, receive=mode) as node,
        running_web(node.settings, node.store) as url,
    ):
        began = time.monotonic()
        answer = post(f"{url}/dicom-web", body(*(file.read_bytes() for file in files)))
        assert answer.status_code == 200 and time.monotonic() - began < 10
        assert len(node.rows(tables.instances)) == 20, "indexed before the answer"
