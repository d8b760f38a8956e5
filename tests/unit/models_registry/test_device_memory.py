"""Asking how much memory a GPU has free: the driver's tool as it really prints, its library by a stand-in of the same ABI."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from models import device_memory as asked
from models.device_memory import MEBIBYTE, DeviceMemory, ask_library, ask_tool

UUID = "5fb1d5c4-8a0e-4c36-9d2e-1c6a4c8f0a11"
FAILED = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."


def tool(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program of the tool's name that comes first on PATH."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo '45212, 81559'", DeviceMemory(45212 * MEBIBYTE, 81559 * MEBIBYTE)),
        ("echo '45212 MiB, 81559 MiB'", DeviceMemory(45212 * MEBIBYTE, 81559 * MEBIBYTE)),
        ("echo '0, 81559'", DeviceMemory(0, 81559 * MEBIBYTE)),
        ("echo '[N/A], [N/A]'", None),
        ("echo '[Not Supported], 81559'", None),
        ("echo '[Insufficient Permissions], [Insufficient Permissions]'", None),
        ("echo '45212, 81559'; echo '100, 81559'", None),
        ("echo 'No devices were found'; exit 6", None),
        (f'echo "{FAILED}"; exit 9', None),
        ("echo 'Unable to determine the device handle for GPU0000:17:00.0: Unknown Error'", None),
        ("printf '\\377\\376'", None),
        ("true", None),
        ("kill -9 $$", None),
    ],
)
def test_the_tool_is_believed_where_it_says_two_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, found: DeviceMemory | None
) -> None:
    tool(tmp_path, monkeypatch, script)
    assert ask_tool(None) == found


def test_it_is_asked_about_the_device_that_cuda_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, monkeypatch, f'[ "$3" = "--id=GPU-{UUID}" ] && echo "7, 9" || echo "1, 2"')
    assert ask_tool(UUID) == DeviceMemory(7 * MEBIBYTE, 9 * MEBIBYTE)
    monkeypatch.setattr(asked, "_DRIVER", "no-such-driver.so")
    monkeypatch.setattr(asked, "_LIBRARY", "no-such-library.so")
    assert asked.device_memory() == DeviceMemory(1 * MEBIBYTE, 2 * MEBIBYTE)


def test_a_driver_that_hangs_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, monkeypatch, "exec sleep 30")
    monkeypatch.setattr(asked, "_SECONDS", 0.3)
    started = time.monotonic()
    assert ask_tool(None) is None and time.monotonic() - started < 5


def test_no_tool_no_library_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(asked, "_LIBRARY", "no-such-library.so")
    monkeypatch.setattr(asked, "_DRIVER", "no-such-driver.so")
    assert asked.device_uuid() is None and asked.device_memory() is None


LIBRARY = """
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory_t;
int nvmlInit_v2(void) { return START; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = COUNT; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)0x7f0000000001; return index; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    *device = (void *)0x7f0000000002; return strcmp(uuid, KIND "-5fb1d5c4-8a0e-4c36-9d2e-1c6a4c8f0a11") ? 6 : 0;
}
int nvmlDeviceGetMemoryInfo(void *device, memory_t *found) {
    memory_t one = {8000000000ull, 3000000000ull, 5000000000ull}, two = {90000000000ull, 70000000000ull, 20000000000ull};
    *found = device == (void *)0x7f0000000001 ? one : two; return 0;
}
int cuInit(unsigned flags) { return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    static const unsigned char mine[16] =
        {0x5f, 0xb1, 0xd5, 0xc4, 0x8a, 0x0e, 0x4c, 0x36, 0x9d, 0x2e, 0x1c, 0x6a, 0x4c, 0x8f, 0x0a, 0x11};
    memcpy(uuid, mine, 16); return device;
}
"""


def library(folder: Path, *, start: int = 0, count: int = 1, kind: str = "GPU") -> Path:
    """A library with the functions of NVML and of the CUDA driver that are called."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("there is no C compiler to make a stand-in for the driver's library with")
    source, made = folder / "fake.c", folder / f"libfake-{start}-{count}-{kind}.so"
    source.write_text(LIBRARY)
    words = [f"-DSTART={start}", f"-DCOUNT={count}", f'-DKIND="{kind}"', "-shared", "-fPIC", "-w"]
    subprocess.run([compiler, *words, "-o", made, source], check=True)
    return made


def test_the_library_is_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = str(library(tmp_path))
    monkeypatch.setattr(asked, "_LIBRARY", made)
    monkeypatch.setattr(asked, "_DRIVER", made)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert asked.device_uuid() == UUID
    assert asked.device_memory() == DeviceMemory(70_000_000_000, 90_000_000_000)
    assert ask_library(None) == DeviceMemory(3_000_000_000, 8_000_000_000)
    assert ask_library("00000000-0000-0000-0000-000000000000") is None


@pytest.mark.parametrize(
    ("words", "device", "found"),
    [
        ({"kind": "MIG"}, UUID, DeviceMemory(70_000_000_000, 90_000_000_000)),
        ({"count": 2}, None, None),
        ({"start": 9}, UUID, None),
    ],
)
def test_parts_of_a_device_several_and_no_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: dict, device: str | None, found: DeviceMemory | None
) -> None:
    monkeypatch.setattr(asked, "_LIBRARY", str(library(tmp_path, **words)))
    assert ask_library(device) == found
