"""WADO-RS of this node, by its own bytes, by pydicom, by dicomweb-client and by highdicom."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import highdicom as hd
import httpx
import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from openjpeg.utils import encode_array
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import compress, pixel_array
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from tests.network import Node, instance, run_tool, running_node, uid
from tests.unit.dicom_sr_objects.cases import Case, phantom_case
from tests.web_scene import Scene, freeze, receive, running_web

EVERYTHING = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return phantom_case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def scene(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running_node(tmp_path_factory.mktemp("node")) as node:
        receive(node, case.files)
        objects = freeze(node, case.rendered(), case.study.study_uid)
        with running_web(node.settings, node.store) as url:
            yield Scene(node, case, objects, url)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Node, str]]:
    with running_node(tmp_path / "node") as node, running_web(node.settings, node.store) as url:
        yield node, f"{url}/dicom-web"


def get(url: str, accept: str = "*/*") -> httpx.Response:
    return httpx.get(url, headers={"Accept": accept}, timeout=60)


def parts(answer: httpx.Response) -> list[tuple[str, bytes]]:
    """Content type and bytes of each part, read by the standard library."""
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + answer.content)
    assert message.is_multipart()
    # The parser reads lines; a part that is none of them is taken by its stated length.
    boundary = b"--" + str(message.get_boundary()).encode()
    found = []
    at = 0
    while True:
        at = answer.content.index(boundary, at) + len(boundary)
        if answer.content[at : at + 2] == b"--":
            return found
        end = answer.content.index(b"\r\n\r\n", at)
        fields = dict(line.split(": ", 1) for line in answer.content[at + 2 : end].decode().split("\r\n"))
        size = int(fields["Content-Length"])
        found.append((fields["Content-Type"], answer.content[end + 4 : end + 4 + size]))
        at = end + 4 + size


def path_of(header: Dataset) -> str:
    return f"/studies/{header.StudyInstanceUID}/series/{header.SeriesInstanceUID}/instances/{header.SOPInstanceUID}"


def test_files_are_given_as_they_lie(scene: Scene) -> None:
    answer = get(f"{scene.url}/dicom-web/studies/{scene.study_uid}", EVERYTHING)
    assert answer.status_code == 200 and len(answer.content) == int(answer.headers["content-length"])
    given = {content for _, content in parts(answer)}
    assert given == {file.read_bytes() for file in [*scene.node.files(), *scene.objects.values()]}
    header = dcmread(scene.objects["seg"], stop_before_pixels=True)
    single = get(f"{scene.url}/dicom-web{path_of(header)}", "application/dicom")
    assert single.content == scene.objects["seg"].read_bytes()
    assert single.headers["content-type"].startswith("application/dicom")


def test_dicomweb_client_reads_the_study_and_highdicom_its_segmentation(scene: Scene) -> None:
    """As OHIF and analysis scripts do: search, metadata, frames, whole objects."""
    client = DICOMwebClient(f"{scene.url}/dicom-web")
    (study,) = client.search_for_studies(search_filters={"ModalitiesInStudy": "SEG"})
    study_uid = study["0020000D"]["Value"][0]
    assert study_uid == scene.study_uid
    series = client.search_for_series(study_uid, search_filters={"Modality": "SEG"})
    series_uid = series[0]["0020000E"]["Value"][0]
    (found,) = client.search_for_instances(study_uid, series_uid)
    sop_uid = found["00080018"]["Value"][0]

    given = client.retrieve_instance(study_uid, series_uid, sop_uid)
    segmentation = hd.seg.Segmentation.from_dataset(given)
    original = hd.seg.segread(scene.objects["seg"])
    volumes = [
        each.get_volume(combine_segments=True, allow_missing_positions=True) for each in (segmentation, original)
    ]
    assert np.array_equal(volumes[0].array, volumes[1].array) and volumes[0].array.max() == 2
    assert np.array_equal(volumes[0].affine, volumes[1].affine)

    metadata = client.retrieve_instance_metadata(study_uid, series_uid, sop_uid)
    assert hd.seg.Segmentation  # metadata alone is enough for the segments' names
    described = Dataset.from_json(metadata, bulk_data_uri_handler=lambda *_: None)
    assert [s.SegmentLabel for s in described.SegmentSequence] == [s.SegmentLabel for s in original.SegmentSequence]
    assert len(client.retrieve_study(study_uid)) == len(scene.case.files) + len(scene.objects)

    source = scene.case.source.frames[7]
    image = next(d for d in map(dcmread, scene.case.files) if d.SOPInstanceUID == source.sop_instance_uid)
    (frame,) = client.retrieve_instance_frames(
        study_uid, str(image.SeriesInstanceUID), source.sop_instance_uid, frame_numbers=[1]
    )
    assert frame == image.PixelData
    bulk = client.retrieve_bulkdata(metadata["7FE00010"]["BulkDataURI"])
    assert bulk[0] == original.PixelData
    drawn = client.retrieve_instance_rendered(
        study_uid, str(image.SeriesInstanceUID), source.sop_instance_uid, media_types=("image/png",)
    )
    assert Image.open(io.BytesIO(drawn)).size == (image.Columns, image.Rows)


def test_metadata_is_what_pydicom_reads(scene: Scene) -> None:
    answer = get(f"{scene.url}/dicom-web/studies/{scene.study_uid}/metadata", "application/dicom+json")
    given = {each["00080018"]["Value"][0]: each for each in answer.json()}
    for file in [*scene.case.files, *scene.objects.values()]:
        expected = dcmread(file, stop_before_pixels=True)
        mine = given[expected.SOPInstanceUID]
        assert mine.pop("00083002")["Value"] == [str(expected.file_meta.TransferSyntaxUID)]
        pixels = mine.pop("7FE00010", None)
        assert (pixels is not None) == ("PixelData" in dcmread(file))
        made = Dataset.from_json(mine)
        assert made == Dataset.from_json(json.loads(expected.to_json())), file.name


def test_transfer_syntax_is_the_stored_one_or_none(web: tuple[Node, str], tmp_path: Path) -> None:
    node, url = web
    pixels = np.arange(256, dtype="<u2").tobytes()
    receive(
        node,
        [
            instance(tmp_path, 0, study="m", pixels=pixels, **_image()),
            _compressed(instance(tmp_path / "x", 1, study="m", pixels=pixels, **_image()), RLELossless),
        ],
    )
    study = f"{url}/studies/{uid('m')}"
    both = get(study, EVERYTHING)
    assert {kind for kind, _ in parts(both)} == {
        "application/dicom; transfer-syntax=1.2.840.10008.1.2.1",
        f"application/dicom; transfer-syntax={RLELossless}",
    }
    some = get(study, f"multipart/related; type=application/dicom; transfer-syntax={RLELossless}")
    assert some.status_code == 206 and len(parts(some)) == 1 and "left out" in some.headers["warning"]
    none = get(study, f'multipart/related; type="application/dicom"; transfer-syntax={JPEG2000Lossless}')
    assert none.status_code == 406 and str(RLELossless) in none.text
    for accept in ("text/html", "image/png", 'multipart/related; type="image/png"'):
        assert get(study, accept).status_code == 406, accept
    assert get(study, 'text/html, multipart/related; type="application/dicom"; q=0.5').status_code == 200
    assert get(f"{study}?accept=text/html", EVERYTHING).status_code == 406
    assert get(study, "nonsense").status_code == 400
    assert get(f"{study}/metadata", "application/dicom+xml").status_code == 406


def _image() -> dict[str, Any]:
    return {
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
    }


def _compressed(path: Path, syntax: str) -> Path:
    dataset = dcmread(path)
    if syntax == JPEG2000Lossless:
        frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
        dataset.PixelData = encapsulate([encode_array(frame, codec_format=0) for frame in frames])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
    else:
        compress(dataset, syntax, generate_instance_uid=False)
    dataset.save_as(path)
    return path


@pytest.mark.parametrize(
    ("syntax", "kind"),
    [(JPEG2000Lossless, "image/jp2"), (JPEGLSLossless, "image/jls"), (RLELossless, "image/dicom-rle")],
)
def test_compressed_frames_as_stored_or_decoded(web: tuple[Node, str], tmp_path: Path, syntax: str, kind: str) -> None:
    node, url = web
    stored = np.random.default_rng(1).integers(0, 4096, (3, 64, 64)).astype("<u2")
    image = instance(tmp_path, 0, study="c", pixels=stored.tobytes(), NumberOfFrames=3, **_image(), Rows=64, Columns=64)
    file = _compressed(image, syntax)
    receive(node, [file])
    header = dcmread(file)
    frames = f"{url}{path_of(header)}/frames"
    compressed = list(generate_frames(header.PixelData, number_of_frames=3))
    as_stored = parts(get(f"{frames}/3,1", 'multipart/related; type="application/octet-stream"; transfer-syntax=*'))
    assert as_stored == [(f"{kind}; transfer-syntax={syntax}", compressed[at]) for at in (2, 0)]
    assert parts(get(f"{frames}/2", f'multipart/related; type="{kind}"'))[0][1] == compressed[1]
    native = parts(get(f"{frames}/1,2", 'multipart/related; type="application/octet-stream"'))
    assert [content for _, content in native] == [stored[0].tobytes(), stored[1].tobytes()]
    assert get(f"{frames}/2", "application/octet-stream").content == stored[1].tobytes()
    other = "image/jp2" if kind != "image/jp2" else "image/jls"
    assert get(f"{frames}/1", f'multipart/related; type="{other}"').status_code == 406
    bulk = get(f"{url}{path_of(header)}/bulkdata/7FE00010", 'multipart/related; type="*/*"; transfer-syntax=*')
    assert [content for _, content in parts(bulk)] == compressed


@pytest.mark.peer
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_native_frames_are_little_endian(web: tuple[Node, str], tmp_path: Path, syntax: str) -> None:
    node, url = web
    stored = np.arange(512, dtype="<u2")
    path = instance(tmp_path, 0, study="n", pixels=stored.tobytes(), NumberOfFrames=2, **_image())
    dataset = dcmread(path)
    given = tmp_path / "given.dcm"
    done = run_tool("dcmconv", "+ti" if syntax == ImplicitVRLittleEndian else "+tb", path, given)
    assert done.returncode == 0, done.stdout
    receive(node, [given])
    assert node.files()[0].read_bytes()[-8:] == given.read_bytes()[-8:]
    frame = get(f"{url}{path_of(dataset)}/frames/2", "application/octet-stream")
    assert np.array_equal(np.frombuffer(frame.content, "<u2"), stored[256:])
    bulk = get(f"{url}{path_of(dataset)}/bulkdata/7FE00010", "application/octet-stream")
    assert np.array_equal(np.frombuffer(bulk.content, "<u2"), stored)
    header = get(f"{url}{path_of(dataset)}/metadata").json()[0]
    assert header["00280010"]["Value"] == [16]


def test_many_frames_come_one_by_one(web: tuple[Node, str], tmp_path: Path) -> None:
    """More than is read at once: 80 MB in five frames, and their bulk data."""
    node, url = web
    stored = np.arange(5 * 2048 * 4096, dtype="<u4").astype("<u2")
    file = instance(
        tmp_path, 0, study="w", pixels=stored.tobytes(), NumberOfFrames=5, **_image(), Rows=2048, Columns=4096
    )
    receive(node, [file])
    base = f"{url}{path_of(dcmread(file, stop_before_pixels=True))}"
    frames = parts(get(f"{base}/frames/1,2,3,4,5", 'multipart/related; type="application/octet-stream"'))
    assert b"".join(content for _, content in frames) == stored.tobytes()
    assert get(f"{base}/bulkdata/7FE00010", "application/octet-stream").content == stored.tobytes()


def test_one_bit_frames_begin_at_a_byte(scene: Scene) -> None:
    """Frames of a segmentation whose number of pixels is no multiple of eight."""
    segmentation = hd.seg.segread(scene.objects["seg"])
    assert (segmentation.Rows * segmentation.Columns) % 8 == 0
    odd = _odd_segmentation(scene.case)
    with running_node(scene.node.settings.data_dir.parent / "odd") as node:
        file = node.settings.data_dir / "odd.dcm"
        odd.save_as(file)
        receive(node, [file])
        with running_web(node.settings, node.store) as url:
            truth = pixel_array(file)
            for number in (1, 2, len(truth)):
                content = get(f"{url}/dicom-web{path_of(odd)}/frames/{number}", "application/octet-stream").content
                bits = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
                assert np.array_equal(bits[: truth[0].size], truth[number - 1].ravel()), number


def _odd_segmentation(case: Case) -> hd.seg.Segmentation:
    """Three frames of 5 by 7 pixels."""
    sources = [dcmread(file) for file in case.files[:3]]
    for at, source in enumerate(sources):
        source.Rows, source.Columns = 5, 7
        source.PixelData = bytes(70)
        source.ImagePositionPatient = [0, 0, 5.0 * at]
        source.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        source.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    mask = (np.random.default_rng(3).random((3, 5, 7)) > 0.4).astype(np.uint8)
    description = hd.seg.SegmentDescription(
        1,
        "x",
        hd.sr.CodedConcept("49755003", "SCT", "Morphologically Abnormal Structure"),
        hd.sr.CodedConcept("52988006", "SCT", "Lesion"),
        hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )
    return hd.seg.Segmentation(
        sources, mask, "BINARY", [description], hd.UID(), 1, hd.UID(), 1, "maker", "model", "1", "1"
    )


def test_rendered_images_have_the_window_asked_for(web: tuple[Node, str], tmp_path: Path) -> None:
    node, url = web
    stored = np.linspace(0, 1000, 256).astype("<u2")
    facts = {"RescaleSlope": "2", "RescaleIntercept": "-100", "WindowCenter": "400", "WindowWidth": "800"}
    file = instance(tmp_path, 0, study="r", pixels=stored.tobytes(), **_image(), **facts)
    inverse = {**_image(), "PhotometricInterpretation": "MONOCHROME1"}
    other = instance(tmp_path, 1, study="r", pixels=stored.tobytes(), **inverse, **facts)
    receive(node, [file, other])
    base = f"{url}{path_of(dcmread(file))}"

    def drawn(query: str = "", where: str = base) -> np.ndarray:
        answer = get(f"{where}/rendered{query}", "image/png")
        assert answer.status_code == 200, answer.text
        return np.asarray(Image.open(io.BytesIO(answer.content))).ravel().astype(float)

    values = stored.astype(float) * 2 - 100
    linear = np.clip((values - 399.5) / 799 + 0.5, 0, 1) * 255
    assert np.abs(drawn() - linear).max() <= 1
    chosen = np.clip((values - 999.5) / 99 + 0.5, 0, 1) * 255
    assert np.abs(drawn("?window=1000,100,linear") - chosen).max() <= 1
    sigmoid = 255 / (1 + np.exp(-4 * (values - 1000) / 100))
    assert np.abs(drawn("?window=1000,100,sigmoid") - sigmoid).max() <= 1
    assert np.abs(drawn(where=f"{url}{path_of(dcmread(other))}") - (255 - linear)).max() <= 1
    assert get(f"{base}/rendered").headers["content-type"] == "image/jpeg"
    small = Image.open(io.BytesIO(get(f"{base}/thumbnail?viewport=8,8").content))
    assert small.size == (8, 8)
    for path in (f"/studies/{uid('r')}", f"/studies/{uid('r')}/series/{uid('r', 'series')}"):
        assert get(f"{url}{path}/thumbnail", "image/png").status_code == 200
        assert get(f"{url}{path}/rendered", "image/jpeg").status_code == 200
    for query in ("?window=1", "?window=a,b", "?window=1,0", "?window=1,2,cubic", "?window=nan,1", "?viewport=0,9"):
        assert get(f"{base}/rendered{query}").status_code == 400, query
    assert get(f"{base}/rendered?quality=0").status_code == 400
    assert get(f"{base}/rendered", "image/gif").status_code == 406


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/frames/0", 404),
        ("/frames/999", 404),
        ("/frames/-1", 400),
        ("/frames/1,1", 400),
        ("/frames/1,,2", 400),
        ("/frames/1;DROP", 400),
        ("/frames/٣", 400),
        ("/frames/" + "9" * 40, 400),
        ("/frames/1/2", 404),
        ("/frames/999/rendered", 404),
        ("/frames/1,2/rendered", 406),
        ("/bulkdata/", 400),
        ("/bulkdata/7FE00010/../../secret", 404),
        ("/bulkdata/zzzzzzzz", 400),
        ("/bulkdata/00100010", 404),
        ("/bulkdata/52009230/99/00081140", 404),
        ("/bulkdata/" + "/".join(["52009230", "0"] * 200) + "/00081140", 400),
        ("/nothing", 404),
    ],
)
def test_hostile_names_are_refused(scene: Scene, path: str, status: int) -> None:
    header = dcmread(scene.objects["seg"], stop_before_pixels=True)
    assert get(f"{scene.url}/dicom-web{path_of(header)}{path}").status_code == status


def test_names_of_nothing_are_refused(scene: Scene) -> None:
    base = f"{scene.url}/dicom-web/studies"
    for name in ("1.2.3", scene.study_uid + "/series/1.2.3", scene.study_uid + "/series/1.2/instances/1.2/metadata"):
        assert get(f"{base}/{name}").status_code == 404, name
    for name in ("a", "1" * 65, "1..2", "%2e%2e%2fetc", "1.2%00", "<b>"):
        answer = get(f"{base}/{name}")
        assert 400 <= answer.status_code < 500 and "<b>" not in answer.text, name
    text = dcmread(scene.objects["measurements"], stop_before_pixels=True)
    for resource in ("frames/1", "rendered", "thumbnail"):
        assert get(f"{scene.url}/dicom-web{path_of(text)}/{resource}").status_code == 404, resource


def test_damaged_and_missing_files_are_said_to_be_gone(web: tuple[Node, str], tmp_path: Path) -> None:
    node, url = web
    receive(node, [instance(tmp_path, number, study="d", **_image()) for number in range(2)])
    short, lost = node.files()
    headers = [dcmread(each, stop_before_pixels=True) for each in (short, lost)]
    short.write_bytes(short.read_bytes()[:-300])
    lost.unlink()
    assert get(f"{url}{path_of(headers[0])}/frames/1").status_code == 410
    assert get(f"{url}{path_of(headers[0])}/rendered").status_code == 410
    assert get(f"{url}{path_of(headers[0])}/bulkdata/7FE00010").status_code == 410
    for resource in ("", "/metadata", "/frames/1", "/rendered", "/bulkdata/7FE00010"):
        assert get(f"{url}{path_of(headers[1])}{resource}").status_code == 410, resource
    study = f"{url}/studies/{uid('d')}"
    rest = get(study)
    assert rest.status_code == 206 and len(parts(rest)) == 1, "the others still come"
    assert len(get(f"{study}/metadata").json()) == 2
    short.unlink()
    assert get(study).status_code == 410
