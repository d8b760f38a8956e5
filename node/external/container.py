"""Runs an OCI image with podman or docker: no network, nothing of this machine but input and output, never fetched."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from models.program_errors import ProgramFailed, RuntimeMissing
from node.external.sandbox import Limits, Mount, end, watch

_RUNTIMES = ("podman", "docker")
_ASKING_SECONDS = 30.0
_PASSED = ("PATH", "HOME", "XDG_RUNTIME_DIR")


def find_runtime(wanted: Literal["auto", "podman", "docker"]) -> str:
    """Path of the runtime; podman before docker.

    Raises
    ------
    RuntimeMissing
        There is none.
    """
    for name in _RUNTIMES if wanted == "auto" else (wanted,):
        if found := shutil.which(name):
            return found
    raise RuntimeMissing(f"no container runtime ({wanted}) was found")


def image_id(runtime: str, image: str) -> str:
    """The id of a loaded image.

    Raises
    ------
    RuntimeMissing
        It is not loaded, or the runtime does not answer.
    """
    words = [runtime, "image", "inspect", "--format", "{{.Id}}", image]
    try:
        done = subprocess.run(
            words, env=_surroundings(), capture_output=True, text=True, timeout=_ASKING_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeMissing(f"{Path(runtime).name} does not answer") from error
    if done.returncode or not done.stdout.strip():
        raise RuntimeMissing(f"{Path(runtime).name} has no image {image}, or does not run")
    return done.stdout.strip()


def container_words(
    runtime: str,
    name: str,
    image: str,
    command: Sequence[str],
    mounts: Sequence[Mount],
    environment: Mapping[str, str],
    limits: Limits,
) -> list[str]:
    """The runtime's command line."""
    words = [
        *(runtime, "run", "--rm", f"--name={name}", "--pull=never", "--network=none", "--read-only"),
        *("--cap-drop=ALL", "--security-opt=no-new-privileges", f"--user={os.getuid()}:{os.getgid()}"),
        *(f"--pids-limit={limits.processes}", f"--memory={limits.memory_mb}m", "--tmpfs=/tmp:rw,mode=1777"),
        *(f"--ulimit=fsize={limits.output_mb << 20}", "--ulimit=core=0", "--log-driver=none"),
    ]
    if Path(runtime).name == "podman":
        words.append("--userns=keep-id")
    for mount in mounts:
        words += ["--volume", f"{mount.source}:{mount.target}:{'rw' if mount.writable else 'ro'}"]
    for key, value in environment.items():
        if key != "PATH":  # an image knows its own
            words += ["--env", f"{key}={value}"]
    return [*words, image, *command]


def run_container(
    runtime: str,
    image: str,
    command: Sequence[str],
    *,
    mounts: Sequence[Mount],
    output: Path,
    environment: Mapping[str, str],
    limits: Limits,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Run an image to its end, or until ``stopped`` says so.

    Raises
    ------
    ProgramFailed, ProgramLate, OutputTooLarge
    """
    name = f"ainode-{uuid.uuid4().hex}"
    process = subprocess.Popen(
        container_words(runtime, name, image, command, mounts, environment, limits),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_surroundings(),
        start_new_session=True,
    )

    def kill() -> None:
        # The client's end is not the container's.
        words = [runtime, "rm", "--force", name]
        subprocess.run(words, env=_surroundings(), capture_output=True, timeout=_ASKING_SECONDS, check=False)

    try:
        code = watch(process, output, limits, kill=kill, stopped=stopped)
    finally:
        end(process)
    if code:
        raise ProgramFailed(f"the container ended with exit code {code}", code=code)


def _surroundings() -> dict[str, str]:
    return {key: os.environ[key] for key in _PASSED if key in os.environ}
