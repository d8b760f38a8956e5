"""What ``models`` needs from whoever runs the programs of external models: a port. ``node.external`` is behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from models.volume import Volume


@dataclass(frozen=True, slots=True)
class ProgramRequest:
    """One run of a program.

    Attributes
    ----------
    image : str
        OCI image, pinned by digest; empty for a process.
    command : tuple of str
        Argument list, never a shell's line; ``{model}`` stands for the folder of ``files``.
    files : dict
        File name beside the card → verified file. Nothing else of the folder is handed over.
    layout : str
        Where input and output lie, and how the program is told: ``"mercure"`` or ``"map"``.
    settings : dict
        For the program, JSON-serialisable.
    roles : sequence of str
        Inputs whose images are handed over.
    deidentified : bool
        Whether copies without identity are handed over.
    memory_mb, output_mb : int
        Limits, in MiB.
    mask : str
        ``"seg"`` (a DICOM SEG), ``"nifti"`` (labels in a NIfTI-1 file) or ``"none"``.
    grid : Volume
        The input whose voxels a mask must lie on.
    report : str
        Name of the JSON file with numbers; empty where none is read.
    """

    model_id: str
    digest: str
    image: str
    command: tuple[str, ...]
    files: Mapping[str, Path]
    layout: Literal["mercure", "map"]
    settings: Mapping[str, Any]
    roles: Sequence[str]
    deidentified: bool
    deadline_seconds: float
    memory_mb: int
    output_mb: int
    mask: Literal["seg", "nifti", "none"]
    grid: Volume
    report: str


@dataclass(frozen=True, slots=True)
class ProgramAnswer:
    """What came out, as values.

    Attributes
    ----------
    labels_zyx : numpy.ndarray or None
        uint8 on the grid of the request, 0 for none; None where the program wrote no mask.
    report : dict
        Content of the JSON file.
    provenance : dict
        What identifies the program beyond the card, and decides about a result: digest of the executable, image id.
    facts : dict
        For the evidence: isolation, seconds, files written and left unread.
    """

    labels_zyx: npt.NDArray[np.uint8] | None
    report: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class Programs(Protocol):
    """Runs programs, shut in."""

    def run(self, request: ProgramRequest) -> ProgramAnswer:
        """Run one to its end, read what it wrote, and leave nothing of it behind.

        Raises
        ------
        ProgramError
        """
        ...
