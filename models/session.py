"""One ONNX graph, ready to run: the only module that knows ONNX Runtime at run time.

A CPU-only host with the GPU build still *lists* CUDA and TensorRT as available, and a session asked for them falls back
without an error. So they are asked for only where the driver finds a device (and TensorRT's own library is there), and
:attr:`Session.provider` is what really runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _state

from models.errors import GraphMismatch, InferenceFailed, OutOfMemory, OutputNotFinite, ProviderMissing

Held: TypeAlias = Any
"""A tensor that stays where it was computed (``onnxruntime.OrtValue``, of which there are no types)."""
CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
_TENSORRT_LIBRARY = "libnvinfer.so.10"
"""What ONNX Runtime's provider loads by this very name."""
_FATAL_ONLY = 4
_HOST_MEMORY = ("bad_alloc", "bad allocation", "host_allocation_failed")
_OUT_OF_MEMORY = (
    *_HOST_MEMORY,
    "failed to allocate memory",  # ONNX Runtime's arena, of either kind of memory
    "available memory of",  # the same, "is smaller than requested bytes of …"
    "bfcarena",
    "out of memory",  # CUDA failure 2; TensorRT's allocator
    "cudaerrormemoryallocation",
    "status_alloc_failed",  # cuBLAS, cuDNN 8
    "device_allocation_failed",  # cuDNN 9
)
"""How ONNX Runtime 1.31 and what it calls say it; the classes of its errors do not tell."""
_RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    MemoryError,
    _state.Fail,
    _state.InvalidArgument,
    _state.InvalidGraph,
    _state.InvalidProtobuf,
    _state.NoSuchFile,
    _state.NotImplemented,
    _state.RuntimeException,
    _state.EPFail,
    RuntimeError,
    ValueError,
)


def gpu_count() -> int:
    """Number of devices the CUDA driver reports; 0 where there is no driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return int(count.value)


def providers_here() -> tuple[str, ...]:
    """Execution providers this host really has, fastest first; those of a GPU only with the build *and* a device."""
    built = onnxruntime.get_available_providers()
    if CUDA not in built or gpu_count() == 0:
        return (CPU,)
    return (TENSORRT, CUDA, CPU) if TENSORRT in built and _has_library(_TENSORRT_LIBRARY) else (CUDA, CPU)


def preferred_providers() -> tuple[str, ...]:
    """Execution providers to ask for where nobody says which. Never TensorRT: it builds an engine for minutes at each start."""
    return tuple(each for each in providers_here() if each != TENSORRT)


def _has_library(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


class Session:
    """A loaded graph.

    Parameters
    ----------
    path : Path
        The ONNX file.
    providers : sequence of str, optional
        Execution providers, best first; :func:`preferred_providers` when None.
    threads : int
        Threads within one operator; 0 leaves it to ONNX Runtime. Of some graphs the last digits depend on it.
    memory_arena : bool
        Keep memory for the next run: that of the CPU, or, where it is False on a GPU, no more than was asked for.
    model : str
        Id of the model it belongs to, for whoever is told that there is no room for it.

    Attributes
    ----------
    inputs, outputs : tuple of str
        Names, in graph order.
    provider : str
        The execution provider that really runs.

    Raises
    ------
    GraphMismatch
        The file is no graph this runtime can load.
    OutOfMemory
        It did not fit: into the memory of the device that its detail names as ``provider``, else into that of the machine.
    """

    def __init__(
        self,
        path: Path,
        *,
        providers: Sequence[str] | None = None,
        threads: int = 0,
        memory_arena: bool = True,
        model: str = "",
    ) -> None:
        # The library prints to stderr when a provider's libraries are missing; the options' own level does not reach that.
        onnxruntime.set_default_logger_severity(_FATAL_ONLY)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = memory_arena
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        options.log_severity_level = _FATAL_ONLY
        wanted = tuple(providers) if providers is not None else preferred_providers()
        self._name, self._model = path.name, model
        self.provider = wanted[0]
        if self.provider != CPU:
            _find_libraries()
        try:
            # By itself it would go on without the device, print so, and say nothing to us: at creation and in each run.
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=_with_options(wanted, memory_arena), enable_fallback=0
            )
        except _RUNTIME_ERRORS as error:
            if _is_memory(error):
                raise self._out_of_memory(error, "does not fit into memory") from error
            raise GraphMismatch(f"{path.name} cannot be loaded: {_first_line(error)}") from error
        self.inputs = tuple(each.name for each in self._session.get_inputs())
        self.outputs = tuple(each.name for each in self._session.get_outputs())
        self.provider = str(self._session.get_providers()[0])
        if self.provider not in wanted:
            # The runtime falls back to the CPU without an error; who did not ask for that is told.
            raise ProviderMissing(
                f"{path.name} is to run on {' or '.join(wanted)}, and this machine has only {self.provider}"
            )

    @property
    def shapes(self) -> dict[str, tuple[int | str | None, ...]]:
        """Shape of each input and output as the file states it: numbers, names of free sizes, None where nothing is said."""
        values = (*self._session.get_inputs(), *self._session.get_outputs())
        return {each.name: tuple(each.shape or ()) for each in values}

    def run(
        self,
        feeds: Mapping[str, npt.NDArray[Any]],
        outputs: Sequence[str] | None = None,
        *,
        finite: bool = True,
    ) -> dict[str, npt.NDArray[Any]]:
        """Run the graph once.

        Parameters
        ----------
        feeds : mapping
            Arrays by input name, of the graph's types and shapes.
        outputs : sequence of str, optional
            Which outputs to compute; all when None.
        finite : bool
            Refuse NaN and infinity. False only where infinity is meant, e.g. masked logits.

        Raises
        ------
        InferenceFailed
            The runtime refused the inputs or failed.
        OutOfMemory
            An allocation failed; the same run may succeed later.
        OutputNotFinite
            An output holds NaN or infinity.
        """
        names = list(outputs) if outputs is not None else list(self.outputs)
        try:
            values = self._session.run(names, dict(feeds))
        except _RUNTIME_ERRORS as error:
            raise self._failed(error) from error
        result = dict(zip(names, values, strict=True))
        if finite:
            for name, value in result.items():
                if value.dtype.kind == "f" and not np.isfinite(value).all():
                    raise OutputNotFinite(f"output {name} of {self._name} holds NaN or infinity", output=name)
        return result

    def step(
        self,
        feeds: Mapping[str, npt.NDArray[Any]],
        held: Mapping[str, Held],
        read: Sequence[str],
    ) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Held]]:
        """Run the graph once and leave what the next step needs where it was computed.

        Parameters
        ----------
        feeds : mapping
            Arrays by input name.
        held : mapping
            Values of an earlier step, by input name.
        read : sequence of str
            Outputs wanted as arrays; all others are returned held, and never copied.

        Raises
        ------
        InferenceFailed, OutOfMemory, OutputNotFinite, ProviderMissing
            As :meth:`run`; only what is read is looked at.
        """
        try:
            binding = self._session.io_binding()
            for name, array in feeds.items():
                binding.bind_cpu_input(name, np.ascontiguousarray(array))
            for name, value in held.items():
                binding.bind_ortvalue_input(name, value)
            for name in self.outputs:
                binding.bind_output(name, "cpu" if name in read else self._device)
            self._session.run_with_iobinding(binding)
            values = dict(zip(self.outputs, binding.get_outputs(), strict=True))
            arrays = {name: values.pop(name).numpy() for name in read}
        except _RUNTIME_ERRORS as error:
            raise self._failed(error) from error
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise OutputNotFinite(f"output {name} of {self._name} holds NaN or infinity", output=name)
        return arrays, values

    def _failed(self, error: Exception) -> OutOfMemory | InferenceFailed:
        if _is_memory(error):
            return self._out_of_memory(error, "ran out of memory")
        return InferenceFailed(f"{self._name}: {_first_line(error)}")

    def _out_of_memory(self, error: Exception, what: str) -> OutOfMemory:
        why = f": {_first_line(error)}" if str(error).strip() else ""
        if self.provider == CPU or _says(error, _HOST_MEMORY) or isinstance(error, MemoryError):
            return OutOfMemory(f"{self._name} {what}{why}")
        return OutOfMemory(f"{self._name} {what} of the GPU{why}", provider=self.provider, model=self._model)

    @property
    def _device(self) -> str:
        """Where its outputs are, as ONNX Runtime names it."""
        return "cpu" if self.provider == CPU else "cuda"

    def hold(self, array: npt.NDArray[Any]) -> Held:
        """``array`` as a value of :meth:`step`, on the device the graph runs on. Raises as :meth:`step`."""
        try:
            return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self._device)
        except _RUNTIME_ERRORS as error:
            raise self._failed(error) from error


def _with_options(providers: Sequence[str], memory_arena: bool) -> list[str | tuple[str, dict[str, str]]]:
    """Providers with what they are to be opened with.

    cuDNN's default search times every algorithm for a convolution: which one wins, and so the last digits, differs from one
    session to the next, and the search takes whatever memory is free. An arena that is not to be kept grows by what is asked
    for, and not by powers of two.
    """
    cuda = {"cudnn_conv_algo_search": "HEURISTIC"}
    cuda |= {} if memory_arena else {"arena_extend_strategy": "kSameAsRequested"}
    return [(each, cuda) if each == CUDA else each for each in providers]


@cache
def _find_libraries() -> None:
    """Have CUDA's libraries found that were installed as packages of Python (``onnxruntime-gpu[cuda,cudnn]``)."""
    if (preload := getattr(onnxruntime, "preload_dlls", None)) is None:
        return
    # It prints what it does not find to where a command's result goes; the session then says that it is on the CPU.
    with contextlib.redirect_stdout(io.StringIO()):
        preload()


def _is_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or _says(error, _OUT_OF_MEMORY)


def _says(error: Exception, signs: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(sign in text for sign in signs)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
