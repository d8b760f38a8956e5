"""A real node as a test runs it: own folder, own ports, every process a real process."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.peers import free_port
from tests.warm_start import WarmStart

ROOT = Path(__file__).resolve().parent.parent
_COMMAND_LINE = "import sys; from node.cli import main; sys.exit(main(sys.argv[1:]))"
_COMMANDS = ("db", "deliveries", "jobs", "ledger", "status", "studies", "why")
ROLES = ("receiver", "scheduler", "dispatcher", "sender", "web")


@dataclass
class NodeProcess:
    """`ainode serve` with a configuration of its own.

    Attributes
    ----------
    folder : Path
        Holds node.toml, routing.toml, data/ and log.txt.
    destinations : mapping
        Name → (AE title, port) of peers on loopback.
    extra : str
        Further TOML for node.toml.
    rules : str
        routing.toml; the default sends diffusion MR to the embedded model and every destination.
    """

    folder: Path
    destinations: Mapping[str, tuple[str, int]]
    extra: str = ""
    rules: str = ""
    # On a busy machine a sender may pause for seconds in the middle of a study; its end tells when it is through.
    arrival: str = "quiet_seconds = 6.0\nassociation_end_quiet_seconds = 0.3"
    jobs: str = "lease_seconds = 4.0\nretry_seconds = 0.2\nmaximum_attempts = 12"
    # A second dispatcher with its host is a third of a start; a test of STAT runs asks for it.
    stat_slot: bool = False
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "node.toml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def configure(self) -> None:
        """Write node.toml and routing.toml."""
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = [
            f'[node]\nname = "test-node"\nae_title = "AINODE"\ndata_dir = "{self.data}"',
            f"[receive]\nport = {self.port}\ndisk_reserve_bytes = 1000000",
            f"[arrival]\n{self.arrival}",
            f"[jobs]\nthreads = 1\nstat_slot = {json.dumps(self.stat_slot)}\n{self.jobs}",
            "[delivery]\nbreaker_failures = 1000",
        ]
        for name, (title, port) in self.destinations.items():
            parts.append(
                f'[destination.{name}]\nae_title = "{title}"\nhost = "127.0.0.1"\nport = {port}\nretry_seconds = 0.2\n'
                "retry_ceiling_seconds = 1.0\nmaximum_attempts = 1000\ncommitment_timeout_seconds = 5.0"
            )
        if "[profile.default]" not in self.extra:
            # The PACS of the tests list a text among the series.
            parts.append('[profile.default]\ntext_documents = "shown_as_draft"\nmaximum_series = 3')
        self.config.write_text("\n\n".join([*parts, self.extra]) + "\n")
        names = json.dumps(list(self.destinations))
        default = (
            f'[[rule]]\nname = "infarct"\nmodel = "infarct-adc-baseline"\nreport_model = "stroke-impression-demo"\n'
            f"destinations = {names}\n[rule.match]\nmodality = ['MR']\ndiffusion = true\nminimum_instances = 2\n"
        )
        (self.folder / "routing.toml").write_text(self.rules or default)

    def start(self, *, timeout_seconds: float = 60.0) -> None:
        """Start and wait until the DICOM port answers."""
        if not self.config.exists():
            self.configure()
        log = (self.folder / "log.txt").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "node", "--config", str(self.config), "serve"],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the node ended at once:\n{self.log()[-3000:]}")
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0 and "receiver" in self.roles():
                    return
            time.sleep(0.05)
        raise AssertionError(f"the node did not get ready:\n{self.log()[-3000:]}")

    def stop(self, *, timeout_seconds: float = 30.0) -> None:
        """Ask politely, then kill what is left."""
        if self.process is None:
            return
        family = [self.process.pid, *descendants(self.process.pid)]
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                self.kill_all()
                raise AssertionError("the node did not stop in time") from None
        for pid in family:
            _kill(pid)
        self.process = None

    def kill_all(self) -> None:
        """kill -9 of the supervisor and everything below it."""
        assert self.process is not None
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            _kill(pid)
        self.process.wait(10)

    def kill(self, role: str) -> bool:
        """kill -9 one process by role; ``child`` is the model host. Returns whether there was one."""
        pids = self.roles().get(role, [])
        for pid in pids:
            _kill(pid)
        return bool(pids)

    def roles(self) -> dict[str, list[int]]:
        """Role → process ids, read from the command lines below the supervisor."""
        assert self.process is not None
        found: dict[str, list[int]] = {}
        for pid in descendants(self.process.pid):
            words = _command_line(pid)
            role = next((words[at + 1] for at, word in enumerate(words[:-1]) if word == "run"), "")
            if role in ROLES:
                found.setdefault(role, []).append(pid)
        for dispatcher in found.get("dispatcher", []):
            if children := [
                pid for pid in descendants(dispatcher) if "resource_tracker" not in " ".join(_command_line(pid))
            ]:
                found.setdefault("child", []).extend(children)
        return found

    def cli(self, *words: str, timeout_seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run ``ainode --config … WORDS``."""
        return _command_lines().run(_COMMAND_LINE, ["--config", str(self.config), *words], timeout=timeout_seconds)

    def json(self, *words: str) -> Any:
        """Run a command with ``--json`` and return what it printed."""
        done = self.cli(*words, "--json")
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the node's SQLite database, read beside it: what a test waits for costs no process each time it looks."""
        connection = sqlite3.connect(f"file:{self.data / 'node.db'}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def delivery_states(self) -> list[str]:
        """State of every delivery, oldest first."""
        return [state for (state,) in self.rows("SELECT state FROM deliveries ORDER BY id")]

    def log(self) -> str:
        path = self.folder / "log.txt"
        return path.read_text(errors="replace") if path.exists() else ""


@functools.cache
def _command_lines() -> WarmStart:
    """Forks each command line, a process of its own all the same: importing what it needs is nine tenths of most."""
    starter = WarmStart(["node.settings", "node.why", *(f"node.commands.{each}" for each in _COMMANDS)])
    atexit.register(starter.close)
    return starter


def descendants(pid: int) -> list[int]:
    """Every living process below ``pid``."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)) is not None:
            parents[int(entry.name)] = parent

    def below(root: int) -> Iterator[int]:
        for child, parent in parents.items():
            if parent == root:
                yield child
                yield from below(child)

    return list(below(pid))


def _parent(entry: Path) -> int | None:
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[1])


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
