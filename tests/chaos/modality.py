"""A modality that does not give up: every image is sent until it was acknowledged."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE, evt


def send_until_acknowledged(files: Sequence[Path], port: int, *, timeout_seconds: float = 120.0) -> list[str]:
    """Send each file until status 0x0000 came back; return the SOP Instance UIDs in that order."""
    datasets = {str(item.SOPInstanceUID): item for item in map(dcmread, files)}
    acknowledged: list[str] = []
    deadline = time.monotonic() + timeout_seconds
    while len(acknowledged) < len(datasets):
        if time.monotonic() > deadline:
            raise AssertionError(f"only {len(acknowledged)} of {len(datasets)} images were acknowledged in time")
        missing = [item for uid, item in datasets.items() if uid not in acknowledged]
        entity = AE("MODALITY")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = 5
        for sop_class in {item.SOPClassUID for item in missing}:
            entity.add_requested_context(sop_class, [item.file_meta.TransferSyntaxUID for item in missing[:1]])
        association = entity.associate(
            "127.0.0.1", port, ae_title="AINODE", evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay)]
        )
        if not association.is_established:
            time.sleep(0.1)
            continue
        for item in missing:
            if not association.is_established:
                break
            try:
                status = association.send_c_store(item)
            except RuntimeError:  # the association died under us
                break
            if status and status.Status == 0x0000:
                acknowledged.append(str(item.SOPInstanceUID))
        if association.is_established:
            association.release()
    return acknowledged


def _no_delay(event: evt.Event) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
