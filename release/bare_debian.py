"""Runs docs/install.md in a bare Debian 12 tree: its own shell blocks, with systemd as process 1 and no network.

Needs root, debootstrap and systemd-nspawn. The tree is made once and kept; each run works on a copy of it.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from release.bundle import ROOT, assemble, build_wheel, pack

_BLOCK = re.compile(r"^```sh ?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PACKAGES = "python3,systemd,systemd-sysv,dbus,openssl,util-linux"
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

# cgroup v2 in a mount name space of its own: the host's hierarchy is left alone.
_BOOT = """
set -e
mount --make-rprivate /
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/{name}
echo $$ > /sys/fs/cgroup/{name}/cgroup.procs
exec systemd-nspawn --register=no --keep-unit --private-network -D {tree} -b --console=read-only
"""

# One association after the other, for as long as the versions change; each that fails is counted.
_LOAD = """
cd /tmp/ainode-try
mkdir -p one && cp "$(find study -name '*.dcm' | head -n 1)" one/
cat > load.sh <<'END'
n=0
while [ ! -e stop ]; do
  n=$((n+1))
  /opt/ainode/current/bin/ainode --config modality.toml send node one >> load.log 2>&1 || echo FAILED >> failed
done
echo $n > calls
END
bash load.sh > /dev/null 2>&1 &
"""

_CHECK = """
[ "$(ainode deliveries --json | grep -c '"state": "committed"')" = 2 ]
[ "$(find /tmp/ainode-try/pacs -name '*.dcm' | wc -l)" = 2 ]
[ "$(ainode jobs --json | grep -c '"run": 1')" = 1 ]
ainode ledger verify
systemctl is-active ainode.target ainode-receiver.socket ainode-receiver ainode-scheduler ainode-sender ainode-dispatcher@1
! systemctl list-units --failed --no-legend 'ainode*' | grep .
"""


def blocks(page: Path) -> dict[str, str]:
    """The page's shell blocks: those without a name one after the other under ``""``, the others by name."""
    found: dict[str, str] = {}
    for name, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
        found[name] = found.get(name, "") + text
    return found


def bare_tree(folder: Path) -> Path:
    """A Debian 12 with Python and systemd, and nothing of ours."""
    if not (folder / "etc/debian_version").exists():
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(folder)], check=True
        )
    return folder


@contextmanager
def booted(tree: Path) -> Iterator[int]:
    """Boot the tree; yield the process id of its systemd as seen from here."""
    name = f"ainode-{tree.name}"
    with tempfile.TemporaryFile() as console:
        boot = subprocess.Popen(
            ["unshare", "--mount", "bash", "-c", _BOOT.format(tree=tree, name=name)],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
        )
        try:
            yield _leader(boot)
        finally:
            boot.terminate()
            boot.wait(60)


def _leader(boot: subprocess.Popen[bytes]) -> int:
    until = time.monotonic() + 90
    while time.monotonic() < until and boot.poll() is None:
        time.sleep(1)
        children = Path(f"/proc/{boot.pid}/task/{boot.pid}/children").read_text().split()
        for child in children:
            inside = _in(int(child), "systemctl is-system-running", check=False)
            if inside.stdout.strip() in ("running", "degraded"):
                return int(child)
    raise SystemExit("the tree did not boot; is this root, with systemd-nspawn?")


def _in(leader: int, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    enter = ["nsenter", "-t", str(leader), "-m", "-u", "-i", "-n", "-p", "-C", "env", "-i", f"PATH={_PATH}"]
    words = [*enter, "HOME=/root", "LANG=C.UTF-8", "bash", "-c", script]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
    if check and done.returncode:
        raise SystemExit(f"FAILED ({done.returncode}):\n{script}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")
    return done


def _later_bundle(bundle: Path, out: Path, key: Path) -> Path:
    """The same tree once more, as a later version."""
    version = (bundle / "VERSION").read_text().strip()
    later = f"{version}.1" if "+" in version else f"{version}+1"
    wheels = out / "wheels"
    shutil.copytree(bundle / "wheels", wheels, ignore=shutil.ignore_patterns("ainode-*.whl"))
    build_wheel(ROOT, later, wheels)
    assemble(ROOT, wheels, later, out / f"ainode-{later}", key=key)
    return out / f"ainode-{later}"


def main(arguments: list[str]) -> int:
    """``python -m release.bare_debian BUNDLE_FOLDER [--tree DIR]``: run the page; 0 when everything held."""
    parser = argparse.ArgumentParser(prog="release.bare_debian")
    parser.add_argument("bundle", type=Path, help="folder of a bundle, as make bundle leaves it")
    parser.add_argument("--tree", type=Path, default=Path("/var/cache/ainode-debian12"))
    given = parser.parse_args(arguments)
    page = blocks(ROOT / "docs" / "install.md")
    with tempfile.TemporaryDirectory(prefix="ainode-bare-", dir=given.tree.parent) as scratch:
        folder = Path(scratch)
        tree = folder / f"tree{folder.name[-8:]}"
        # It has device nodes.
        subprocess.run(["cp", "--archive", "--reflink=auto", bare_tree(given.tree), tree], check=True)
        key = folder / "release.key"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
        public = tree / "root" / "ainode-release.pub"
        subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
        first = folder / given.bundle.name
        assemble(ROOT, given.bundle / "wheels", (given.bundle / "VERSION").read_text().strip(), first, key=key)
        pack(first, tree / "root" / f"{first.name}.tar")
        later = _later_bundle(given.bundle, folder / "later", key)
        shutil.copytree(later, tree / "var" / "later")
        with booted(tree) as leader:
            _run(leader, page)
    print("docs/install.md holds: installed, a study through, upgraded and rolled back under load, backed up, restored")
    return 0


def _run(leader: int, page: dict[str, str]) -> None:
    steps = {
        "bare": '! python3 -m pip --version && [ "$(ls /sys/class/net)" = lo ] && ! ls /opt/ainode',
        "install and a study": f"set -eux\ncd /root\n{page['']}",
        "check": f"set -eux{_CHECK}",
        "again": "set -eux\ncd /root/ainode-*/\nsh install.sh",
        "load": f"set -eu{_LOAD}",
        "upgrade": f"set -eux\nsleep 5\ncd /var/later\n{page['upgrade']}",
        "upgraded": f'set -eux\nsleep 5{_CHECK}\nainode --version | grep -qxF "$(cat /var/later/VERSION)"',
        "backup": f"set -eux\n{page['backup']}",
        "rollback": f'set -eux\n{page["rollback"]}\n! ainode --version | grep -qxF "$(cat /var/later/VERSION)"',
        "load ends": "set -eux\nsleep 5\ncd /tmp/ainode-try\ntouch stop\nsleep 10\ncat calls\n! cat failed",
        "restore": f"set -eux\n{page['restore']}\nsleep 20",
        "all of it": f"set -eux{_CHECK}",
    }
    for name, script in steps.items():
        begun = time.monotonic()
        done = _in(leader, script)
        print(f"== {name}: {time.monotonic() - begun:.0f} s\n{done.stdout.rstrip()}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
