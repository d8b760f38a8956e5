"""Parts of the benchmark that run in a process of their own: what they cost is printed as JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import generation_child, medsam_child


def send(port: str, folder: str) -> dict[str, float]:
    """Send a folder with the node's sending path; imports are done, as in a long-lived sender."""
    from node.dicom.association import Peer
    from node.dicom.storage_scu import send_paths

    peer = Peer(ae_title="BENCH", host="127.0.0.1", port=int(port), calling_ae_title="AINODE")
    cpu, wall = time.process_time(), time.perf_counter()
    if not send_paths(peer, [Path(folder)]).complete:
        raise SystemExit("not every file was stored")
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def receivers(config: str, processes: str) -> None:
    """Receivers that share one socket, as the supervisor starts them, until this process is told to stop."""
    from node.listening import listening, pass_on
    from node.settings import load

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    words = [sys.executable, "-m", "node", "--config", config, "run", "receiver"]
    environment, children = dict(os.environ), list[int]()
    with listening(load(Path(config))) as listeners:
        actions = pass_on(listeners, environment)
        try:
            for _ in range(int(processes)):
                children.append(os.posix_spawn(sys.executable, words, environment, file_actions=actions))
            signal.pause()
        finally:
            for child in children:
                os.kill(child, signal.SIGTERM)
            for child in children:
                os.waitpid(child, 0)


def infer(repeats: str, *shape_zyx: str) -> dict[str, float | list[float]]:
    """CPU seconds of each run of the embedded model; peak memory of the runs, imports and sessions included."""
    from models.phantom import make_phantom
    from models.registry import Registry

    z, y, x = map(int, shape_zyx)
    phantom = make_phantom(3, shape_zyx=(z, y, x), spacing_mm_zyx=(142.0 / z, 227.0 / y, 227.0 / x))
    inputs = {"dwi": phantom.dwi, "adc": phantom.adc}
    del phantom
    model = Registry(threads=1).get("infarct-adc-baseline")
    model.warm()
    # Forget the peak of making the phantom (proc(5), clear_refs).
    Path("/proc/self/clear_refs").write_text("5")
    taken = []
    for _ in range(int(repeats)):
        started = time.process_time()
        model.run(inputs, {})
        taken.append(time.process_time() - started)
    status = Path("/proc/self/status").read_text().splitlines()
    peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return {"cpu": taken, "peak_rss_mib": peak_kib / 1024}


def segment(series: str, mask: str, out: str, how: str) -> int:
    """Write a segmentation of a series and a mask, ``plain`` or with digests and check as the node does; its size."""
    import numpy as np

    from dicom_sr.document import render
    from dicom_sr.write import write_objects
    from tests.bench.many_segments import context, load, load_plainly

    study, source, result = (load_plainly if how == "plain" else load)(Path(series), np.load(mask))
    objects = render(result, study, context(), source)
    if how != "plain":
        from dicom_sr.check import check

        check(objects, study, result, source)
    (written,) = write_objects(objects, Path(out))
    return written.size


PARTS: dict[str, Callable[..., object]] = {
    "send": send,
    "receivers": receivers,
    "infer": infer,
    "segment": segment,
    "export_medsam": medsam_child.export,
    "run_medsam": medsam_child.run,
    "export_report_generator": generation_child.export,
    "write_report": generation_child.write,
}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](*sys.argv[2:])))
