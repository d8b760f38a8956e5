"""When the certificates end that peers have shown to our listener, kept by the receivers for whoever watches."""

from __future__ import annotations

import json
import ssl
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from node.status import run_folder

_FOLDER = "certificates"
_AGAIN_SECONDS = 86400.0
FORGOTTEN_SECONDS = 90 * 86400.0
"""A peer that has not come for so long is of no interest any more."""


class PeerCertificates:
    """Notes what peers of one receiver process show. Safe to share between threads.

    Parameters
    ----------
    data_dir : Path
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = run_folder(data_dir) / _FOLDER
        self._guard = threading.Lock()
        self._noted: dict[str, tuple[float, float]] = {}

    def note(self, ae_title: str, certificate: dict[str, Any] | None) -> None:
        """Note a verified certificate, as ``getpeercert`` gives it; written when it is new, and once a day.

        Parameters
        ----------
        ae_title : str
            Of the peer, admitted under it.
        """
        if not certificate or "notAfter" not in certificate:
            return
        ends, now = float(ssl.cert_time_to_seconds(str(certificate["notAfter"]))), time.time()
        with self._guard:
            before = self._noted.get(ae_title)
            if before is not None and before[0] == ends and now - before[1] < _AGAIN_SECONDS:
                return
            self._noted[ae_title] = (ends, now)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = self._folder / f"{quote(ae_title, safe='')}.json"
            part = path.with_name(f"{path.name}.{threading.get_ident()}.part")
            part.write_text(json.dumps(ends), encoding="ascii")
            part.replace(path)
        except OSError:
            # A full disk: the association matters more, and the next one notes it.
            with self._guard:
                self._noted.pop(ae_title, None)


def shown(data_dir: Path) -> dict[str, float]:
    """AE title → when its certificate ends, seconds since the epoch; of peers that came within three months."""
    found = {}
    for path in sorted((run_folder(data_dir) / _FOLDER).glob("*.json")):
        try:
            if time.time() - path.stat().st_mtime < FORGOTTEN_SECONDS:
                found[unquote(path.stem)] = float(json.loads(path.read_text(encoding="ascii")))
        except (OSError, ValueError, TypeError):
            continue  # written in this moment, or damaged: noted anew with the next association
    return found
