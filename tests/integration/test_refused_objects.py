"""A destination that takes the connection and refuses the object: SOP class not supported, by C-STORE and by STOW-RS."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pynetdicom import AE, AllStoragePresentationContexts, evt

from dicom_sr.phantom_study import write_phantom_study
from models.phantom import LesionSpec, make_phantom
from node.settings import Settings
from tests.conftest import ROOT
from tests.dispatch_bench import Bench, rule
from tests.network import running_sender, wait_for
from tests.peers import free_port

pytest_plugins = ["tests.store_fixtures"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

LABEL_MAP, KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.88.59"
REFUSED = {LABEL_MAP, KEY_OBJECTS}
NOT_SUPPORTED = 0x0122
PROFILE = {"objects": ["seg", "measurements"], "segmentation": "labelmap", "superseded": "rejection"}


@contextmanager
def storage_scp(asked: list[str]) -> Iterator[int]:
    """Accepts a context for every class, and then does not take some."""

    def store(event: evt.Event) -> int:
        asked.append(str(event.request.AffectedSOPClassUID))
        return NOT_SUPPORTED if asked[-1] in REFUSED else 0x0000

    ae, port = AE("SCP"), free_port()
    ae.supported_contexts = AllStoragePresentationContexts
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield port
    finally:
        server.shutdown()


@contextmanager
def web_service(asked: list[str]) -> Iterator[str]:
    """STOW-RS that does not take some classes."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            part = body[body.index(b"\r\n\r\n") + 4 : body.rindex(b"\r\n--")]
            meta = dcmread(BytesIO(part), stop_before_pixels=True).file_meta
            asked.append(str(meta.MediaStorageSOPClassUID))
            refused = asked[-1] in REFUSED
            item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [str(meta.MediaStorageSOPInstanceUID)]}}
            if refused:
                item["00081197"] = {"vr": "US", "Value": [NOT_SUPPORTED]}
            content = json.dumps({"00081198" if refused else "00081199": {"vr": "SQ", "Value": [item]}}).encode()
            self.send_response(409 if refused else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def kept(bench: Bench, destination: str) -> list[Any]:
    """What stands at a destination, or is on its way."""
    return [row for row in bench.deliveries(destination) if row.state != "withdrawn" and row.replaced_by is None]


def send(bench: Bench) -> None:
    """Until nothing waits to be sent."""

    def settled() -> bool:
        rows = [row for name in ("scp", "web") for row in bench.deliveries(name)]
        return {row.state for row in rows} <= {"stored", "withdrawn", "dead"}

    with running_sender(bench.settings, bench.store):
        wait_for(settled, "deliveries settle", seconds=20)


@pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)
def test_the_whole_set_is_written_anew_as_what_is_taken(
    store_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    head = make_phantom(
        11, shape_zyx=(12, 64, 64), spacing_mm_zyx=(11.0, 3.6, 3.6), lesions=(LesionSpec(30.0, "left"),)
    )
    study = write_phantom_study(head, tmp_path, seed=11)
    asked: dict[str, list[str]] = {"scp": [], "web": []}
    with storage_scp(asked["scp"]) as port, web_service(asked["web"]) as url:
        common = {"profile": "labels", "commitment": False, "verify": False, "retry_seconds": 0.05}
        destinations = {
            "scp": {"ae_title": "SCP", "host": "127.0.0.1", "port": port, **common},
            "web": {"url": url, **common},
        }
        bench = Bench(
            store_settings, [rule("real", ("scp", "web"))], destination=destinations, profile={"labels": PROFILE}
        )
        try:
            bench.receive(study.files)
            bench.run()
            send(bench)
            bench.run()
            (run,) = bench.jobs("run")
            assert {job.parent_id for job in bench.jobs("render")} == {run.id} and len(bench.jobs("render")) == 2
            send(bench)
            for name in destinations:
                rows = kept(bench, name)
                assert {row.role: row.state for row in rows} == {"seg": "stored", "measurements": "stored"}, name
                assert bench.dataset(next(row for row in rows if row.role == "seg")).SegmentationType == "BINARY"
            # What cannot be rejected is taken back in words.
            asked["scp"].clear()
            bench.again(run, 2)
            for _ in range(3):
                bench.run()
                send(bench)
            assert asked["scp"].count(KEY_OBJECTS) == 1
            (told,) = [row for row in kept(bench, "scp") if row.role == "status-superseded"]
            assert told.state == "stored" and not [row for row in bench.deliveries("scp") if row.state == "dead"]
            # It is known from now on.
            asked["scp"].clear()
            bench.again(run, 3)
            for _ in range(2):
                bench.run()
                send(bench)
            assert KEY_OBJECTS not in asked["scp"]
            assert len([row for row in bench.deliveries("scp") if row.role == "status-superseded"]) == 2
        finally:
            bench.close()
