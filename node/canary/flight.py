"""One flight of the canary: make a phantom study, send it as a modality would, wait for its committed result."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, select

from dicom_sr.phantom_study import PatientFacts, write_phantom_study
from models.errors import NodeError
from models.phantom import LesionSpec, Phantom, make_phantom
from node.archive import canary_runs
from node.archive.canary_runs import CanaryState, Stage
from node.archive.engine import Store
from node.archive.tables import deliveries, instances, jobs, objects
from node.delivery.delivery_states import DeliveryState
from node.dicom.association import Peer
from node.dicom.storage_scu import send_paths
from node.errors import CanaryLost
from node.jobs.queue import JobState
from node.settings import CANARY, Settings

PATIENT = PatientFacts(
    name="CANARY^PHANTOM", patient_id="CANARY", birth_date="", sex="O", age="", accession_number="CANARY"
)
"""Whoever meets it knows what it is: no person is called so."""

_LOOK_SECONDS = 0.25
_LESION_ML = 12.0
_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Flight:
    """How a run ended. ``stage`` says how far it came, empty where it came back."""

    run_id: int
    study_uid: str
    state: CanaryState
    seconds: float
    stage: str = ""
    message: str = ""


class Flights:
    """Sends one phantom after the other.

    Parameters
    ----------
    settings : Settings
        With the canary enabled, as :func:`node.settings.load` gives them.
    store : Store
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._phantom: Phantom | None = None

    def fly(self, stopping: threading.Event) -> Flight | None:
        """Send a phantom and wait for its result; None where the process is to stop.

        Raises
        ------
        StoreUnavailable
            Not even the beginning could be noted.
        """
        folder = self._settings.data_dir / "run" / "canary" / secrets.token_hex(8)
        begun = time.monotonic()
        try:
            try:
                study_uid = self._write(folder)
            except OSError as error:
                # Not even the phantom finds room: the run is noted under a name that is no study.
                return self._noted(f"2.25.{secrets.randbits(120)}", begun, Stage.SEND, error.strerror or "no room")
            with self._store.write() as connection:
                run_id = canary_runs.begin(connection, time.time(), study_uid)
            stage, message = self._follow(study_uid, folder, begun, stopping)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if stopping.is_set():
            return None
        return self._ended(run_id, study_uid, begun, stage, message)

    def _noted(self, study_uid: str, begun: float, stage: Stage, message: str) -> Flight:
        with self._store.write() as connection:
            run_id = canary_runs.begin(connection, time.time(), study_uid)
        return self._ended(run_id, study_uid, begun, stage, message)

    def _ended(self, run_id: int, study_uid: str, begun: float, stage: Stage | None, message: str) -> Flight:
        state = CanaryState.BACK if stage is None else CanaryState.LOST
        where = "" if stage is None else str(stage)
        with self._store.write() as connection:
            canary_runs.end(connection, time.time(), run_id, state, stage=where, message=message)
        return Flight(run_id, study_uid, state, time.monotonic() - begun, where, message)

    def _write(self, folder: Path) -> str:
        """Write a new phantom study; return its Study Instance UID."""
        if self._phantom is None:
            self._phantom = make_phantom(
                20617,
                shape_zyx=(20, 96, 96),
                spacing_mm_zyx=(6.0, 2.2, 2.2),
                lesions=[LesionSpec(_LESION_ML, "left", centre_mm=(38.0, 0.0, 20.0))],
                t2_shine_through=False,
            )
        study = write_phantom_study(
            self._phantom, folder, seed=secrets.randbits(62), enhanced=True, include_b0=False, patient=PATIENT
        )
        return study.study_uid

    def _follow(
        self, study_uid: str, folder: Path, begun: float, stopping: threading.Event
    ) -> tuple[Stage | None, str]:
        """Send and watch; return where it failed and why, None where it came back."""
        try:
            sent = send_paths(self._peer(), [folder])
        except NodeError as error:
            return Stage.SEND, str(error)
        if not sent.complete:
            refused = next((each.detail for each in sent.reports if each.detail), "not every object was taken")
            return Stage.SEND, refused
        until = begun + self._settings.canary.limit_seconds
        while not stopping.wait(_LOOK_SECONDS):
            with self._store.read() as connection:
                stage, message = how_far(connection, study_uid)
            if stage is None or stage is Stage.ANSWER or time.monotonic() >= until:
                return stage, message
        return None, ""

    def _peer(self) -> Peer:
        receive, canary = self._settings.receive, self._settings.canary
        host = _EVERY_INTERFACE.get(receive.host, receive.host)
        return Peer(
            ae_title=self._settings.node.ae_title,
            host=host,
            port=receive.tls.port if canary.tls is not None else receive.port,
            calling_ae_title=canary.ae_title,
            connect_timeout_seconds=min(10.0, canary.limit_seconds),
            response_timeout_seconds=canary.limit_seconds,
            tls=canary.tls,
            username=canary.username,
            passcode_file=canary.passcode_file,
        )


def how_far(connection: Connection, study_uid: str) -> tuple[Stage | None, str]:
    """How far a canary's study has come, and what is waited for; None where it is all the way back."""
    job = connection.execute(
        select(jobs).where(jobs.c.study_uid == study_uid, jobs.c.rule == CANARY).order_by(jobs.c.id.desc()).limit(1)
    ).one_or_none()
    if job is None:
        count = connection.execute(
            select(func.count()).select_from(instances).where(instances.c.study_uid == study_uid)
        ).scalar_one()
        return Stage.ARRIVAL, f"{count} objects are indexed, no run was started"
    if job.state in (JobState.FAILED, JobState.DEAD, JobState.CANCELLED):
        return Stage.ANSWER, f"the run is {job.state}: {job.error_code or ''} {job.message or ''}".strip()
    if job.state != JobState.DONE:
        return Stage.RUN, f"the run is {job.state}"
    outcome = (job.result or {}).get("outcome")
    if outcome != "found":
        return Stage.ANSWER, f"{CanaryLost.code}: the model says {outcome} where the phantom has a lesion"
    states = list(
        connection.execute(
            select(deliveries.c.state)
            .join(objects, objects.c.sop_instance_uid == deliveries.c.sop_instance_uid)
            .where(objects.c.job_id == job.id)
        ).scalars()
    )
    stored = [state for state in states if state in (DeliveryState.STORED, DeliveryState.COMMITTED)]
    if not states or len(stored) < len(states):
        return Stage.DELIVERY, f"{len(stored)} of {len(states)} results are stored"
    committed = states.count(DeliveryState.COMMITTED)
    if committed < len(states):
        return Stage.COMMITMENT, f"{committed} of {len(states)} results are committed"
    return None, ""
