"""Node and test PACS as processes on loopback, driven by the commands an operator has."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from node.pulse import beats

_QUIET_SECONDS = 1.0
_AFTER_RELEASE_SECONDS = 0.5


def study_files(folder: Path) -> list[Path]:
    """Every Part 10 file below a folder, in order of name."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_dicom(path)]


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Scene:
    """A node and a PACS below ``out``; both end with the ``with`` block."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.node_port, self.pacs_port = _free_port(), _free_port()
        self._config = out / "node.toml"
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._configure()
        self._start(
            "pacs", "--ae-title", "PACS", "--port", str(self.pacs_port), "--dir", str(self.out / "pacs"), log="pacs.log"
        )
        self._start("--config", str(self._config), "serve", log="node.log")
        self._wait_for("the node", lambda: self._cli("--config", str(self._config), "status").returncode == 0)
        self._wait_for("its listener", lambda: _answers(self.node_port) and _answers(self.pacs_port))
        # It would take images before: what is shown is a node as it runs, not how it starts.
        self._wait_for("its model hosts", self._models_loaded)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in reversed(self._processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def send(self, study: Path) -> None:
        """Be the modality."""
        done = self._cli("send", f"AINODE@127.0.0.1:{self.node_port}", str(study))
        if done.returncode:
            raise TimeoutError(done.stderr or done.stdout)

    def wait_until_committed(self, timeout_seconds: float, tell: Callable[[str], None]) -> None:
        """Return when every delivery is committed; says what is going on meanwhile."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            deliveries = self._json("deliveries")
            states = [each["state"] for each in deliveries]
            if states and set(states) == {"committed"}:
                return
            jobs = [each["state"] for each in self._json("jobs")]
            tell(
                f"Runs: {', '.join(jobs) or 'waiting for the study to be complete'}; results: {', '.join(states) or 'none yet'}"
            )
            time.sleep(0.25)
        raise TimeoutError(f"not every result was committed in {timeout_seconds:.0f} s; see node.log")

    def story(self) -> list[dict[str, Any]]:
        """The ledger's facts on the study."""
        return list(self._json("why", self._study_uid()))

    def why(self) -> str:
        """What `ainode why` prints."""
        return self._cli("--config", str(self._config), "why", self._study_uid()).stdout

    def _study_uid(self) -> str:
        return str(self._json("studies")[0]["study_uid"])

    def _json(self, *words: str) -> Any:
        done = self._cli("--config", str(self._config), *words, "--json")
        if done.returncode:
            raise TimeoutError(done.stderr or done.stdout)
        return json.loads(done.stdout)

    def _cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "node", *words], capture_output=True, text=True, check=False, env=_environment()
        )

    def _start(self, *words: str, log: str) -> None:
        with (self.out / log).open("wb") as stream:
            command = [sys.executable, "-m", "node", *words]
            self._processes.append(
                subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=_environment())
            )

    def _models_loaded(self) -> bool:
        dispatchers = [each for each in beats(self.out / "node") if each.process.startswith("dispatcher")]
        return bool(dispatchers) and all(each.facts.get("models") for each in dispatchers)

    def _wait_for(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if any(process.poll() is not None for process in self._processes):
                break
            if ready():
                return
            time.sleep(0.1)
        raise TimeoutError(f"{what} did not start; see {self.out}/node.log and pacs.log")

    def _configure(self) -> None:
        self._config.write_text(
            f'[node]\nname = "demo"\nae_title = "AINODE"\ndata_dir = "{self.out / "node"}"\n\n'
            f"[receive]\nport = {self.node_port}\ndisk_reserve_bytes = 100000000\n\n"
            f"[arrival]\nquiet_seconds = {_QUIET_SECONDS}\nassociation_end_quiet_seconds = {_AFTER_RELEASE_SECONDS}\n\n"
            # The demo's PACS lists a text among the series, beside the others.
            f'[profile.demo]\nlanguages = ["en", "ja"]\ntext_documents = "shown_as_draft"\nmaximum_series = 3\n\n'
            f'[destination.pacs]\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {self.pacs_port}\nprofile = "demo"\n'
        )
        (self.out / "routing.toml").write_text(
            '[[rule]]\nname = "acute-infarct"\nmodel = "infarct-adc-baseline"\nreport_model = "stroke-impression-demo"\n'
            'destinations = ["pacs"]\npriority = "urgent"\n[rule.match]\nmodality = ["MR"]\ndiffusion = true\n'
        )


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1"}
