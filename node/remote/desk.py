"""Where a model host's wish to ask a remote model is granted or refused: settings, gate, proof, budget, call, ledger.

The child has no network. It says what it wants over its pipe; this side reads the study's own headers, takes out or
refuses what identifies anybody, proves the finished bytes clean, and only then calls. The child gets the answer's text and
the name of the model that answered, or the code of an error, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from models.errors import NodeError
from models.picture import read_png, write_png
from models.remote_errors import (
    EndpointUnbound,
    HostNotAllowed,
    PictureNotReleasable,
    RemoteError,
    RemoteOff,
    RemoteUnavailable,
)
from node import log
from node.archive import ledger, remote_usage, report_corpus
from node.archive.engine import Store, open_store
from node.dicom.association_slots import AssociationSlots
from node.jobs.specification import JobSpec
from node.remote.chat_client import ChatClient, Completion
from node.remote.identity_values import IdentityValues
from node.remote.picture_gate import PictureGate
from node.remote.proof import prove
from node.remote.request_body import request_body
from node.remote.scrubbing import scrub
from node.settings import EndpointSection, Settings

_LOG = log.logger("remote")
_SLOT_SECONDS = 0.1


class _Words(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    text: str = Field(max_length=200_000)
    free: bool = False


class _Picture(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    png: str = Field(max_length=64_000_000)
    sop_instance_uid: str


class Wish(BaseModel):
    """What a child asks for, as it comes over the pipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    endpoint: str
    system: str = Field(max_length=50_000)
    parts: list[_Words | _Picture] = Field(min_length=1, max_length=64)
    maximum_tokens: int = Field(ge=1, le=16384)
    temperature: float = Field(ge=0, le=2)
    seed: int | None = None


class RemoteDesk:
    """Answers wishes of one executor's child.

    Parameters
    ----------
    settings : Settings
    store : Store or None
        For budget and ledger; opened when first needed where none is given.
    """

    def __init__(self, settings: Settings, store: Store | None = None) -> None:
        self._settings = settings
        self._store = store
        self._slots: dict[str, AssociationSlots] = {}

    def begin(self, spec: JobSpec, message: Mapping[str, Any]) -> Call:
        """Start on a wish in a thread of its own."""
        return Call(self, spec, message)

    def similar(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Message to the child: reports of this site that are like a text. Nothing leaves the node by it."""
        text, language = str(message.get("text", ""))[:20_000], str(message.get("language", ""))
        count = max(1, min(10, int(message.get("count", 1))))
        with self._opened().read() as connection:
            found = report_corpus.similar(connection, text, language=language, count=count)
        return {"kind": "similar", "passages": [asdict(each) for each in found]}

    def serve(self, spec: JobSpec, message: Mapping[str, Any], call: Call) -> dict[str, Any]:
        """Message to the child: the answer, or why there is none."""
        name = str(message.get("endpoint", ""))[:64]
        facts: dict[str, Any] = {"endpoint": name}
        try:
            answer = self._answered(spec, message, call, facts)
        except NodeError as error:
            refused = (
                error if isinstance(error, RemoteError) else RemoteUnavailable(f"the call failed with {error.code}")
            )
            log.say(_LOG, 30, "no answer of a remote model", job=spec.job_id, endpoint=name, error=str(refused))
            self._note(spec, ledger.Kind.REMOTE_REFUSED, {**facts, "code": refused.code, "message": refused.message})
            return {"kind": "chat", "code": refused.code, "message": refused.message}
        self._note(spec, ledger.Kind.REMOTE_ANSWERED, {**facts, "model": answer.model, "tokens": answer.tokens})
        return {"kind": "chat", "text": answer.text, "model": answer.model, "finished": answer.finished}

    def _answered(self, spec: JobSpec, message: Mapping[str, Any], call: Call, facts: dict[str, Any]) -> Completion:
        try:
            wish = Wish.model_validate({key: value for key, value in message.items() if key != "kind"})
        except ValidationError as error:
            raise RemoteUnavailable(
                f"the request has not the form it must have ({error.error_count()} fault(s))"
            ) from error
        endpoint = self._bound(wish.endpoint)
        headers = _headers(spec.files)
        identity = IdentityValues.of(headers.values(), _further(spec))
        body = self._proven(wish, endpoint, headers, identity)
        facts |= {"host": endpoint.host, "asked": endpoint.model, "bytes": len(body)}
        facts["pictures"] = sum(isinstance(part, _Picture) for part in wish.parts)
        facts["request_sha256"] = hashlib.sha256(body).hexdigest()
        client = ChatClient(wish.endpoint, endpoint)
        call.asks_with(client)
        with _Slot(self._slots_of(wish.endpoint, endpoint), f"{spec.job_id}-{id(call)}", endpoint, call):
            try:
                return client.send(body, lambda: self._reserve(wish.endpoint, endpoint))
            finally:
                self._count(wish.endpoint, client.spent)

    def _bound(self, name: str) -> EndpointSection:
        remote = self._settings.remote
        if not remote.enabled:
            raise RemoteOff("[remote] is not enabled")
        endpoint = remote.endpoint.get(name)
        if endpoint is None:
            raise EndpointUnbound(f"there is no [remote.endpoint.{name}]")
        if endpoint.host not in {each.lower() for each in remote.hosts}:
            raise HostNotAllowed(f"endpoint {name}: its host is not in remote.hosts")
        return endpoint

    def _proven(
        self, wish: Wish, endpoint: EndpointSection, headers: Mapping[str, Dataset], identity: IdentityValues
    ) -> bytes:
        """The bytes to send, free of everything that identifies anybody; refused where that cannot be."""
        wanted = [part for part in wish.parts if isinstance(part, _Picture)]
        if wanted and not endpoint.pictures:
            raise PictureNotReleasable(f"endpoint {wish.endpoint} takes no pictures, by its setting")
        shown = []
        for part in wanted:
            if part.sop_instance_uid not in headers:
                raise PictureNotReleasable("a picture comes from no image of this run")
            shown.append((_pixels(part.png), headers[part.sop_instance_uid]))
        released = iter(PictureGate(self._settings.remote).release(shown))
        parts: list[str | bytes] = []
        for each in wish.parts:
            if isinstance(each, _Picture):
                parts.append(write_png(next(released)))
            else:
                parts.append(scrub(each.text, identity) if each.free else each.text)
        body = request_body(
            endpoint,
            system=wish.system,
            parts=parts,
            maximum_tokens=wish.maximum_tokens,
            temperature=wish.temperature,
            seed=wish.seed,
        )
        prove(body, identity)
        return body

    def _reserve(self, name: str, endpoint: EndpointSection) -> None:
        with self._opened().write() as connection:
            remote_usage.reserve(connection, name, _today(), calls=endpoint.daily_calls, tokens=endpoint.daily_tokens)

    def _count(self, name: str, tokens: int) -> None:
        if tokens:
            with self._opened().write() as connection:
                remote_usage.add_tokens(connection, name, _today(), tokens)

    def _slots_of(self, name: str, endpoint: EndpointSection) -> AssociationSlots:
        if name not in self._slots:
            folder = self._settings.data_dir / "run"
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._slots[name] = AssociationSlots(folder / f"remote-{name}.slots", endpoint.concurrency)
        return self._slots[name]

    def _note(self, spec: JobSpec, kind: ledger.Kind, facts: dict[str, Any]) -> None:
        with self._opened().write() as connection:
            ledger.record(connection, time.time(), kind, study_uid=spec.study_uid, job_id=spec.job_id, **facts)

    def _opened(self) -> Store:
        if self._store is None:
            self._store = open_store(self._settings)
        return self._store


class Call:
    """One wish being served. ``done`` is set when :attr:`reply` is there."""

    def __init__(self, desk: RemoteDesk, spec: JobSpec, message: Mapping[str, Any]) -> None:
        self.done = threading.Event()
        self.stopped = threading.Event()
        self.reply: dict[str, Any] = {}
        self._client: ChatClient | None = None
        self._work = (desk, spec, message)
        threading.Thread(target=self._run, name="remote-call", daemon=True).start()

    def cut(self) -> None:
        """End it at once; its reply is of no interest any more, and what has not been sent yet never is."""
        self.stopped.set()
        if self._client is not None:
            self._client.cut()

    def asks_with(self, client: ChatClient) -> None:
        """What :meth:`cut` has to end; at once where that has been called already."""
        self._client = client
        if self.stopped.is_set():
            client.cut()

    def _run(self) -> None:
        desk, spec, message = self._work
        try:
            self.reply = desk.serve(spec, message, self)
        except Exception as error:  # noqa: BLE001  (the child waits for an answer, whatever happened)
            _LOG.error("a call of a remote model failed unexpectedly", exc_info=error)
            self.reply = {"kind": "chat", "code": RemoteUnavailable.code, "message": f"failed: {type(error).__name__}"}
        finally:
            self.done.set()


class _Slot:
    """A place among the calls an endpoint takes at a time, over all processes of this machine."""

    def __init__(self, slots: AssociationSlots, holder: str, endpoint: EndpointSection, call: Call) -> None:
        self._slots, self._holder, self._call = slots, holder, call
        self._until = time.monotonic() + endpoint.deadline_seconds

    def __enter__(self) -> None:
        while not self._slots.take(self._holder):
            if self._call.stopped.wait(_SLOT_SECONDS) or time.monotonic() > self._until:
                raise RemoteUnavailable("as many calls as the endpoint's concurrency allows went on all the time")

    def __exit__(self, *_: object) -> None:
        self._slots.release(self._holder)


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.localtime())


def _headers(files: list[Path]) -> dict[str, Dataset]:
    """SOP Instance UID → header of every file of the run, without pixels.

    Raises
    ------
    PictureNotReleasable
        A file cannot be read: what identifies this study is not known in full.
    """
    found: dict[str, Dataset] = {}
    for path in files:
        try:
            header = dcmread(path, stop_before_pixels=True, force=False)
        except (OSError, InvalidDicomError) as error:
            raise PictureNotReleasable(
                "an image of the study cannot be read, so what identifies it is not known"
            ) from error
        found[str(header.SOPInstanceUID)] = header
    if not found:
        raise PictureNotReleasable("the run has no image, so what identifies its study is not known")
    return found


def _further(spec: JobSpec) -> dict[str, str]:
    """What beside the images identifies the study: a correction, and the order's numbers."""
    further = dict(spec.corrected)
    for at, order in enumerate(spec.procedures):
        for name in (
            "accession_number",
            "requested_procedure_id",
            "step_id",
            "placer_order_number",
            "filler_order_number",
        ):
            if value := getattr(order, name):
                further[f"order-{at}-{name}"] = value
    if spec.prior is not None:
        further["priorDate"] = spec.prior.study_date
    return further


def _pixels(encoded: str) -> Any:
    try:
        return read_png(base64.b64decode(encoded, validate=True))
    except ValueError as error:
        raise PictureNotReleasable(f"a picture is no plain grey PNG ({error})") from error
