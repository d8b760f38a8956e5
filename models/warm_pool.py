"""Which models stay loaded: as many as fit, the least recently used ones go first, and what cannot fit is not tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from models.device_memory import MEBIBYTE, DeviceMemory, device_memory
from models.errors import OutOfMemory

ROOM = 2
"""Times its files that should be free for a graph: weights, and the least that runs beside them."""
_CGROUP = Path("/sys/fs/cgroup")


class Loaded(Protocol):
    """A model that has something loaded."""

    def unload(self) -> bool:
        """Let go of it; False where there is nothing."""
        ...

    @property
    def on_device(self) -> bool:
        """Whether it holds memory of a GPU."""
        ...


def available_bytes() -> int | None:
    """Memory that this process can still get: of the machine, and of its control group; None where nobody says."""
    found = [each for each in (_of_machine(Path("/proc/meminfo")), _of_group(_CGROUP)) if each is not None]
    return min(found) if found else None


class WarmPool:
    """Models of one registry, by when they were used last.

    Parameters
    ----------
    available : callable
        Bytes that are free; None where that is not known.
    device : callable, optional
        Memory of the GPU; None where that is not known. :func:`models.device_memory.device_memory` when left out.
    """

    def __init__(
        self,
        available: Callable[[], int | None] = available_bytes,
        device: Callable[[], DeviceMemory | None] | None = None,
    ) -> None:
        self._available = available
        self._device = device or device_memory
        self._used: dict[int, Loaded] = {}

    def use(self, model: Loaded) -> None:
        """``model`` is being used now."""
        self._used.pop(id(model), None)
        self._used[id(model)] = model

    def admit(self, model: Loaded, size: int, name: str) -> None:
        """Make room for a graph of ``size`` bytes of ``model``: others are unloaded, the one used longest ago first.

        Raises
        ------
        OutOfMemory
            Not even its weights would fit, with everything else unloaded.
        """
        self.use(model)
        for other in [each for each in self._used.values() if each is not model]:
            free = self._available()
            if free is None or free >= size * ROOM:
                return
            self._unload(other)
        free = self._available()
        if free is not None and free < size:
            raise OutOfMemory(f"{name} has {size // MEBIBYTE} MiB, and {free // MEBIBYTE} MiB are free")

    def admit_on_device(self, model: Loaded, wanted: int, least: int, name: str, provider: str) -> None:
        """Make room on the GPU: other models on it are unloaded, the one used longest ago first.

        Parameters
        ----------
        wanted, least : int
            Bytes for which others have to go, and without which it is not tried. Where nobody knows what is free, it is.

        Raises
        ------
        OutOfMemory
            Less than ``least`` is free with everything else of this process unloaded; its detail names ``provider``.
        """
        self.use(model)
        for other in self._others_on_device(model):
            found = self._device()
            if found is None or found.free >= wanted:
                return
            self._unload(other)
        found = self._device()
        if found is not None and found.free < least:
            raise OutOfMemory(
                f"{name} needs {least // MEBIBYTE} MiB of the GPU, and {found.free // MEBIBYTE} of its "
                f"{found.total // MEBIBYTE} MiB are free",
                provider=provider,
            )

    def clear_device(self, model: Loaded) -> bool:
        """Have every other model leave the GPU; False where none was there."""
        return any([self._unload(other) for other in self._others_on_device(model)])

    def on_device(self) -> DeviceMemory | None:
        """Memory of the GPU; None where that is not known."""
        return self._device()

    def _others_on_device(self, model: Loaded) -> list[Loaded]:
        return [each for each in self._used.values() if each is not model and each.on_device]

    def _unload(self, other: Loaded) -> bool:
        unloaded = other.unload()
        if unloaded:
            del self._used[id(other)]
        return unloaded


def _of_machine(path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _of_group(folder: Path) -> int | None:
    """What is left to the control group this process sees as its root, where it has a limit (version 2)."""
    try:
        most = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        return None if most == "max" else max(0, int(most) - used)
    except (OSError, ValueError):
        return None
