"""A model host whose runs do what the rule's name says; everything else is the real host."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from node.jobs import execution, model_host
from node.jobs.specification import Failure, JobSpec, ResultBundle

_real = execution.execute_guarded


def _write(spec: JobSpec, progress: Any) -> None:
    """What a model does that writes a text, up to where the test has seen it."""
    for tokens in range(1, 31):
        progress.made("writer", tokens, 64)
        time.sleep(0.05)
    while not (spec.output_dir.parent / "tmp" / "seen").exists():
        time.sleep(0.02)


def _execute(spec: JobSpec, registry: Callable[[], Any]) -> ResultBundle:
    if spec.rule.startswith("real") or spec.status_only is not None or spec.accounts is not None or spec.retraction:
        return _real(spec, registry)
    if spec.rule == "write":
        _write(spec, registry().progress)
    if spec.rule == "hang":
        time.sleep(60)
    if spec.rule == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if spec.rule == "fork-and-hang":
        if (child := os.fork()) == 0:
            time.sleep(61.25)
        (spec.output_dir / "forked").write_text(str(child))
        time.sleep(60)
    if spec.rule == "connect":
        import socket

        try:
            socket.create_connection(("127.0.0.1", 9))
        except PermissionError as error:
            return ResultBundle(outcome="found", summary={"refused": str(error)})
    if spec.rule == "full" and (spec.output_dir.parent / "tmp" / "full").exists():

        def no_room() -> Any:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return _real(spec, no_room)
    if spec.rule == "fail":
        return ResultBundle(failure=Failure(code="MOD-005", message="as told"))
    variables = sorted(name for name in os.environ if name.startswith(("PG", "AINODE", "http")))
    return ResultBundle(outcome="found", summary={"pid": os.getpid(), "variables": variables})


def _warm(message: dict[str, Any], registries: dict[Any, Any], tests: Any, chat: Any) -> dict[str, Any]:
    if "deadly" in message["models"]:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "endless" in message["models"]:
        time.sleep(60)
    return {"kind": "ready", "seconds": 0.0, "problems": []}


if __name__ == "__main__":
    execution.execute_guarded = _execute  # type: ignore[assignment]
    model_host._warm = _warm  # type: ignore[assignment]
    os._exit(model_host.main(sys.argv[1:]))
