"""Rows `dicomweb.*`: our web process and Orthanc's DICOMweb plug-in give the same series."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydicom import dcmread

from tests.bench.figures import Row, Target, row
from tests.bench.images import ImageMaker
from tests.bench.stage import ROOT, BenchmarkFailed, Stage, alternate, environment
from tests.console import PASSCODE
from tests.network import running_node
from tests.orthanc_peer import running_orthanc
from tests.peers import free_port
from tests.web_scene import receive

_START_SECONDS = 60.0
_PEER = "Orthanc DICOMweb"
_EVERYTHING = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@dataclass(frozen=True, slots=True)
class Service:
    """A DICOMweb service, and what it wants to be shown with each request."""

    url: str
    headers: dict[str, str]


def series(stage: Stage) -> list[Row]:
    """Metadata and files of a CT series of 0.5 MB slices; each round asks for another one, so nobody remembers it."""
    count = stage.size.images["ct"]
    folder = stage.folder(stage.scratch)
    maker = ImageMaker()
    rounds = stage.size.repeats + 1
    folders = [maker.write("ct", count, folder / f"study{number}")[0] for number in range(rounds)]
    resources = [_resource(each) for each in folders]
    with _ours(folder / "node", folders) as ours, _theirs(folder / "orthanc", folders) as theirs:
        made = []
        for name, unit, ask, text in (
            ("metadata_series", "ms/instance", _metadata, "GET …/metadata, never asked before"),
            ("metadata_series_again", "ms/instance", _metadata, "GET …/metadata, asked before"),
            ("retrieve_series", "ms/instance", _files, "GET of the series, as stored"),
        ):
            current = [0]

            def prepare(number: int, current: list[int] = current) -> None:
                current[0] = number + 1

            def asked(
                service: Service, ask: Callable[[Service, str, int], float] = ask, current: list[int] = current
            ) -> float:
                return ask(service, resources[current[0]], count)

            samples = alternate(
                stage.size.repeats,
                [lambda asked=asked: asked(ours), lambda asked=asked: asked(theirs)],
                prepare=prepare,
            )
            made.append(
                row(
                    f"dicomweb.{name}",
                    [each * 1000 / count for each in samples[0]],
                    unit,
                    peer=_PEER,
                    peers=[each * 1000 / count for each in samples[1]],
                    target=Target("ratio", 1.0),
                    how=f"wall time, {text}, {count} CT slices",
                    filesystem=stage.scratch.filesystem,
                )
            )
        return made


def _metadata(service: Service, resource: str, count: int) -> float:
    url, headers = f"{service.url}{resource}/metadata", {**service.headers, "Accept": "application/dicom+json"}
    began = time.perf_counter()
    answer = httpx.get(url, headers=headers, timeout=120)
    taken = time.perf_counter() - began
    if answer.status_code != 200 or len(answer.json()) != count:
        raise BenchmarkFailed(f"{url}: {answer.status_code}")
    return taken


def _files(service: Service, resource: str, count: int) -> float:
    url, headers = f"{service.url}{resource}", {**service.headers, "Accept": _EVERYTHING}
    began = time.perf_counter()
    size = 0
    with httpx.stream("GET", url, headers=headers, timeout=120) as answer:
        for chunk in answer.iter_bytes():
            size += len(chunk)
    taken = time.perf_counter() - began
    if answer.status_code != 200 or size < count * 512 * 512 * 2:
        raise BenchmarkFailed(f"{url}: {answer.status_code}, {size} bytes")
    return taken


def _resource(folder: Path) -> str:
    header = dcmread(next(folder.iterdir()), stop_before_pixels=True)
    return f"/studies/{header.StudyInstanceUID}/series/{header.SeriesInstanceUID}"


@contextmanager
def _ours(folder: Path, series: list[Path]) -> Iterator[Service]:
    """`ainode run web` over a store with the series."""
    with running_node(folder) as node:
        for each in series:
            receive(node, sorted(each.iterdir()))
        port = free_port()
        config = folder / "node.toml"
        config.write_text(
            f'[node]\ndata_dir = "{node.settings.data_dir}"\n[web]\nenabled = true\nport = {port}\n', encoding="utf-8"
        )
    words = [sys.executable, "-m", "node", "--config", str(config)]
    shown = {"Authorization": f"Bearer {_token(words)}"}
    process = subprocess.Popen([*words, "run", "web"], cwd=ROOT, env=environment(prompt=True))
    try:
        _wait_for(port)
        yield Service(f"http://127.0.0.1:{port}/dicom-web", shown)
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _theirs(folder: Path, series: list[Path]) -> Iterator[Service]:
    with running_orthanc(folder, node_port=free_port(), dicomweb=True) as peer:
        for each in series:
            for file in sorted(each.iterdir()):
                peer.store(file)
        yield Service(f"http://127.0.0.1:{peer.http_port}/dicom-web", {})


def _token(words: list[str]) -> str:
    """A viewer's token, made as docs/dicomweb.md says."""
    told = {"cwd": ROOT, "text": True, "check": True, "stdout": subprocess.PIPE}
    subprocess.run([*words, "user", "add", "reader"], input=f"{PASSCODE}\n", **told)
    made = subprocess.run([*words, "user", "token", "reader", "--for", "bench", "--role", "viewer"], **told)
    return str(made.stdout).split()[0]


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise BenchmarkFailed("the web process did not begin to listen")
