"""The port behind :class:`models.programs.Programs`: from a request to an answer, with nothing left behind."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.program_errors import InputWithheld
from models.programs import ProgramAnswer, ProgramRequest
from node.external.handing_over import hand_over
from node.external.layouts import write_task
from node.external.outputs import mask_of, report_of, written_files
from node.external.running import INPUT, MODEL, OUTPUT, OWN, ProgramRun, Runner, run_program
from node.settings.external import ExternalSection

# What the umask leaves of it: nobody else's, but where a host has a user of its own its group is the node's as well.
_FOLDER_MODE = 0o770
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class ProgramDesk:
    """Runs the programs of one model host.

    Parameters
    ----------
    runner : callable
        Starts them; one that asks somebody else where this process may start nothing.
    """

    def __init__(self, runner: Runner = run_program) -> None:
        self._runner = runner
        self._site = ExternalSection()
        self._files: Mapping[str, Sequence[Path]] = {}
        self._work: Path | None = None

    def prepare(self, site: ExternalSection, files: Mapping[str, Sequence[Path]], work: Path | None) -> None:
        """Say what this site allows, which files each input role is made of, and where to work, until it is said anew.

        Parameters
        ----------
        work : Path or None
            Folder in which a temporary one is made; None takes the system's.
        """
        self._site, self._files, self._work = site, files, work

    def run(self, request: ProgramRequest) -> ProgramAnswer:
        """See :meth:`models.programs.Programs.run`."""
        files = list(dict.fromkeys(path for role in request.roles for path in self._files.get(role, ())))
        if not files:
            raise InputWithheld("the files of the images are not known here")
        folder = Path(self._work or tempfile.gettempdir()) / f".program-{uuid.uuid4().hex}"
        folder.mkdir(mode=_FOLDER_MODE)
        try:
            return _Run(request, self._site, folder, self._runner).answer(files)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _Run:
    """One run, in a folder of its own."""

    def __init__(self, request: ProgramRequest, site: ExternalSection, folder: Path, runner: Runner) -> None:
        self._request, self._site, self._folder, self._runner = request, site, folder, runner
        self._input, self._output, self._model = (folder / name for name in (INPUT, OUTPUT, MODEL))
        for each in (self._input, self._output, self._model, folder / OWN):
            each.mkdir(mode=_FOLDER_MODE)

    def answer(self, files: Sequence[Path]) -> ProgramAnswer:
        request, started = self._request, time.monotonic()
        handed = hand_over(files, self._input, deidentified=request.deidentified, model_digest=request.digest)
        write_task(request, self._input)
        self._copy_model()
        ran = self._runner(self._start(), self._site)
        written = written_files(self._output)
        return ProgramAnswer(
            labels_zyx=mask_of(request, written, handed.frames_of_reference),
            report=report_of(request.report, written, self._output),
            provenance=ran.provenance,
            facts={
                "isolation": ran.isolation,
                "images": handed.count,
                "deidentified": request.deidentified,
                "files_written": len(written),
                "seconds": round(time.monotonic() - started, 1),
            },
        )

    def _start(self) -> ProgramRun:
        request = self._request
        return ProgramRun(
            model_id=request.model_id,
            folder=self._folder,
            image=request.image,
            command=list(request.command),
            layout=request.layout,
            seconds=request.deadline_seconds,
            memory_mb=request.memory_mb,
            output_mb=request.output_mb,
            tell=request.deidentified,
        )

    def _copy_model(self) -> None:
        """The pinned files and no other; looked at again, because what is verified and what is run must be one thing."""
        for name, path in self._request.files.items():
            target = self._model / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # Executable from the start: a host that is shut in may not change a file's mode.
            with path.open("rb") as source, os.fdopen(os.open(target, _NEW_FILE, 0o550), "wb") as copy:
                shutil.copyfileobj(source, copy)
