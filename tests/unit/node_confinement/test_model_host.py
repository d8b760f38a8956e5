"""What a model host can get at: a child really tries, by the C library; what it must have still works."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dicom_sr.identity import OFFLINE
from node.confinement import landlock
from node.errors import DeadlineExceeded, HostUntrusted
from node.jobs.executors.local import LocalExecutor
from node.jobs.specification import JobSpec, StoredFile
from node.settings import Settings
from tests.unit.models_registry.conftest import write_spots

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(landlock.version() == 0, reason="this kernel has no Landlock: hosts are not shut in here"),
]

HOST = Path(__file__).with_name("prying_host.py")
ROOT = HOST.parents[3]
USER = "nobody"


class Site:
    """A data folder with the things that a host must not have."""

    def __init__(self, folder: Path, **section: Any) -> None:
        self.data, self.models = folder / "data", folder / "models"
        for each in ("spool", "outbox", "work"):
            (self.data / each).mkdir(parents=True)
        self.install("one")
        self.install("two")
        files = {"node.db": "rows", "secret.key": "key", "spool/own.dcm": "own", "spool/other.dcm": "other"}
        for name, words in files.items():
            (self.data / name).write_text(words)
        (folder / "tls.key").write_text("private")
        content = {"node": {"data_dir": self.data}, "models": {"folders": [self.models]}, "model_host": section}
        self.executor = LocalExecutor(Settings.model_validate(content), command=[sys.executable, str(HOST)])
        self._runs = 0

    def install(self, name: str, *, model: str = "", version: str = "0.1", catalogue: Path | None = None) -> Path:
        """A model in a folder of that name."""
        made = write_spots(self.data.parent / f"making-{name}") / "spots"
        card = made / "model.toml"
        words = card.read_text().replace("bright-spots", model or name)
        card.write_text(words.replace('version = "0.1"', f'version = "{version}"'))
        place = (catalogue or self.models) / name
        place.parent.mkdir(exist_ok=True)
        return made.rename(place)

    def spec(
        self, rule: str = "pry", file: str = "own.dcm", seconds: float = 20.0, model: str = "one", **parameters: str
    ) -> JobSpec:
        self._runs += 1
        folder = self.data / "work" / str(self._runs)
        folder.mkdir()
        return JobSpec(
            job_id=self._runs,
            study_uid="1.2",
            rule=rule,
            model_id=model,
            files=[self.data / "spool" / file],
            parameters=parameters,
            profiles={},
            languages=[],
            identity=OFFLINE,
            output_dir=folder,
            deadline_seconds=seconds,
        )

    def tried(self, tries: dict[str, tuple[str, str]], **more: Any) -> dict[str, Any]:
        bundle = self.executor.run(self.spec(tries=json.dumps(tries), **more), abandoned=lambda: False)
        assert bundle.failure is None
        (result,) = bundle.objects
        assert result.path.parent.parent == self.data / "work" and result.path.read_bytes() == b"result"
        return bundle.summary


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Site]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PGPASSWORD", "secret")
    made = Site(tmp_path, **getattr(request, "param", {}))
    yield made
    made.executor.close()


def attempts(site: Site, port: int, door: Path) -> dict[str, tuple[str, str]]:
    """Everything that must fail, and how it is tried."""
    data, own = str(site.data), str(os.getpid())
    return {
        "database": ("read", f"{data}/node.db"),
        "key": ("read", f"{data}/secret.key"),
        "tls key": ("read", f"{site.data.parent}/tls.key"),
        "another study": ("read", f"{data}/spool/other.dcm"),
        "the study where it lies": ("read", f"{data}/spool/own.dcm"),
        "the list of studies": ("read", f"{data}/spool"),
        "a user's files": ("read", "/root"),
        "secrets of the machine": ("read", "/etc/shadow"),
        "a host's own study, to write": ("write", "{study}"),
        "a host's own study, to empty": ("empty", "{study}"),
        "its mode": ("mode", "{study}"),
        "its name": ("remove", "{study}"),
        "another model": ("read", f"{site.models}/two/model.toml"),
        "another model's graph": ("read", f"{site.models}/two/main.onnx"),
        "the list of models": ("read", f"{site.models}"),
        "the list of another model's files": ("read", f"{site.models}/two"),
        "beside its model": ("write", f"{site.models}/one/extra"),
        "its model": ("write", f"{site.models}/one/model.toml"),
        "beside its room": ("write", f"{data}/rooms/x"),
        "a link among its results": ("link", "{out}/link"),
        "the network": ("tcp", str(port)),
        "a service of the machine": ("unix", str(door)),
        "a service without connection": ("datagram", str(door)),
        "a program": ("program", "/bin/true"),
        "the dispatcher, by signal": ("signal", own),
        "the dispatcher, as debugger": ("trace", own),
        "the dispatcher's memory": ("memory", own),
        "the dispatcher's environment": ("environment", own),
        "privileges in a namespace": ("namespace", ""),
    }


def doors(folder: Path) -> tuple[socket.socket, socket.socket, Path]:
    door = Path("/tmp") / f"door-{os.getpid()}"
    door.unlink(missing_ok=True)
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(door))
    unix.listen()
    return socket.create_server(("127.0.0.1", 0)), unix, door


def test_a_host_gets_at_its_study_and_its_model_and_nothing_else(site: Site, tmp_path: Path) -> None:
    tcp, unix, door = doors(tmp_path)
    with tcp, unix:
        wanted = attempts(site, tcp.getsockname()[1], door)
        own = {"its model, to read": ("read", f"{site.models}/one/main.onnx"), "its room": ("write", "{out}/more")}
        told = site.tried(wanted | own)
    door.unlink()
    assert [name for name in wanted if told[name] == "allowed"] == []
    assert told["its model, to read"] == told["its room"] == "allowed" and told["study"] == "own"
    assert (site.data / "spool" / "own.dcm").read_text() == "own"
    assert next((site.data / "rooms").iterdir()).name.split("-")[2] == str(os.getpid())
    found = site.executor.confinement
    assert found is not None and set(found.holds) >= {"network", "files", "calls", "privileges"} and not found.gaps
    assert "NOT" not in found.words


def test_not_shut_in_the_same_tries_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tries are worth something: without confinement they get through."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    site = Site(tmp_path, confine=False)
    tcp, unix, door = doors(tmp_path)
    try:
        with tcp, unix:
            wanted = attempts(site, tcp.getsockname()[1], door)
            harmless = [name for name, (kind, _) in wanted.items() if kind in ("read", "tcp", "unix", "environment")]
            told = site.tried({name: wanted[name] for name in harmless})
    finally:
        site.executor.close()
        door.unlink()
    expected = set(harmless) - {"secrets of the machine", "a user's files"}
    assert {name for name in harmless if told[name] == "allowed"} >= expected
    assert site.executor.confinement is not None and "confine is false" in site.executor.confinement.words


def test_each_job_has_its_own_study_only(site: Site) -> None:
    first = site.tried({})
    (before,) = (site.data / "rooms").glob("host-*/in")
    second = site.tried({"the first": ("read", str(before / first["seen"][0]))}, file="other.dcm")
    assert (first["study"], second["study"]) == ("own", "other") and len(second["seen"]) == 1
    assert second["the first"] == "ENOENT" and not list(before.iterdir())
    site.executor.close()
    assert not list((site.data / "rooms").iterdir())


def test_an_answer_that_names_another_file_is_refused(site: Site) -> None:
    target = site.data / "node.db"
    spec = site.spec("lie").model_copy(update={"parameters": {"file": str(target)}})
    with pytest.raises(HostUntrusted):
        site.executor.run(spec, abandoned=lambda: False)
    assert target.read_text() == "rows" and site.executor.child_pid is None


def test_a_missing_earlier_result_stays_missing(site: Site) -> None:
    gone = StoredFile(path=site.data / "outbox" / "gone.zip", digest="0", size=1)
    spec = site.spec(tries="{}").model_copy(update={"stored": gone})
    assert site.executor.run(spec, abandoned=lambda: False).outcome == "found"


def test_rooms_of_dead_dispatchers_are_taken_away(site: Site) -> None:
    site.tried({})
    (room,) = (site.data / "rooms").iterdir()
    left = room.parent / room.name.replace(f"-{os.getpid()}-", "-4194304-")
    (left / "in").mkdir(parents=True)
    site.executor.discard()
    site.tried({})
    assert not left.exists()


def readable(site: Site, *paths: Path, model: str = "one") -> list[bool]:
    """Which of the files a run of ``model`` can read."""
    told = site.tried({str(n): ("read", str(path)) for n, path in enumerate(paths)}, model=model)
    return [told[str(n)] == "allowed" for n in range(len(paths))]


def test_a_host_for_another_model_takes_the_place_of_the_first(site: Site) -> None:
    """What a process may see can never become more: it is replaced, and does not gather what earlier jobs could see."""
    one, two = (site.models / name / "main.onnx" for name in ("one", "two"))
    assert readable(site, one, two) == [True, False]
    first = site.executor.child_pid
    assert readable(site, one, two) == [True, False] and site.executor.child_pid == first
    assert readable(site, one, two, model="two") == [False, True] and site.executor.child_pid != first
    site.executor._settings = Settings.model_validate(
        {
            "node": {"data_dir": site.data},
            "models": {"folders": [site.models]},
            "destination": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}},
            "rule": [{"name": name, "model": name, "destinations": ["pacs"]} for name in ("one", "two")],
        }
    )
    assert readable(site, one, two) == [True, True], "rules name both, and one host keeps both warm"
    both = site.executor.child_pid
    assert readable(site, one, two, model="two") == [True, True] and site.executor.child_pid == both


def test_a_model_that_comes_later_or_is_exchanged_is_seen(tmp_path: Path, site: Site) -> None:
    site.tried({})
    first = site.executor.child_pid
    site.install("unrelated")
    site.tried({})
    assert site.executor.child_pid == first, "a model that nobody names disturbs nobody"
    newer = site.install("one-next", model="one", version="0.2")
    assert readable(site, site.models / "one" / "main.onnx", newer / "main.onnx") == [True, True]
    shutil.rmtree(site.models / "one")
    site.install("one")
    assert readable(site, site.models / "one" / "main.onnx") == [True]
    elsewhere = site.install("three", catalogue=tmp_path / "elsewhere")
    (site.models / "linked").symlink_to(elsewhere)
    assert readable(site, site.models / "linked" / "main.onnx", elsewhere / "main.onnx", model="three") == [True, True]


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user can be taken only by root")


def _user(monkeypatch: pytest.MonkeyPatch) -> pwd.struct_passwd:
    """The user, who can run an interpreter that is put in the place of this one where it cannot run that."""
    try:
        found = pwd.getpwnam(USER)
    except KeyError:
        pytest.skip(f"this machine has no user {USER}")
    packages = [str(ROOT), *(each for each in sys.path if "site-packages" in each)]
    monkeypatch.setenv("PYTHONPATH", ":".join(packages))
    words = ["-P", "-c", "import node.jobs.model_host"]
    for python in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        try:
            done = subprocess.run([python, *words], user=USER, group=found.pw_gid, extra_groups=[], check=False)
        except OSError:
            continue
        if done.returncode == 0:
            monkeypatch.setattr(sys, "executable", python)
            return found
    pytest.skip(f"no interpreter here can be run by {USER}")


@pytest.fixture
def reachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that another user can get to, as pytest's own are not."""
    folder = Path(f"/tmp/ainode-own-user-{os.getpid()}")
    folder.mkdir(mode=0o711)
    yield folder
    shutil.rmtree(folder)


@as_root
def test_a_host_with_a_user_of_its_own(reachable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _user(monkeypatch)
    site = Site(reachable, user=USER)
    tcp, unix, door = doors(tmp_path)
    try:
        with tcp, unix:
            wanted = attempts(site, tcp.getsockname()[1], door)
            wanted |= {"the copy's owner's": ("write", "{study}")}
            told = site.tried(wanted | {"its room": ("write", "{out}/more")})
            again = site.tried({}, file="other.dcm")
        assert [name for name in wanted if told[name] == "allowed"] == []
        assert told["uid"] == found.pw_uid and told["its room"] == "allowed"
        assert (told["study"], again["study"]) == ("own", "other")
        # Without Landlock it could not read them either: the owner closes them.
        assert not any(
            (site.data / name).stat().st_mode & 0o007 for name in ("node.db", "secret.key", "spool", "outbox")
        )
        assert site.executor.confinement is not None and site.executor.confinement.holds["user"] == USER
        with pytest.raises(DeadlineExceeded):
            site.executor.run(_hanging(site), abandoned=lambda: False)
    finally:
        site.executor.close()
        door.unlink()
    assert not _processes_of(found.pw_uid)


@as_root
def test_a_dispatcher_with_three_capabilities_and_no_root(reachable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the unit with the drop-in `own-user` runs it: a user that may change users and end their processes."""
    found, node = _user(monkeypatch), pwd.getpwnam("daemon")
    for each in (reachable, *reachable.rglob("*")):
        os.chown(each, node.pw_uid, node.pw_gid)
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tests.unit.node_confinement.test_model_host import Site\n"
        f"site = Site(Path({str(reachable)!r}) / 'site', user={USER!r})\n"
        "told = site.tried({'database': ('read', str(site.data / 'node.db')), 'back': ('signal', str(os.getpid()))})\n"
        "print(told['uid'], told['database'], told['back'], site.executor.confinement.words)\n"
        "status = Path(f'/proc/{site.executor.child_pid}/status').read_text()\n"
        "print(status.split('CapEff:')[1].split()[0], status.split('CapAmb:')[1].split()[0])\n"
        "site.executor.close()\n"
    )
    held = "+setuid,+setgid,+kill"
    words = ["setpriv", f"--reuid={node.pw_uid}", f"--regid={node.pw_gid}", f"--groups={found.pw_gid}"]
    words += [
        f"--inh-caps={held}",
        f"--ambient-caps={held}",
        "--bounding-set=-all,+setuid,+setgid,+kill",
        "--no-new-privs",
    ]
    done = subprocess.run(
        [*words, sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "HOME": str(reachable)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{found.pw_uid} EACCES EPERM shut in: user ({USER})"), first
    assert [int(each, 16) for each in second.split()] == [0, 0]
    assert not _processes_of(found.pw_uid)


def test_a_user_that_cannot_be_taken_is_told_and_the_node_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    site = Site(tmp_path, user="nobody-of-that-name")
    try:
        assert site.tried({})["uid"] == os.getuid()
        assert site.executor.confinement is not None
        assert site.executor.confinement.gaps == {"user": "there is no user nobody-of-that-name"}
        assert "NOT shut in: user: there is no user" in site.executor.confinement.words
    finally:
        site.executor.close()


def _hanging(site: Site) -> JobSpec:
    """A run that is never answered: the host is stopped first."""
    site.executor.start()
    assert site.executor.child_pid
    os.kill(site.executor.child_pid, 19)  # SIGSTOP
    return site.spec(tries="{}", seconds=0.5)


def _processes_of(uid: int) -> list[int]:
    until = time.monotonic() + 5
    while (found := [int(each.name) for each in Path("/proc").glob("[0-9]*") if _owner(each) == uid]) and (
        time.monotonic() < until
    ):
        time.sleep(0.05)
    return [each for each in found if b"prying_host" in _command(each)]


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None  # it has just ended


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
