"""A study as a receiver and the scheduler leave it: filed, indexed and complete, without either of them running."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from node import planning
from node.archive import index
from node.archive.engine import Store
from node.archive.headers import read_header
from node.arrival import Instant
from node.settings import Settings


def receive_complete(settings: Settings, store: Store, files: Sequence[Path]) -> str:
    """File and index the images of one study, let it be complete, and return its UID."""
    for file in files:
        header = read_header(file)
        relative = f"aa/{header.study_uid}/{header.sop_instance_uid}.dcm"
        target = settings.data_dir / "spool" / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        with store.write() as connection:
            index.record_instance(
                connection,
                time.time(),
                header=header,
                path=relative,
                digest=hashlib.sha256(file.read_bytes()).hexdigest(),
                size=file.stat().st_size,
                association_id=None,
                calling_ae_title="MODALITY",
                called_ae_title="AINODE",
            )
    with store.write() as connection:
        planning.step(connection, time.time(), Instant("boot", time.monotonic()), header.study_uid, settings)
    return header.study_uid
