"""How much memory the GPU has free: asked of the driver's own library, else of its tool; None where neither can say.

A model host that is shut in may start no program, so for it the library (NVML) is the only way. Neither takes memory of the
device itself, which the CUDA driver's own ``cuMemGetInfo`` would: it needs a context.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import uuid
from dataclasses import dataclass

MEBIBYTE = 1 << 20
_DRIVER, _LIBRARY, _TOOL = "libcuda.so.1", "libnvidia-ml.so.1", "nvidia-smi"
_SECONDS = 5.0
_LINE = re.compile(r"\s*(\d+)\s*(?:MiB)?\s*,\s*(\d+)\s*(?:MiB)?\s*")


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes of a device: what nobody uses now, and all."""

    free: int
    total: int


class _Uuid(ctypes.Structure):
    _fields_ = [("octets", ctypes.c_ubyte * 16)]


class _Memory(ctypes.Structure):
    """``nvmlMemory_t``."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


def device_memory() -> DeviceMemory | None:
    """Memory of the device that graphs run on: the first one that CUDA sees, whatever others are in the machine."""
    device = device_uuid()
    return ask_library(device) or ask_tool(device)


def device_uuid() -> str | None:
    """Unique id of CUDA's first device, without the kind in front; None where there is no driver.

    CUDA counts other devices, and in another order, than the driver's tools (``CUDA_VISIBLE_DEVICES``).
    """
    try:
        driver = ctypes.CDLL(_DRIVER)
        ask = driver.cuDeviceGetUuid_v2
    except (OSError, AttributeError):
        return None
    device, found = ctypes.c_int(0), _Uuid()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0) or ask(ctypes.byref(found), device):
        return None
    return str(uuid.UUID(bytes=bytes(found.octets)))


def ask_library(device: str | None) -> DeviceMemory | None:
    """Ask NVML.

    Parameters
    ----------
    device : str or None
        As :func:`device_uuid` has it, of a whole device or a part of one (MIG); None: the only one there is.
    """
    try:
        library = ctypes.CDLL(_LIBRARY)
        if library.nvmlInit_v2():
            return None
    except (OSError, AttributeError):
        return None
    try:
        handle, memory = _handle(library, device), _Memory()
        if handle is None or library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
            return None
        return DeviceMemory(int(memory.free), int(memory.total))
    finally:
        library.nvmlShutdown()


def _handle(library: ctypes.CDLL, device: str | None) -> ctypes.c_void_p | None:
    handle, count = ctypes.c_void_p(), ctypes.c_uint()
    if device is None:
        alone = library.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0 and count.value == 1
        return handle if alone and library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)) == 0 else None
    for kind in ("GPU", "MIG"):
        if library.nvmlDeviceGetHandleByUUID(f"{kind}-{device}".encode(), ctypes.byref(handle)) == 0:
            return handle
    return None


def ask_tool(device: str | None) -> DeviceMemory | None:
    """Ask ``nvidia-smi``, for at most a few seconds; ``device`` as for :func:`ask_library`."""
    words = [_TOOL, "--query-gpu=memory.free,memory.total", "--format=csv,noheader,nounits"]
    words += [] if device is None else [f"--id=GPU-{device}"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None  # not there, not allowed to be started, or a driver that hangs
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    # Several lines: nothing says which of them is ours. Words like [N/A] stand where a device does not tell.
    found = _LINE.fullmatch(lines[0]) if done.returncode == 0 and len(lines) == 1 else None
    return None if found is None else DeviceMemory(*(int(each) * MEBIBYTE for each in found.groups()))
