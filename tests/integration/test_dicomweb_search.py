"""QIDO-RS of this node: the same answers as Orthanc's for the same images, and what is only ours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from node.archive import tables
from node.settings import Settings
from node.web.console import Console
from node.web.dicomweb import dicomweb_router
from node.web.viewer import viewer_router
from tests.dicomweb_peer import running_web_orthanc
from tests.network import Node, instance, running_node, uid
from tests.store_databases import PostgreSQL
from tests.unit.dicom_sr_objects.cases import Case, phantom_case
from tests.web_scene import Scene, freeze, receive, running_web

pytest_plugins = ["tests.store_fixtures"]

STUDY_UID, SERIES_UID, INSTANCE_UID = "0020000D", "0020000E", "00080018"
SECRET = "Hidden^Patient"


@dataclass(frozen=True)
class Service:
    """A service to ask."""

    url: str

    def get(self, path: str, **query: Any) -> httpx.Response:
        headers = {"Accept": "application/dicom+json"}
        # Orthanc's plug-in of this release takes what is percent-encoded by the letter.
        text = urlencode(query, safe="*?^,\\")
        return httpx.get(f"{self.url}{path}?{text}", headers=headers, timeout=30)

    def find(self, path: str, **query: Any) -> list[dict[str, Any]]:
        answer = self.get(path, **query)
        if answer.status_code == 204:
            return []
        assert answer.status_code == 200, answer.text
        return list(answer.json())

    def uids(self, path: str, tag: str, **query: Any) -> set[str]:
        return {value(each, tag) for each in self.find(path, **query)}


def value(result: dict[str, Any], tag: str) -> Any:
    found = result.get(tag, {}).get("Value") or [None]
    return found[0].get("Alphabetic") if isinstance(found[0], dict) and "Alphabetic" in found[0] else found[0]


def write_studies(folder: Path) -> list[Path]:
    """Studies that differ in everything that is searched by."""
    made: list[Path] = []
    names = [
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "Adams^John",
        "adams^jane",
        "Brown^Q*",
        "O'Neil^[x]",
        "Müller^Jürgen",
    ]
    for at, name in enumerate(names):
        for number in range(3):
            series = uid(f"c{at}", "series", number // 2)
            made.append(
                instance(
                    folder,
                    number,
                    study=f"c{at}",
                    SpecificCharacterSet="ISO_IR 192",
                    PatientName=name,
                    PatientID=f"ID-{at}",
                    PatientBirthDate=f"19{50 + at}0101",
                    PatientSex="MF"[at % 2],
                    StudyDate=f"2026010{at + 1}",
                    StudyTime=f"{8 + at:02d}1500",
                    StudyID=f"S{at}",
                    StudyDescription=f"MR head {at}",
                    AccessionNumber=f"ACC{at}",
                    ReferringPhysicianName="Doctor^Some",
                    SeriesInstanceUID=series,
                    SeriesNumber=number // 2 + 1,
                    SeriesDescription=f"series {number // 2}",
                    Modality="MR" if number < 2 else "CT",
                    InstanceNumber=number + 1,
                )
            )
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_studies(tmp_path_factory.mktemp("studies"))


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def ours(
    request: pytest.FixtureRequest, files: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """This node with the studies, over either kind of store."""
    store_url = ""
    if request.param == "postgresql":
        server: PostgreSQL = request.getfixturevalue("postgresql")
        name = f"qido_{uid(str(files[0]))[5:20]}"
        server.execute(f"CREATE DATABASE {name}")
        store_url = server.url(name)
    with running_node(tmp_path_factory.mktemp("node"), store_url=store_url) as node:
        receive(node, files)
        with running_web(node.settings, node.store) as url:
            yield Service(f"{url}/dicom-web")


@pytest.fixture(scope="module")
def theirs(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Orthanc with the same studies."""
    with running_web_orthanc(tmp_path_factory.mktemp("orthanc")) as peer:
        for file in files:
            httpx.post(f"{peer.root}/instances", content=file.read_bytes()).raise_for_status()
        yield Service(peer.url)


@pytest.mark.peer
@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/studies", {}),
        ("/studies", {"PatientID": "ID-2"}),
        ("/studies", {"00100020": "ID-*"}),
        ("/studies", {"PatientID": "ID-?"}),
        ("/studies", {"PatientID": "ID-99"}),
        ("/studies", {"PatientName": "Adams*"}),
        ("/studies", {"PatientName": "ADAMS^JOHN"}),
        ("/studies", {"PatientName": "*"}),
        ("/studies", {"PatientName": ""}),
        ("/studies", {"AccessionNumber": "ACC1"}),
        ("/studies", {"StudyDate": "20260103"}),
        ("/studies", {"StudyDate": "20260102-20260104"}),
        ("/studies", {"StudyDate": "20260104-"}),
        ("/studies", {"StudyDate": "-20260102"}),
        ("/studies", {"StudyDescription": "*head?3"}),
        ("/studies", {"ModalitiesInStudy": "CT", "StudyDate": "20260105"}),
        ("/studies", {"ModalitiesInStudy": "US"}),
        ("/studies", {"StudyInstanceUID": uid("c1")}),
        ("/series", {"Modality": "CT", "PatientID": "ID-1"}),
        ("/series", {"SeriesDescription": "series?1"}),
        ("/studies/" + uid("c0") + "/series", {}),
        ("/studies/" + uid("c0") + "/series", {"Modality": "MR"}),
        ("/studies/" + uid("c0") + "/instances", {}),
        ("/studies/" + uid("c0") + "/instances", {"InstanceNumber": "2"}),
        ("/studies/" + uid("c0") + "/series/" + uid("c0", "series", 0) + "/instances", {}),
        ("/instances", {"SOPInstanceUID": uid("c3", "instance", 1)}),
        ("/instances", {"PatientID": "ID-4", "Modality": "MR"}),
    ],
)
def test_finds_what_orthanc_finds(ours: Service, theirs: Service, path: str, query: dict[str, str]) -> None:
    tag = {"studies": STUDY_UID, "series": SERIES_UID, "instances": INSTANCE_UID}[path.rpartition("/")[2]]
    expected = theirs.uids(path, tag, **query)
    assert ours.uids(path, tag, **query) == expected


@pytest.mark.peer
@pytest.mark.parametrize("path", ["/studies", "/studies/{}/series", "/studies/{}/instances"])
def test_says_what_orthanc_says(ours: Service, theirs: Service, path: str) -> None:
    """Every attribute both give has the same values."""
    path = path.format(uid("c0"))
    tag = {"studies": STUDY_UID, "series": SERIES_UID, "instances": INSTANCE_UID}[path.rpartition("/")[2]]
    others = {value(each, tag): each for each in theirs.find(path)}
    # Retrieve URL names the service, Specific Character Set how Orthanc encodes.
    apart = {"00081190", "00080005", "00080056"}
    compared = 0
    for result in ours.find(path):
        other = others[value(result, tag)]
        for each in result.keys() & other.keys() - apart:
            # This release of Orthanc writes the other groups of a name as "^".
            mine, its = (_plain(one[each]) for one in (result, other))
            assert mine == its, each
            compared += 1
    assert compared >= 5 * len(others)


def _plain(element: dict[str, Any]) -> list[str]:
    values = element.get("Value", [])
    return sorted(str(each.get("Alphabetic") if isinstance(each, dict) else each) for each in values)


def test_wildcards_and_names_are_taken_by_the_letter(ours: Service) -> None:
    """Where Orthanc is of another opinion or none: PS3.4 C.2.2.2."""
    assert ours.uids("/studies", STUDY_UID, PatientName="O'Neil^[[]x]") == set()
    assert ours.uids("/studies", STUDY_UID, PatientName="O'Neil^[x]") == {uid("c4")}
    assert ours.uids("/studies", STUDY_UID, PatientName="*山田*") == {uid("c0")}
    assert ours.uids("/studies", STUDY_UID, PatientName="MÜLLER*") == {uid("c5")}
    assert ours.uids("/studies", STUDY_UID, StudyTime="0900-1000", StudyDate="20260101-20260131") == {uid("c1")}
    assert ours.uids("/studies", STUDY_UID, StudyTime="09") == {uid("c1")}, "the hour, as PS3.5 6.2 shortens times"
    assert ours.uids("/studies", STUDY_UID, PatientID="id-2") == set(), "only names have no case"
    several = f"{uid('c1')},{uid('c2')}\\{uid('c3')}"
    assert ours.uids("/studies", STUDY_UID, StudyInstanceUID=several) == {uid("c1"), uid("c2"), uid("c3")}
    assert ours.uids("/studies", STUDY_UID, PatientID="ID_2") == set(), "_ is no wildcard"
    assert ours.uids("/studies", STUDY_UID, PatientID="ID%") == set(), "% is no wildcard"


def test_fields_limits_and_warnings(ours: Service) -> None:
    (plain,) = ours.find("/studies", PatientID="ID-0")
    assert value(plain, "00201206") == 2 and value(plain, "00201208") == 3
    assert plain["00080061"]["Value"] == ["CT", "MR"]
    assert plain["00100010"]["Value"] == [
        {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    ]
    (asked,) = ours.find("/studies", PatientID="ID-0", includefield="Manufacturer,00181030")
    assert {"00080070", "00181030"} <= asked.keys() - plain.keys()
    (image,) = ours.find("/instances", SOPInstanceUID=uid("c3", "instance", 1), includefield="all")
    assert image["00280010"]["Value"] == [16] and value(image, "00100020") == "ID-3"
    everything = ours.uids("/studies", STUDY_UID)
    pages = [ours.find("/studies", limit=2, offset=at) for at in range(0, 8, 2)]
    assert [len(page) for page in pages] == [2, 2, 2, 0]
    assert {value(each, STUDY_UID) for page in pages for each in page} == everything
    assert "Warning" not in ours.get("/studies", limit=2).headers
    assert "fuzzymatching" in ours.get("/studies", fuzzymatching="true").headers["Warning"]
    assert ours.get("/studies", PatientID="nobody").status_code == 204
    assert ours.get("/studies/1.2.3/series").status_code == 204


@pytest.mark.parametrize(
    ("path", "query", "word"),
    [
        ("/studies", {"StudyDate": "2026-01-01"}, "StudyDate"),
        ("/studies", {"StudyDate": "-"}, "range"),
        ("/studies", {"StudyDate": "yesterday"}, "StudyDate"),
        ("/studies", {"StudyInstanceUID": "../../etc"}, "UID"),
        ("/studies", {"StudyInstanceUID": "1" * 65}, "UID"),
        ("/studies", {"limit": "-1"}, "limit"),
        ("/studies", {"limit": "1e9"}, "limit"),
        ("/studies", {"offset": "99999999999"}, "offset"),
        ("/studies", {"SOPInstanceUID": "1.2"}, "studies cannot be searched"),
        ("/studies", {"Rows": "5"}, "studies cannot be searched"),
        ("/studies", {"' OR 1=1 --": "x"}, "attribute"),
        ("/studies", {"includefield": "<script>"}, "attribute"),
        ("/studies", {"PatientName": "x" * 2000}, "longer"),
        ("/studies/1..2/series", {}, "UID"),
        ("/studies/%2e%2e/series", {}, ""),
    ],
)
def test_what_cannot_be_asked_is_refused(ours: Service, path: str, query: dict[str, str], word: str) -> None:
    answer = ours.get(path, **query)
    assert 400 <= answer.status_code < 500
    assert word in answer.text and "<script>" not in answer.text
    assert httpx.get(f"{ours.url}/studies", headers={"Accept": "text/html"}).status_code == 406


def test_more_than_the_node_gives_at_once(files: list[Path], tmp_path: Path) -> None:
    with running_node(tmp_path, dicomweb={"maximum_results": 4}) as node:
        receive(node, files)
        with running_web(node.settings, node.store) as url:
            service = Service(f"{url}/dicom-web")
            for limit in ({}, {"limit": 100}):
                answer = service.get("/studies", **limit)
                assert len(answer.json()) == 4
                assert "Additional results" in answer.headers["Warning"]
            assert "Warning" not in service.get("/studies", offset=4).headers


def test_rows_from_before_listings_were_indexed(ours: Service, files: list[Path], tmp_path: Path) -> None:
    """The same answers when the index has less: then files are opened."""
    with running_node(tmp_path) as node:
        receive(node, files)
        with node.store.write() as connection:
            for row in connection.execute(select(tables.instances)).all():
                headers = {key: each for key, each in row.headers.items() if key != "listed"}
                connection.execute(
                    update(tables.instances).where(tables.instances.c.id == row.id).values(headers=headers)
                )
        with running_web(node.settings, node.store) as url:
            older = Service(f"{url}/dicom-web")
            for path, query in (
                ("/studies", {"StudyDate": "20260102-20260104"}),
                ("/studies", {"ReferringPhysicianName": "Doctor*", "StudyID": "S2"}),
                ("/series", {"PatientID": "ID-1"}),
                ("/instances", {"InstanceNumber": "3"}),
            ):
                mine, its = older.find(path, **query), ours.find(path, **query)
                for each in [*mine, *its]:
                    del each["00081190"]
                assert _sorted(mine) == _sorted(its) and mine, path


def _sorted(results: list[dict[str, Any]]) -> list[str]:
    return sorted(repr(sorted(each.items())) for each in results)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return phantom_case(tmp_path_factory.mktemp("case"))


@pytest.fixture
def scene(case: Case, tmp_path: Path) -> Iterator[Scene]:
    profiles = {"default": {}, "research": {"anonymous": True, "objects": ["seg"], "text_documents": "unknown"}}
    with running_node(tmp_path, profile=profiles) as node:
        receive(node, case.files)
        objects = freeze(node, case.rendered(), case.study.study_uid)
        with running_web(node.settings, node.store) as url:
            yield Scene(node, case, objects, url)


def _series(scene: Scene) -> dict[str, dict[str, Any]]:
    """Series of our own in the study, by role."""
    found = Service(f"{scene.url}/dicom-web").find(f"/studies/{scene.study_uid}/series")
    return {value(each, "00731002"): each for each in found if "00731002" in each}


def test_results_stand_in_the_study_with_their_state(scene: Scene) -> None:
    service = Service(f"{scene.url}/dicom-web")
    (study,) = service.find("/studies", ModalitiesInStudy="SEG")
    assert study["00080061"]["Value"] == ["MR", "SEG", "SR"]
    assert value(study, "00201208") == len(scene.case.files) + len(scene.objects)
    series = _series(scene)
    assert {value(each, "00080060") for each in series.values()} == {"SEG", "SR"}
    assert series["seg"]["00731001"]["Value"] == ["pacs: queued"]
    (found,) = service.find("/instances", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    assert value(found, STUDY_UID) == scene.study_uid
    assert found["00280008"]["Value"][0] > 1


@pytest.mark.parametrize("why", ["corrected", "shadow", "held", "removed", "anonymous"])
def test_what_must_not_leave_is_not_there(scene: Scene, why: str) -> None:
    """Nor is it given to who knows its name."""
    service = Service(f"{scene.url}/dicom-web")
    series = _series(scene)["seg"]
    resource = f"/studies/{scene.study_uid}/series/{value(series, SERIES_UID)}"
    assert service.get(f"{resource}/metadata").status_code == 200
    changes: dict[str, tuple[Any, dict[str, Any]]] = {
        "corrected": (tables.jobs, {"superseded_at": time.time()}),
        "shadow": (tables.jobs, {"shadow": True}),
        "held": (tables.studies, {"held_reason": "two patients"}),
        "removed": (tables.objects, {"removed_at": time.time()}),
        "anonymous": (tables.objects, {"profile": "research"}),
    }
    table, values = changes[why]
    with scene.node.store.write() as connection:
        connection.execute(update(table).values(**values))
    assert _series(scene) == {}
    assert service.get(f"{resource}/metadata").status_code == 404
    assert service.find("/studies", ModalitiesInStudy="SEG") == []
    assert value(service.find("/studies")[0], "00201208") == len(scene.case.files)


def test_objects_that_came_back_are_listed_once(scene: Scene) -> None:
    receive(scene.node, list(scene.objects.values()))
    assert any(row.ours for row in scene.node.rows(tables.instances))
    found = Service(f"{scene.url}/dicom-web").find(f"/studies/{scene.study_uid}/instances")
    assert len(found) == len(scene.case.files) + len(scene.objects)
    assert len([each for each in found if "00731001" in each]) == len(scene.objects)
    with scene.node.store.write() as connection:
        connection.execute(update(tables.objects).values(removed_at=time.time()))
    again = Service(f"{scene.url}/dicom-web").find(f"/studies/{scene.study_uid}/instances")
    assert {value(each, INSTANCE_UID) for each in again} == {value(each, INSTANCE_UID) for each in found}


def test_correction_gives_the_copy_that_counts(tmp_path: Path) -> None:
    """A later copy with another patient takes the place of the first; an image that moved leaves its study."""
    with running_node(tmp_path / "node") as node:
        first = instance(tmp_path / "a", 0, study="x", PatientName=SECRET, PatientID="WRONG")
        receive(node, [first])
        receive(node, [instance(tmp_path / "b", 0, study="x", PatientName="Right^One", PatientID="RIGHT")])
        with running_web(node.settings, node.store) as url:
            service = Service(f"{url}/dicom-web")
            (study,) = service.find("/studies")
            assert value(study, "00100020") == "RIGHT"
            assert service.find("/studies", PatientID="WRONG") == []
            (header,) = service.get(f"/studies/{uid('x')}/metadata").json()
            assert value(header, "00100010") == "Right^One"
            moved = {"StudyInstanceUID": uid("y"), "PatientID": "RIGHT", "PatientName": "Right^One"}
            receive(node, [instance(tmp_path / "c", 0, study="x", **moved)])
            assert service.uids("/studies", STUDY_UID) == {uid("y")}
            assert service.get(f"/studies/{uid('x')}").status_code == 404


def test_off_where_it_is_switched_off(tmp_path: Path) -> None:
    with (
        running_node(tmp_path, dicomweb={"enabled": False, "store": True}) as node,
        running_web(node.settings, node.store) as url,
    ):
        assert httpx.get(f"{url}/dicom-web/studies").status_code == 404
        assert httpx.post(f"{url}/dicom-web/studies").status_code in (404, 405)
        assert httpx.get(f"{url}/study/1.2/view").status_code == 404


def test_other_origins_only_where_named(tmp_path: Path) -> None:
    def asked(settings: Settings, node: Node, origin: str) -> tuple[int, str | None, str | None]:
        with running_web(settings, node.store) as url:
            headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
            preflight = httpx.options(f"{url}/dicom-web/studies", headers=headers)
            answer = httpx.get(f"{url}/dicom-web/studies", headers={"Origin": origin})
            page = httpx.get(f"{url}/", headers={"Origin": origin})
            assert "access-control-allow-origin" not in page.headers
            allowed = "access-control-allow-origin"
            return preflight.status_code, preflight.headers.get(allowed), answer.headers.get(allowed)

    with running_node(tmp_path, dicomweb={"origins": ["https://viewer.hospital"]}) as node:
        assert asked(node.settings, node, "https://viewer.hospital") == (200, *["https://viewer.hospital"] * 2)
        assert asked(node.settings, node, "https://elsewhere")[1:] == (None, None)
        closed = node.settings.model_copy(
            update={"dicomweb": node.settings.dicomweb.model_copy(update={"origins": []})}
        )
        assert asked(closed, node, "https://viewer.hospital")[1:] == (None, None)


def test_guards_stand_before_every_route(tmp_path: Path) -> None:
    """Whoever plugs in a sign-on leaves no way around it."""

    def nobody_reads() -> None:
        raise HTTPException(401)

    def nobody_writes() -> None:
        raise HTTPException(403)

    with running_node(tmp_path, dicomweb={"store": True}) as node:
        app = FastAPI()
        read, write = [Depends(nobody_reads)], [Depends(nobody_writes)]
        app.include_router(dicomweb_router(node.settings, node.store, read=read, write=write))
        app.include_router(
            viewer_router(node.settings, node.store, read=read, page=Console.of(node.settings, node.store).page)
        )
        client = TestClient(app)
        for path in _readable():
            assert client.get(path).status_code == 401, path
        for path in ("/dicom-web/studies", "/dicom-web/studies/1.2.3"):
            assert client.post(path, content=b"x").status_code == 403, path


def _readable() -> list[str]:
    """Every resource that is read, of a study, series and instance named 1.2.3."""
    study = "/studies/1.2.3"
    series = f"{study}/series/1.2.3"
    image = f"{series}/instances/1.2.3"
    found = ["/studies", "/series", "/instances", f"{study}/series", f"{study}/instances", f"{series}/instances"]
    found += [level + last for level in (study, series, image) for last in ("", "/metadata", "/rendered", "/thumbnail")]
    found += [image + last for last in ("/frames/1", "/frames/1/rendered", "/frames/1/thumbnail", "/bulkdata/7FE00010")]
    pages = [f"/study/1.2.3{last}" for last in ("/view", "/view/scene", "/report/1.2.3")]
    return [f"/dicom-web{each}" for each in found] + pages
