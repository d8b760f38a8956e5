"""A GPU that is none: no machine of the tests has one. Sessions compute on the CPU, and say that they are on CUDA.

What they fail with is what ONNX Runtime's CUDA provider says, as reported by its users.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as state

from models import loaded_graphs
from models.device_memory import DeviceMemory
from models.session import CPU, CUDA

GIB = 1 << 30
ARENA = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. Name:'c' "
    "Status Message: "
    "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, "
    "onnxruntime::Stream*) Failed to allocate memory for requested buffer of size 939524096"
)
LIMITED = "BFCArena::AllocateRawInternal Available memory of 34699008 is smaller than requested bytes of 945041920"
CUDA_2 = "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0 ; expr=cudaStreamCreateWithFlags(&stream, 1);"
CUBLAS = "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; expr=cublasCreate(&cublas_handle_);"
CUDNN = "CUDNN failure 4003: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0"
BROKEN = "CUDA failure 700: an illegal memory access was encountered ; GPU=0"
HOST = "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc"


def error(words: str) -> Exception:
    """As the runtime raises it."""
    return (state.Fail if ": FAIL :" in words or "failure" in words else state.RuntimeException)(words)


class Gpu:
    """Memory of the device, and what goes wrong on it.

    Attributes
    ----------
    free : int or None
        Bytes; None where nobody can be asked. Sessions take none of it.
    at_creation, at_run : str
        What sessions fail with; empty: they do not.
    """

    def __init__(self) -> None:
        self.free: int | None = 8 * GIB
        self.at_creation = self.at_run = ""
        self.opened: list[str] = []
        self.options: dict[str, dict[str, str]] = {}
        self.before_run: Callable[[], None] = lambda: None

    def memory(self) -> DeviceMemory | None:
        return None if self.free is None else DeviceMemory(self.free, 16 * GIB)


class _OnGpu:
    def __init__(self, real: Any, gpu: Gpu) -> None:
        self._real, self._gpu = real, gpu

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]

    def run(self, *words: Any) -> Any:
        self._gpu.before_run()
        if self._gpu.at_run:
            raise error(self._gpu.at_run)
        return self._real.run(*words)


def pretend(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """A GPU in this machine, for the rest of the test."""
    gpu, real = Gpu(), onnxruntime.InferenceSession

    def opened(path: str, options: Any, providers: list[Any], enable_fallback: int = 1) -> Any:
        assert enable_fallback == 0, "the runtime would leave the device by itself, and say nothing"
        gpu.options = dict(each for each in providers if isinstance(each, tuple))
        gpu.opened.append(CUDA if gpu.options else providers[0])
        if not gpu.options:
            return real(path, options, providers=providers)
        if gpu.at_creation:
            raise error(gpu.at_creation)
        return _OnGpu(real(path, options, providers=[CPU]), gpu)

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    monkeypatch.setattr(loaded_graphs, "providers_here", lambda: (CUDA, CPU))
    monkeypatch.setattr("models.warm_pool.device_memory", gpu.memory)
    return gpu
