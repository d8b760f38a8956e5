"""The command line: light where it must be, exit codes, names as promised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from node import name_conflict, settings
from node.cli import COMMANDS, main
from node.commands import run as run_command
from node.commands.status import tell_status
from node.errors import ConfigError, NameConflict, NodeNotRunning
from node.folder_lock import only_supervisor
from node.identity import load_identity
from node.listening import Listener, bind, inherited, pass_on
from node.settings import NodeSection, Settings
from node.status import StatusServer, ask, publish, published
from node.toml_file import data_dir_of

VALIDATING = {"pydantic", "pydantic_core"}
HEAVY = {"pydicom", "sqlalchemy", "pynetdicom", "onnxruntime", "numpy", "highdicom", "scipy", "rich"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\n')
    return path


def imported_by(*words: str) -> set[str]:
    script = f"import sys\nfrom node.cli import main\nmain({list(words)!r})\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stderr.split("\n")[-2].split()}


@pytest.mark.parametrize(
    "words", [["--help"], ["status"], ["status", "--help"], ["run", "--help"], ["serve", "--help"]]
)
def test_light_commands_import_nothing_heavy(words: list[str], config: Path) -> None:
    assert not imported_by("--config", str(config), *words) & HEAVY


def test_help_comes_at_once_and_names_every_command() -> None:
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "node", "--help"], capture_output=True, text=True, check=True)
    # Half a second on a machine at rest; the test tolerates a busy one.
    assert time.monotonic() - started < 2.0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert "Usage: ainode" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["bogus"], 2),
        (["check-config"], 2),
        (["retry", "x"], 2),
        (["check-config", "/nowhere/node.toml"], 1),
        (["status"], 1),
        (["jobs"], 1),
        (["send", "nobody", "."], 2),
        (["process", "/nowhere", "--out", "x"], 2),
    ],
)
def test_exit_codes(words: list[str], code: int, config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(config), *words]) == code
    assert capfd.readouterr().err


def test_refusals_bring_their_remedy(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(config), "status"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("ainode: JOB-006: ") and "ainode serve" in lines[1]


def test_database_commands(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> int:
        return main(["--config", str(config), *words])

    assert run("db", "upgrade") == 0
    load_identity(settings.load(config))
    assert run("db", "backup", str(tmp_path / "copy")) == 0
    assert run("db", "backup", str(tmp_path / "copy")) == 1
    assert run("db", "restore", str(tmp_path / "copy")) == 0
    assert "db rescan" in capsys.readouterr().out
    assert run("db", "rescan") == 0
    assert run("ledger", "verify") == 0
    capsys.readouterr()
    for listing in ("jobs", "deliveries", "studies"):
        assert run(listing, "--json") == 0
        assert json.loads(capsys.readouterr().out) == []
    assert run("why", "1.2.3") == 1
    assert run("retry", "7") == 1
    assert run("hold", "1.2.3") == 1
    assert run("jobs", "--state", "no-such") == 2
    assert run("replay") == 2


def test_console_process_is_offered_only_where_it_exists() -> None:
    names = {
        command.name or command.callback.__name__ for command in run_command.app.registered_commands if command.callback
    }
    assert {"receiver", "scheduler", "dispatcher", "sender"} <= names


def test_status_travels_over_the_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100) / "data"
    (deep / "run").mkdir(parents=True)
    publish(deep, {"jobs": {"done": 3}})
    server = StatusServer(deep, lambda: {"answer": 42, "summary": published(deep)})
    server.start()
    assert ask(deep) == {"answer": 42, "summary": {"jobs": {"done": 3}}}
    server.stop()
    with pytest.raises(NodeNotRunning):
        ask(deep)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_status_does_without_the_validating_library(options: list[str], config: Path) -> None:
    """Monitoring asks every few seconds; the library would be two thirds of the cost."""
    assert not imported_by("--config", str(config), "status", *options) & VALIDATING


def test_status_says_what_is_wrong(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data" / "run").mkdir(parents=True)
    report = {
        "node": "n",
        "ae_title": "AINODE",
        "version": "1",
        "uptime_seconds": 5.0,
        "listen": {"host": "127.0.0.1", "port": 104},
        "mode": "instance",
        "survives_power_cut": True,
        "processes": [],
        "disk": {"free_bytes": 3 * 1024**2, "reserve_bytes": 5 * 1024**2},
        "summary": {"at": time.time() - 60, "jobs": {"done": 3}},
    }
    server = StatusServer(tmp_path / "data", lambda: report)
    server.start()
    tell_status(config, as_json=False)
    said = capsys.readouterr().out
    assert "DISK FULL: 3 MiB free, reserve 5 MiB" in said and "60 s old" in said
    report["disk"], report["summary"] = {"free_bytes": 9 * 1024**2, "reserve_bytes": 5 * 1024**2}, {"at": time.time()}
    tell_status(config, as_json=False)
    server.stop()
    said = capsys.readouterr().out
    assert "DISK" not in said and "old" not in said


def test_data_folder_is_the_same_for_those_who_read_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "node.toml"
    for text in ("", '[node]\ndata_dir = "relative/x"\n', '[node]\ndata_dir = "/a/b"\n', '[node]\ndata_dir = "~/c"\n'):
        path.write_text(text)
        assert data_dir_of(path) == settings.load(path).data_dir
    assert data_dir_of(None) == settings.load(None).data_dir


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ('[[rule]]\nname = "r"\nmodel = "nope"\n', "MOD-003: rule.r.model: there is no usable model nope"),
        ('[models]\nfolders = ["/nowhere"]\n', "CFG-001: models.folders: /nowhere is not a folder"),
    ],
)
def test_models_are_looked_for_before_the_start(
    extra: str, words: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text() + extra)
    assert main(["check-config", str(config)]) == 1
    assert words in capsys.readouterr().err


def test_readers_that_are_older_than_label_maps_are_thought_of(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written, said = config.read_text(), "measurements refer to label maps"
    for extra, warned in (('segmentation = "labelmap"', True), ('segmentation = "binary"', False)):
        place = (
            f'\n[destination.d]\nae_title = "D"\nhost = "127.0.0.1"\nport = 1\nprofile = "p"\n[profile.p]\n{extra}\n'
        )
        config.write_text(written + place)
        assert main(["check-config", str(config)]) == 0
        assert (said in capsys.readouterr().out) is warned


def test_one_supervisor_per_folder(tmp_path: Path) -> None:
    with only_supervisor(tmp_path), pytest.raises(ConfigError, match="is running"), only_supervisor(tmp_path):
        pass
    with only_supervisor(tmp_path):
        pass


@pytest.mark.parametrize("folder", ["/proc/ainode", "taken"])
def test_data_folder_that_cannot_be_made_is_said(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").touch()
    Path("node.toml").write_text(f'[node]\ndata_dir = "{folder}"\n')
    for words in (["serve"], ["db", "upgrade"]):
        assert main(["--config", "node.toml", *words]) == 1
        assert "CFG-001: node.data_dir:" in capsys.readouterr().err


def test_port_in_use_is_said(tmp_path: Path) -> None:
    with (
        bind("127.0.0.1", 0) as listener,
        pytest.raises(ConfigError, match=r"cannot listen .* \(Address already in use\)"),
    ):
        bind("127.0.0.1", listener.getsockname()[1])


def test_inherited_socket(tmp_path: Path) -> None:
    """The protocol of sd_listen_fds: descriptor 3, and only for the process named."""
    script = (
        "import os, sys\nfrom node.listening import Listener, inherited\n"
        "if sys.argv[1:]: os.environ['LISTEN_PID'] = sys.argv[1]\n"
        "found = inherited().get(Listener.PLAIN)\n"
        "print(found.getsockname()[1] if found else None, 'LISTEN_FDS' in os.environ)"
    )
    with bind("127.0.0.1", 0) as listener:
        environment = {**os.environ, "LISTEN_FDS": "1"}
        for pid, expected in (([], f"{listener.getsockname()[1]} False"), (["1"], "None False")):
            reader, writer = os.pipe()
            child = os.posix_spawn(
                sys.executable,
                [sys.executable, "-c", script, *pid],
                environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, listener.fileno(), 3), (os.POSIX_SPAWN_DUP2, writer, 1)],
            )
            os.close(writer)
            os.waitpid(child, 0)
            with os.fdopen(reader) as answer:
                assert answer.read().strip() == expected


@pytest.mark.parametrize(
    ("names", "swapped"),
    [
        (None, False),  # ours
        ("dicom-tls:dicom", True),  # systemd's, named, in another order
        ("ainode.socket:ainode.socket", False),  # systemd's, with the names it gives by itself
        ("", False),
    ],
)
def test_two_inherited_sockets(names: str | None, swapped: bool) -> None:
    script = (
        "from node.listening import Listener, inherited\nfound = inherited(tuple(Listener))\n"
        "print(found[Listener.PLAIN].getsockname()[1], found[Listener.TLS].getsockname()[1])"
    )
    with bind("127.0.0.1", 0) as plain, bind("127.0.0.1", 0) as tls:
        environment = dict(os.environ)
        actions = pass_on({Listener.PLAIN: plain, Listener.TLS: tls}, environment)
        if names is not None:
            environment["LISTEN_FDNAMES"] = names
        reader, writer = os.pipe()
        child = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", script],
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1), *actions],
        )
        os.close(writer)
        os.waitpid(child, 0)
        ports = [str(each.getsockname()[1]) for each in (plain, tls)]
        with os.fdopen(reader) as answer:
            assert answer.read().split() == (ports[::-1] if swapped else ports)


@pytest.mark.parametrize(("count", "names"), [("1", "dicom"), ("2", "dicom:dicom")])
def test_sockets_that_do_not_fit_the_configuration(monkeypatch: pytest.MonkeyPatch, count: str, names: str) -> None:
    monkeypatch.setenv("LISTEN_FDS", count)
    monkeypatch.setenv("LISTEN_FDNAMES", names)
    with pytest.raises(ConfigError, match="LISTEN_FD"):
        inherited(tuple(Listener))


def test_identity_is_made_once(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom node.identity import load_identity\n"
        "from node.settings import NodeSection, Settings\n"
        "print(load_identity(Settings(node=NodeSection(data_dir=Path(sys.argv[1])))).device_uid)"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "data")], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    uids = {run.communicate()[0].strip() for run in runs}
    assert len(uids) == 1
    (uid,) = uids
    assert uid.startswith("2.25.") and len(uid) <= 64
    assert {each.name for each in (tmp_path / "data").iterdir()} == {"identity.json"}
    assert load_identity(Settings(node=NodeSection(data_dir=tmp_path / "data"))).device_uid == uid
    (tmp_path / "data" / "identity.json").write_text("{}")
    with pytest.raises(ConfigError, match="restore it from a backup"):
        load_identity(Settings(node=NodeSection(data_dir=tmp_path / "data")))


def test_name_conflict_is_found(tmp_path: Path) -> None:
    name_conflict.check()
    (tmp_path / "other-1.0.dist-info").mkdir()
    (tmp_path / "other-1.0.dist-info" / "RECORD").write_text("other/__init__.py,,\nmodels/__init__.py,,\n")
    with pytest.raises(NameConflict, match=r"other-1\.0"):
        name_conflict.check([str(tmp_path)])
    (tmp_path / "other-1.0.dist-info" / "top_level.txt").write_text("harmless\n")
    name_conflict.check([str(tmp_path)])
