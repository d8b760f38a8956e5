"""The port behind :class:`models.programs.Programs`: from a request to an answer, with nothing left behind."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.card import file_digest
from models.program_errors import InputWithheld, ProgramFailed
from models.programs import ProgramAnswer, ProgramRequest
from node.external import container
from node.external.handing_over import hand_over
from node.external.layouts import INSIDE, Places, environment, write_task
from node.external.outputs import mask_of, report_of, written_files
from node.external.sandbox import Limits, Mount, run_confined
from node.settings.external import ExternalSection


class ProgramDesk:
    """Runs the programs of one model host."""

    def __init__(self) -> None:
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
        with tempfile.TemporaryDirectory(prefix=".program-", dir=self._work) as folder:
            return _Run(request, self._site, Path(folder)).answer(files)


class _Run:
    """One run, in a folder of its own."""

    def __init__(self, request: ProgramRequest, site: ExternalSection, folder: Path) -> None:
        self._request, self._site = request, site
        self._input, self._output, self._model, self._own = (
            folder / name for name in ("input", "output", "model", "own")
        )
        for each in (self._input, self._output, self._model, self._own):
            each.mkdir(mode=0o700)

    def answer(self, files: Sequence[Path]) -> ProgramAnswer:
        request, started = self._request, time.monotonic()
        handed = hand_over(files, self._input, deidentified=request.deidentified, model_digest=request.digest)
        write_task(request, self._input)
        self._copy_model()
        provenance, how = self._contained() if request.image else self._confined()
        written = written_files(self._output)
        return ProgramAnswer(
            labels_zyx=mask_of(request, written, handed.frames_of_reference),
            report=report_of(request.report, written, self._output),
            provenance=provenance,
            facts={
                "isolation": how,
                "images": handed.count,
                "deidentified": request.deidentified,
                "files_written": len(written),
                "seconds": round(time.monotonic() - started, 1),
            },
        )

    def _copy_model(self) -> None:
        """The pinned files and no other; looked at again, because what is verified and what is run must be one thing."""
        for name, path in self._request.files.items():
            target = self._model / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            target.chmod(0o500)

    def _confined(self) -> tuple[dict[str, str], str]:
        request = self._request
        isolate = request.model_id not in self._site.unisolated
        places = INSIDE[request.layout] if isolate else Places(str(self._input), str(self._output), str(self._model))
        command = [word.replace("{model}", places.model) for word in request.command]
        provenance = self._executable(request.command[0])
        run_confined(
            command,
            mounts=self._mounts(places),
            output=self._output,
            work=self._own,
            environment=environment(places, request.layout),
            limits=self._limits,
            readable=self._site.folders,
            isolate=isolate,
            tell=request.deidentified,
        )
        return provenance, "namespaces" if isolate else "none, allowed by the site"

    def _contained(self) -> tuple[dict[str, str], str]:
        request, places = self._request, INSIDE[self._request.layout]
        runtime = container.find_runtime(self._site.runtime)
        identity = container.image_id(runtime, request.image)
        container.run_container(
            runtime,
            request.image,
            [word.replace("{model}", places.model) for word in request.command],
            mounts=self._mounts(places),
            output=self._output,
            environment=environment(places, request.layout),
            limits=self._limits,
        )
        return {"image": identity}, f"container by {Path(runtime).name}"

    def _mounts(self, places: Places) -> list[Mount]:
        return [
            Mount(self._input, places.input),
            Mount(self._model, places.model),
            Mount(self._output, places.output, writable=True),
        ]

    @property
    def _limits(self) -> Limits:
        request = self._request
        return Limits(request.deadline_seconds, request.memory_mb, request.output_mb, self._site.maximum_processes)

    def _executable(self, word: str) -> dict[str, str]:
        """Digest of an executable of the machine; the model's own files are pinned by the card."""
        if word.startswith("{model}/"):
            return {}
        try:
            return {"executable": file_digest(Path(word).resolve(strict=True))}
        except OSError as error:
            raise ProgramFailed(f"{word} cannot be read: {error.strerror}") from error
