"""The dispatcher's side of :mod:`node.jobs.program_pipe`: starts what a host asks for, as far as card and site allow.

The host has parsed a study's files and is not trusted. It can have the program that its job's card names and no other, on a
folder of its own and no other; that folder is taken out of its reach before anything in it is looked at.
"""

from __future__ import annotations

import shutil
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.card import file_digest
from models.errors import NodeError
from models.program_errors import NotIsolated, ProgramError
from models.registry import Registry
from node.confinement.privileges import Account
from node.errors import HostUntrusted
from node.external.running import INPUT, MODEL, OUTPUT, OWN, ProgramRun, Started, run_program
from node.jobs.room import Room
from node.jobs.specification import JobSpec
from node.settings.external import ExternalSection


class ProgramStart:
    """One start, in a thread of its own that lives as long as the program.

    Parameters
    ----------
    spec : JobSpec
        The job that goes on.
    message : dict
        The host's wish.
    site : ExternalSection
        What this site allows.
    room : Room
        The host's.
    user : Account or None
        Whom the program runs as.

    Attributes
    ----------
    done : threading.Event
        Set when there is a reply.
    reply : dict
        Message to the host.
    """

    def __init__(
        self, spec: JobSpec, message: Mapping[str, Any], site: ExternalSection, room: Room, user: Account | None
    ) -> None:
        self._spec, self._message, self._site, self._room, self._user = spec, message, site, room, user
        self._cut = threading.Event()
        self.done = threading.Event()
        self.reply: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._serve, name="program", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Kill the program, with everything it started."""
        self._cut.set()
        self._thread.join()

    def _serve(self) -> None:
        try:
            started = self._started()
            self.reply = {"kind": "program", "provenance": started.provenance, "isolation": started.isolation}
        except ProgramError as error:
            self.reply = {"kind": "program", "code": error.code, "message": error.message}
        except NodeError as error:
            self.reply = {"kind": "program", "code": NotIsolated.code, "message": f"{error.code}: {error.message}"}
        except OSError as error:
            self.reply = {"kind": "program", "code": NotIsolated.code, "message": error.strerror or "no room to run in"}
        finally:
            self.done.set()

    def _started(self) -> Started:
        try:
            run = ProgramRun.model_validate(self._message.get("run"))
        except ValidationError as error:
            raise HostUntrusted("the model host asks for a program in words that are none") from error
        if run.folder.parent != self._room.outside or run.folder.name in ("", ".", ".."):
            raise HostUntrusted("the model host asks for a program on a folder that is not its own")
        place = self._room.program / "run"
        run.folder.rename(place)
        try:
            self._check(run, place)
            return run_program(
                run.model_copy(update={"folder": place}), self._site, user=self._user, stopped=self._cut.is_set
            )
        finally:
            shutil.rmtree(place / OWN, ignore_errors=True)
            place.rename(run.folder)

    def _check(self, run: ProgramRun, place: Path) -> None:
        """That it is this job's program, and its folders are folders."""
        registry = Registry(self._spec.model_folders, threads=1)
        registry.serve(self._spec.approved, required=self._spec.require_approval)
        model = registry.get(self._spec.model_id)
        # Few sites have such a program; the family's arithmetic is a fifth of a dispatcher's start.
        from models.adapters.external import ExternalProgram

        recipe = ExternalProgram(model).recipe
        asked = (run.model_id, run.image, tuple(run.command), run.layout)
        if asked != (model.card.id, recipe.image, recipe.command, recipe.layout):
            raise HostUntrusted("the model host asks for another program than its job's card names")
        bounds = (recipe.deadline_seconds, recipe.maximum_memory_mb, recipe.maximum_output_mb)
        if any(asked > bound for asked, bound in zip((run.seconds, run.memory_mb, run.output_mb), bounds, strict=True)):
            raise HostUntrusted("the model host asks for more than its job's card allows")
        if run.tell and not recipe.deidentified_input:
            raise HostUntrusted("the model host wants to tell the words of a program that sees the patient's name")
        for name in (INPUT, OUTPUT, MODEL, OWN):
            if not stat.S_ISDIR((place / name).lstat().st_mode):
                raise HostUntrusted("the model host has made something else of a program's folders")
        # Looked at here: what is verified and what is run must be one thing, whoever copied it.
        for pinned in model.card.files.values():
            copy = place / MODEL / pinned.file
            if not stat.S_ISREG(copy.lstat().st_mode) or file_digest(copy) != pinned.sha256:
                raise HostUntrusted("the model host has changed its job's program")
