"""Conversion of a checkpoint in a process of its own: without network, without the node's files, killed when it hangs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

from models.errors import ModelImportFailed
from models.export import steps
from models.export.systems import SYSTEMS, WITH_VARIANTS, described
from models.export.weight_kinds import FLOAT, NAMES
from node.errors import UsageError

_SECONDS = 3600.0


def import_model(
    system: str,
    checkpoint: Path,
    folder: Path,
    *,
    weights: str = FLOAT,
    most_changed: float | None = None,
    decoder: Path | None = None,
    variant: str = "",
    hears: steps.Hears = lambda step: None,
) -> dict[str, Any]:
    """Convert ``checkpoint`` into the new folder ``folder``.

    Parameters
    ----------
    system : str
        One of :data:`models.export.systems.SYSTEMS`.
    weights : str
        One of :data:`models.export.weight_kinds.NAMES`: ``float`` as published; others for a model that writes text, with the
        drift measured.
    most_changed : float or None
        Share of words, 0 to 1, that smaller weights may change; None: that of
        :data:`models.export.weight_kinds.MOST_CHANGED`.
    decoder : Path or None
        Folder in which onnxruntime-genai's builder wrote the decoder; None: the node writes it itself.
    variant : str
        Which of the published files with smaller weights to take, as it is called (``int8``, ``q4`` …); empty: none.
    hears : callable
        Told of each step that begins; :func:`planned` says how many there will be.

    Returns
    -------
    dict
        The report, as it stands in ``import.json``.

    Raises
    ------
    UsageError
        No such system or kind of weights, the folder exists, or the export extra is not installed.
    ModelImportFailed
        The converter refused; its own code and reason are in the message.
    """
    if system not in SYSTEMS:
        raise UsageError(f"no converter for {system}; there are {', '.join(sorted(SYSTEMS))}")
    if weights not in NAMES or not 0 <= (most_changed or 0) <= 1:
        raise UsageError(f"weights are {', '.join(NAMES)}, and the share of words that may change lies between 0 and 1")
    if variant and (system not in WITH_VARIANTS or re.fullmatch(r"[a-z0-9_]{1,16}", variant) is None):
        raise UsageError(f"a variant is the ending of a published file, as int8; only for {', '.join(WITH_VARIANTS)}")
    if weights != FLOAT and system in WITH_VARIANTS:
        raise UsageError("published graphs are not made smaller here; name a published one with --variant")
    if folder.exists():
        raise UsageError(f"{folder} exists; name a new folder, so that no installed model is replaced")
    if importlib.util.find_spec("torch") is None:
        raise UsageError("conversion needs the export extra: pip install 'ainode[export]' in an environment of its own")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made beside its place and moved there whole: a broken import leaves nothing that looks like a model.
    with tempfile.TemporaryDirectory(prefix=".import-", dir=folder.parent) as work:
        made = Path(work, "model")
        made.mkdir()
        options = ["--weights", weights]
        options += [] if most_changed is None else ["--most-changed", str(most_changed)]
        options += [] if decoder is None else ["--decoder", str(decoder.resolve())]
        options += ["--variant", variant] if variant else []
        report = _converted(system, checkpoint.resolve(), made.resolve(), options, hears)
        made.rename(folder)
    return report


def planned(system: str, *, weights: str = FLOAT) -> int:
    """How many steps the import of a system has."""
    known = described().get(system)
    return steps.planned(1 if known is None else known.graphs, smaller=weights != FLOAT)


def _converted(system: str, checkpoint: Path, folder: Path, options: list[str], hears: steps.Hears) -> dict[str, Any]:
    words = [*options, "--", system, str(checkpoint), str(folder)]
    command = [*_isolated(), sys.executable, "-P", "-m", "models.export", *words]
    environment = {key: os.environ[key] for key in ("PATH", "LANG", "HOME") if key in os.environ}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        code, last = _listened(command, folder, environment, complaints, hears)
        complaints.seek(0)
        if code is None:
            raise ModelImportFailed(f"{system}: the conversion took longer than {_SECONDS / 60:.0f} minutes")
        if code:
            raise ModelImportFailed(f"{system}: {_reason(complaints.read())}", returncode=code)
    return json.loads(last)


def _listened(
    command: list[str], folder: Path, environment: dict[str, str], complaints: IO[str], hears: steps.Hears
) -> tuple[int | None, str]:
    """Run a converter and pass its steps on. Its exit status, None where it took too long, and its last line."""
    late, last = threading.Event(), ""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=complaints,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as child:

        def end() -> None:
            late.set()
            os.killpg(child.pid, signal.SIGKILL)

        timer = threading.Timer(_SECONDS, end)
        timer.start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                if (step := steps.read(line)) is not None:
                    hears(step)
                elif line.strip():
                    last = line
        except BaseException:
            # Whoever waits has given up, as by Ctrl-C, which a process of its own session does not get.
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise
        finally:
            timer.cancel()
    return (None if late.is_set() else child.returncode), last


def _isolated() -> list[str]:
    """Words before the command that take the network away, where the system lets this user do that."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return []
    words = [unshare, "--net", "--map-root-user", "--"] if os.getuid() else [unshare, "--net", "--"]
    allowed = subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    return words if allowed else []


def _reason(stderr: str) -> str:
    """What the child said last: its refusal, or the end of its traceback."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    try:
        refusal = json.loads(lines[-1])
        return f"{refusal['code']}: {refusal['message']} {refusal['remedy']}"
    except (IndexError, ValueError, KeyError, TypeError):
        return lines[-1] if lines else "the converter died without a word"
