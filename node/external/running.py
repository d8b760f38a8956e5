"""Starts a program whose input lies ready: by namespaces or by a container runtime, whoever asks.

Where a model host is shut in it can start nothing itself; it then asks over its pipe (:mod:`node.jobs.program_pipe`), and the
dispatcher does what stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from models.card import file_digest
from models.program_errors import ProgramFailed
from node.confinement.privileges import Account
from node.external import container
from node.external.layouts import INSIDE, Places, environment
from node.external.sandbox import Limits, Mount, run_confined
from node.settings.external import ExternalSection

INPUT, OUTPUT, MODEL, OWN = "input", "output", "model", "own"
"""Folders of a run, below its own."""


class ProgramRun(BaseModel):
    """One start of a program; see :class:`models.programs.ProgramRequest`.

    Attributes
    ----------
    folder : Path
        Holds :data:`INPUT`, :data:`OUTPUT`, :data:`MODEL` and :data:`OWN`.
    tell : bool
        Whether the program's last words may stand in an error.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_id: str
    folder: Path
    image: str = ""
    command: list[str] = Field(max_length=1000)
    layout: Literal["mercure", "map"]
    seconds: float = Field(gt=0, le=86400)
    memory_mb: int = Field(ge=1)
    output_mb: int = Field(ge=1)
    tell: bool


@dataclass(frozen=True, slots=True)
class Started:
    """What identifies the program beyond its card, and how it was shut in."""

    provenance: dict[str, str]
    isolation: str


class Runner(Protocol):
    """Runs a program to its end."""

    def __call__(self, run: ProgramRun, site: ExternalSection) -> Started:
        """Raises :class:`models.program_errors.ProgramError`."""
        ...


def run_program(
    run: ProgramRun, site: ExternalSection, *, user: Account | None = None, stopped: Callable[[], bool] = lambda: False
) -> Started:
    """Run a program.

    Parameters
    ----------
    user : Account or None
        Whom it runs as; None for our own user. Containers run as ours.
    stopped : callable
        Asked several times a second; True kills it.

    Raises
    ------
    ProgramError
    """
    limits = Limits(run.seconds, run.memory_mb, run.output_mb, site.maximum_processes)
    if run.image:
        return _contained(run, site, limits, stopped)
    isolate = run.model_id not in site.unisolated
    places = INSIDE[run.layout]
    if not isolate:
        places = Places(*(str(run.folder / name) for name in (INPUT, OUTPUT, MODEL)))
    provenance = _executable(run.command[0])
    run_confined(
        [word.replace("{model}", places.model) for word in run.command],
        mounts=_mounts(run, places),
        output=run.folder / OUTPUT,
        work=run.folder / OWN,
        environment=environment(places, run.layout),
        limits=limits,
        readable=site.folders,
        isolate=isolate,
        tell=run.tell,
        user=user,
        stopped=stopped,
    )
    return Started(provenance, "namespaces" if isolate else "none, allowed by the site")


def _contained(run: ProgramRun, site: ExternalSection, limits: Limits, stopped: Callable[[], bool]) -> Started:
    places = INSIDE[run.layout]
    runtime = container.find_runtime(site.runtime)
    identity = container.image_id(runtime, run.image)
    container.run_container(
        runtime,
        run.image,
        [word.replace("{model}", places.model) for word in run.command],
        mounts=_mounts(run, places),
        output=run.folder / OUTPUT,
        environment=environment(places, run.layout),
        limits=limits,
        stopped=stopped,
    )
    return Started({"image": identity}, f"container by {Path(runtime).name}")


def _mounts(run: ProgramRun, places: Places) -> list[Mount]:
    return [
        Mount(run.folder / INPUT, places.input),
        Mount(run.folder / MODEL, places.model),
        Mount(run.folder / OUTPUT, places.output, writable=True),
    ]


def _executable(word: str) -> dict[str, str]:
    """Digest of an executable of the machine; the model's own files are pinned by the card."""
    if word.startswith("{model}/"):
        return {}
    try:
        return {"executable": file_digest(Path(word).resolve(strict=True))}
    except OSError as error:
        raise ProgramFailed(f"{word} cannot be read: {error.strerror}") from error
