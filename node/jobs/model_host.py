"""The model-host child: holds warm models, runs one job at a time, answers over its socket.

It is spawned, never forked, gets no database settings, and shuts itself in (:mod:`node.confinement`) before it reads
anything: it has no network and sees the models that rules and its job name, the study of its job and its own room. What it
wants to ask a remote model, or what program it wants started, goes over the socket, and the other side decides. Killing it is
the dispatcher's only means against a run that hangs, so it keeps nothing that matters.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import NodeError
from node import log
from node.confinement.shut_in import Plan, shut_in
from node.jobs import wire
from node.jobs.chat_pipe import ChatPipe
from node.jobs.corpus_pipe import CorpusPipe
from node.jobs.progress_pipe import ProgressPipe
from node.jobs.self_tests import SelfTests
from node.jobs.specification import JobSpec
from node.process import collector_at_rest, die_with_parent, forbid_core_dumps

if TYPE_CHECKING:
    from models.registry import Registry

_LOG = log.logger("model_host")
_NETWORK_EVENTS = frozenset({"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"})


def main(arguments: Sequence[str]) -> int:
    """Serve the socket inherited as file descriptor ``arguments[0]`` until the other side closes it.

    ``arguments`` go on with the parent's process id, the log level and, where the host is to shut itself in, the plan as JSON.
    """
    descriptor, parent_pid, level = int(arguments[0]), int(arguments[1]), arguments[2]
    die_with_parent(parent_pid)
    forbid_core_dumps()
    log.set_up("model-host", level)
    with socket.socket(fileno=descriptor) as connection:
        confinement = None
        if len(arguments) > 3:
            confinement = shut_in(Plan.model_validate_json(arguments[3]))
            # A new namespace makes the kernel forget it.
            die_with_parent(parent_pid)
        forbid_network()
        try:
            wire.send(connection, {"kind": "hello", "confinement": confinement and confinement.model_dump()})
            _serve(connection)
        except (wire.WireBroken, BrokenPipeError):
            return 0  # the dispatcher has gone or wants a fresh child; nobody is left to answer
    return 0


def forbid_network() -> None:
    """Refuse every attempt of Python code in this process to open a connection. Cannot be undone."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _NETWORK_EVENTS:
            raise PermissionError("a model host has no network")

    sys.addaudithook(refuse)


def _serve(connection: socket.socket) -> None:
    registries: dict[tuple[Any, ...], Registry] = {}
    tests = SelfTests()
    chat = ChatPipe(connection)
    while (message := wire.receive(connection)) is not None:
        if message["kind"] == "warm":
            reply = _warm(message, registries, tests, chat)
        elif message["kind"] == "test":
            reply = _test(message, registries, tests, chat)
        else:
            spec = JobSpec.model_validate(message["spec"])
            reply = _run(spec, [Path(each) for each in message["folders"]], registries, tests, chat)
        wire.send(connection, reply)


def _registry(
    folders: Sequence[Path], threads: int, registries: dict[tuple[Any, ...], Registry], chat: ChatPipe
) -> Registry:
    from models.registry import Registry as Models
    from node.external.desk import ProgramDesk
    from node.jobs.program_pipe import ProgramPipe

    key = (tuple(folders), threads, _installed(folders))
    if key not in registries:
        # Installed, exchanged or taken away since: from the next job on, and what was loaded of the old files goes.
        for outdated in registries.values():
            outdated.unload()
        registries.clear()
        registries[key] = Models(
            models=folders,
            threads=threads,
            chat=chat,
            corpus=CorpusPipe(chat.connection),
            programs=ProgramDesk(ProgramPipe(chat.connection)),
            progress=ProgressPipe(chat.connection),
        )
    return registries[key]


def _installed(folders: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """What tells one state of the models' folders from another: their cards, by name, inode and time."""
    from models.card import CARD_FILE

    found = []
    for card in (folder / CARD_FILE for folder in folders):
        try:
            about = card.stat()
        except OSError:
            continue  # it is being taken away
        found.append((str(card), about.st_ino, about.st_mtime_ns))
    return tuple(found)


def _warm(
    message: dict[str, Any], registries: dict[tuple[Any, ...], Registry], tests: SelfTests, chat: ChatPipe
) -> dict[str, Any]:
    """Import everything, load and test the models that rules name. One that fails is reported when a job needs it."""
    started = time.monotonic()
    with collector_at_rest():
        import dicom_sr.warm
        import node.jobs.execution  # noqa: F401  (imported for its weight)
        from models.lineage import lineage
        from models.room_on_device import where_there_is_room

    dicom_sr.warm.prewarm()
    problems = []
    registry = _registry([Path(each) for each in message["folders"]], message["threads"], registries, chat)
    registry.serve(message["approved"], required=message["require_approval"])
    for model_id in message["models"]:
        try:
            model = registry.get(model_id)
            where_there_is_room(partial(lineage, model, standing_in=True), model.warm)
            tests.require(registry, model_id)
        except NodeError as error:
            problems.append(str(error))
            log.say(_LOG, 40, "a model that rules name cannot be loaded", model=model_id, error=str(error))
    return {"kind": "ready", "seconds": time.monotonic() - started, "problems": problems, "models": tests.state}


def _test(
    message: dict[str, Any], registries: dict[tuple[Any, ...], Registry], tests: SelfTests, chat: ChatPipe
) -> dict[str, Any]:
    """Ask one model for its known answers. One that answers wrong is moved, or refused to the runs that come."""
    registry = _registry([Path(each) for each in message["folders"]], message["threads"], registries, chat)
    registry.serve(message["approved"], required=message["require_approval"])
    passed = True
    try:
        tests.again(registry, message["model"])
    except NodeError as error:
        passed = False
        log.say(_LOG, 40, "a model did not pass its daily self-test", model=message["model"], error=str(error))
    return {"kind": "tested", "passed": passed, "models": tests.state}


def _run(
    spec: JobSpec,
    folders: Sequence[Path],
    registries: dict[tuple[Any, ...], Registry],
    tests: SelfTests,
    chat: ChatPipe,
) -> dict[str, Any]:
    from node.jobs.execution import execute_guarded

    def tested() -> Registry:
        registry = _registry(folders, spec.threads, registries, chat)
        registry.serve(spec.approved, required=spec.require_approval)
        if spec.runs_model:
            for model_id in filter(None, (spec.model_id, spec.report_model)):
                tests.require(registry, model_id)
        return registry

    bundle = execute_guarded(spec, tested)
    for registry in registries.values():
        tests.look(registry)
    return {"kind": "result", "bundle": bundle.model_dump(mode="json"), "models": tests.state}


if __name__ == "__main__":
    status = main(sys.argv[1:])
    # Native libraries may crash while they take themselves down; everything is written already.
    sys.stderr.flush()
    os._exit(status)
