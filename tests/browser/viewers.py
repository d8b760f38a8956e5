"""Viewers from npm: where `make viewers` put them, and how the scripts beside this file are run with them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.peers import require, require_file

HERE = Path(__file__).parent
_TIMEOUT_SECONDS = 150


def installed() -> Path:
    """Folder with the packages; skips where it is missing, fails where CI is set."""
    require("node")
    folder = Path(os.environ.get("AINODE_VIEWERS", ROOT / ".viewers"))
    require_file(folder / ".done", "make viewers")
    return folder


def run_script(name: str, folder: Path, task: Mapping[str, object]) -> Any:
    """Run a script with a task; what it saw.

    Parameters
    ----------
    folder : Path
        Existing folder for the script's files; node looks for packages beside the script.
    """
    packages = installed() / "node_modules"
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, folder)
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(packages)
    (folder / "task.json").write_text(json.dumps(task))
    command = [require("node"), str(folder / name), str(folder / "task.json"), str(folder / "seen.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    return json.loads((folder / "seen.json").read_text())
