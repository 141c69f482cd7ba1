"""Kernels on an NVIDIA GPU: each thread runs the loops of `kernels` on a lane of its own.

Compiling needs no GPU: numba-cuda makes PTX of an environment's kernels, nvJitLink makes a cubin of that, and the cubin is
cached where the loops of the CPU are. Multiplication and addition stay apart (no FMA), so that sums round as on the CPU. In
numba's simulator (NUMBA_ENABLE_CUDASIM=1) the same functions run in plain Python on tensors of the CPU.
"""

import math
import os
import types
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numba
import numpy as np
import torch
from numba import cuda, njit
from numpy.typing import DTypeLike, NDArray

from explore_gym.envs.engine.kernels import CACHED_VARIANTS, DISABLED, Loops, Records, source_digest

SIMULATED = bool(numba.config.ENABLE_CUDASIM)  # type: ignore[attr-defined]
BAD_ACTION, DONE_LANE = 1, 2  # why a step was refused
LAYOUTS = ("records", "fields")  # what lies together in memory: a lane's record, or a field of all lanes
BITS: dict[int, Any] = {
    1: np.dtype(np.uint8),
    2: np.dtype(np.int16),
    4: np.dtype(np.int32),
    8: np.dtype(np.int64),
}  # types that torch copies
LINKED: dict = {}  # digest -> a kernel ready to be launched, in this process


@njit(inline="always")  # numba-cuda can't return an array that a function has made
def own_lane(array, i):
    """Lane i, as an array of one."""
    return array[i : i + 1]


# Templates. The loops `reset_batch`, `step_batch`, `reset_done`, the constant `mode` and own_state, own_obs and own_info,
# which are `own_lane` or its counterpart of another memory layout, are filled in by `DeviceKernels`.


def reset_lanes(params, state, mask, obs, info):
    """`reset_batch`, a lane per thread."""
    i = cuda.grid(1)
    if i < mask.shape[0]:
        reset_batch(params, own_state(state, i), own_lane(mask, i), own_obs(obs, i), own_info(info, i))  # noqa: F821


def step_lanes(params, state, action, flat, low, high, obs, reward, terminated, truncated, info, refusal, refused):
    """`step_batch`, a lane per thread.

    A lane that can't be stepped doesn't move: its reward is NaN, and `refusal` and `refused` keep the reason and the action
    until the host reads them.
    """
    i = cuda.grid(1)
    if i < reward.shape[0]:
        first, last = i * low.shape[0], (i + 1) * low.shape[0]
        lane, own_action, bounds = own_state(state, i), own_lane(action, i), (flat[first:last], low, high)  # noqa: F821
        flow = own_lane(reward, i), own_lane(terminated, i), own_lane(truncated, i)
        reason = 0
        if mode == DISABLED and lane[0].done:  # noqa: F821
            reason = DONE_LANE
        elif step_batch(mode, params, lane, own_action, *bounds, own_obs(obs, i), *flow, own_info(info, i)) >= 0:  # noqa: F821
            reason = BAD_ACTION
        if reason != 0:
            reward[i], terminated[i], truncated[i] = math.nan, False, False
            refusal[i] = reason
            for k in range(first, last):
                refused[k] = flat[k]


def reset_done_lanes(params, state, obs, info):
    """`reset_done`, a lane per thread."""
    i = cuda.grid(1)
    if i < state.shape[0]:
        reset_done(params, own_state(state, i), own_obs(obs, i), own_info(info, i))  # noqa: F821


TEMPLATES = (reset_lanes, step_lanes, reset_done_lanes)


class Buffer:
    """Device memory for a value in each lane, a record or an array: tensors to torch, an array of lanes to kernels.

    Args:
        raw: uint8 tensor of its bytes.
        layout: "records", or "fields" with each field (each element of an array) of all lanes together, see `columns`.
    """

    def __init__(
        self,
        raw: torch.Tensor,
        num_lanes: int,
        dtype: DTypeLike,
        shape: tuple[int, ...] = (),
        layout: str = "records",
    ):
        self.raw, self.num_lanes, self.dtype, self.shape, self.layout = raw, num_lanes, np.dtype(dtype), shape, layout

    @classmethod
    def zeros(cls, device: torch.device, num_lanes: int, *kind: Any) -> "Buffer":
        """Of the given dtype, shape and layout."""
        return cls(torch.zeros(num_lanes * lane_bytes(*kind[:2]), dtype=torch.uint8, device=device), num_lanes, *kind)

    def tensor(self, field: str | None = None) -> torch.Tensor:
        """The value of each lane, or that of a field in its record: (num_lanes, *shape), a view."""
        fields: Any = self.dtype.fields
        kind, offset = (np.dtype((self.dtype, self.shape)), 0) if field is None else fields[field][:2]
        n, end = self.num_lanes, offset + kind.itemsize
        if self.layout == "fields":
            rows = self.raw[n * offset : n * end].view(torch_dtype(kind.base)).view(-1, n).T
        else:
            rows = self.raw.view(n, -1)[:, offset:end].view(torch_dtype(kind.base))
        return rows.unflatten(1, kind.shape) if kind.shape else rows[:, 0]

    def read(self, lanes: Any) -> NDArray:
        """A copy of the records of these lanes, an index of NumPy's kind."""
        records = np.zeros(np.empty(self.num_lanes, bool)[lanes].shape, self.dtype)
        for name in records.dtype.names or ():
            column = records[name]
            bits = self.tensor(name).view(torch_dtype(BITS[column.itemsize]))
            column.view(BITS[column.itemsize])[...] = bits[self._index(lanes)].cpu().numpy()
        return records

    def write(self, lanes: Any, records: NDArray) -> None:
        """Put records into these lanes."""
        for name in records.dtype.names or ():
            kind = BITS[records[name].itemsize]
            values = torch.tensor(records[name].view(kind), device=self.raw.device)
            self.tensor(name).view(torch_dtype(kind))[self._index(lanes)] = values

    def _index(self, lanes):
        return lanes if isinstance(lanes, slice) else torch.tensor(lanes, device=self.raw.device)

    @property
    def type(self) -> Any:
        """numba's type of what kernels see."""
        if self.layout == "fields" and self.dtype.names:
            return numba.uint8[::1]
        array = numba.typeof(np.empty((1, *self.shape), self.dtype))
        return array.copy(layout="A") if self.layout == "fields" and self.shape else array

    @property
    def own(self) -> Any:
        """The function of the array and a lane's number that gives kernels this lane."""
        by_field = self.layout == "fields" and self.dtype.names
        if SIMULATED:
            return Columns.lane if by_field else own_lane.py_func
        from explore_gym.envs.engine.columns import own_columns  # has no meaning to the simulator

        return own_columns(numba.from_dtype(self.dtype)) if by_field else own_lane

    def argument(self) -> Any:
        """What a launch takes: numba's array (no owner, its size, the address, shape and strides), or the simulator's."""
        n = self.num_lanes
        shape, strides = (n, *self.shape), np.empty((1, *self.shape), self.dtype).strides
        if self.layout == "fields":
            if self.dtype.names:
                return Columns(self.raw.numpy(), n, self.dtype) if SIMULATED else (0, 0, n, 1, self.raw.data_ptr(), n, 1)
            strides = self.dtype.itemsize, *(n * stride for stride in strides[1:])
        if SIMULATED:
            array = np.ndarray(shape, self.dtype, self.raw.numpy(), 0, strides)
            return Records(array) if self.dtype.names else array
        return 0, 0, math.prod(shape), self.dtype.itemsize, self.raw.data_ptr(), *shape, *strides


class Columns:
    """Records laid out field by field for the simulator, and one lane of them, as `columns.Lane` is on a GPU."""

    def __init__(self, raw, num_lanes, dtype, index=None):
        shape = (num_lanes if index is None else 1,)
        self.__dict__.update(_raw=raw, _num_lanes=num_lanes, _dtype=dtype, _index=index, shape=shape)

    def lane(self, i):
        return Columns(self._raw, self._num_lanes, self._dtype, i)

    def __getitem__(self, index):
        return self

    def __getattr__(self, name):
        value = self._column(name)
        return value if value.shape else value[()]

    def __setattr__(self, name, value):
        self._column(name)[...] = value

    def _column(self, name):
        (kind, offset), n = self._dtype.fields[name][:2], self._num_lanes
        elements = self._raw[n * offset : n * (offset + kind.itemsize)].view(kind.base).reshape(-1, n)
        return elements[:, self._index].reshape(kind.shape)


class DeviceKernels:
    """An environment's kernels for the lanes of a GPU.

    Args:
        loops: the environment's.
        mode: NEXT_STEP, SAME_STEP or DISABLED, a constant of the compiled code.
        arguments: by kernel, the buffers that it gets. The second is the state.
    """

    def __init__(self, loops: Loops, mode: int, arguments: dict[str, list[Buffer]]):
        if numba.config.DISABLE_JIT and not SIMULATED:  # type: ignore[attr-defined]
            raise RuntimeError("NUMBA_DISABLE_JIT leaves nothing to compile for a GPU; NUMBA_ENABLE_CUDASIM=1 simulates one")
        self.loops, self.arguments = loops, arguments
        state, obs, info = (arguments["reset_lanes"][i] for i in (1, 3, 4))
        owners = {"own_state": state.own, "own_obs": obs.own, "own_info": info.own}
        if SIMULATED:
            owners["own_lane"] = own_lane.py_func
        scope = {**loops.functions(compiled=not SIMULATED), **owners, "mode": mode}
        self.functions = {t.__name__: types.FunctionType(t.__code__, {**t.__globals__, **scope}, t.__name__) for t in TEMPLATES}

    def launcher(self, name: str, threads: int) -> Callable[[], None]:
        """A function that launches the kernel in torch's current stream, with so many threads in a block. Needs a GPU."""
        buffers = self.arguments[name]
        blocks = -(-buffers[1].num_lanes // threads)
        if SIMULATED:
            return simulate(self.functions[name], blocks, threads, [buffer.argument() for buffer in buffers])
        from cuda.core import LaunchConfig, launch

        device, linked, config = buffers[1].raw.device, self.linked(name), LaunchConfig(grid=blocks, block=threads)
        arguments = [value for buffer in buffers for value in buffer.argument()]

        def run():
            with torch.cuda.device(device):
                launch(torch.cuda.current_stream(), config, linked, *arguments)

        return run

    def linked(self, name: str) -> Any:
        """The kernel as `cuda.core.Kernel`, compiled for the GPU that its buffers are on."""
        from cuda.core import ObjectCode

        cubin, digest = self.cubin(name, torch.cuda.get_device_capability(self.arguments[name][1].raw.device))
        if digest not in LINKED:
            LINKED[digest] = ObjectCode.from_cubin(cubin).get_kernel(name)
        return LINKED[digest]

    def cubin(self, name: str, capability: tuple[int, int]) -> tuple[bytes, str]:
        """Machine code for GPUs of a compute capability such as (9, 0), from the cache if it is there, and its digest."""
        types_ = tuple(buffer.type for buffer in self.arguments[name])
        packages = version("numba-cuda"), version("cuda-core")
        how = [Path(__file__).with_name(file).read_bytes() for file in ("device.py", "columns.py")]
        digest = source_digest(self.functions[name], extra=(self.loops.digest, str(types_), capability, packages, how))
        place = self.loops.cache_path()
        if place is None:
            return link(self.ptx(name, capability), capability), digest
        source, folder = place
        path = folder / f"{source.stem}.{name}_{self.loops.name}_{digest}.cubin"
        if not path.exists():
            keep(path, link(self.ptx(name, capability), capability))
        return path.read_bytes(), digest

    def ptx(self, name: str, capability: tuple[int, int]) -> str:
        """The kernel in NVIDIA's virtual assembly, under its template's name."""
        from numba.cuda import dispatcher
        from numba.cuda.compiler import compile_cuda, kernel_fixup  # type: ignore[attr-defined]

        signature, options = tuple(buffer.type for buffer in self.arguments[name]), {"opt": 3, "fma": False}
        device = SimpleNamespace(compute_capability=capability)
        # Device functions ask for the current device's capability; nothing else of a device is needed.
        with mock.patch.object(dispatcher, "get_current_device", return_value=device):
            compiled = compile_cuda(self.functions[name], numba.void, signature, nvvm_options=options, cc=capability)
        entry = compiled.library.get_function(compiled.fndesc.llvm_func_name)
        kernel_fixup(entry, debug=False)
        return compiled.library.get_asm_str(cc=capability).replace(entry.name, name)


def simulate(function, blocks, threads, arrays):
    """A launch in numba's simulator."""
    simulated = cuda.jit(device=True)(function)

    @cuda.jit
    def quietly(*arrays):
        with np.errstate(over="ignore"):  # the random stream's arithmetic wraps by design
            simulated(*arrays)

    return lambda: quietly[blocks, threads](*arrays)


def link(ptx: str, capability: tuple[int, int]) -> bytes:
    """The cubin of a PTX program."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    options = LinkerOptions(arch="sm_{}{}".format(*capability))
    return bytes(Linker(ObjectCode.from_ptx(ptx.encode()), options=options).link("cubin").code)


def keep(path: Path, cubin: bytes) -> None:
    """Put a cubin into the cache, in one move, and delete what exceeds its newest variants."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_bytes(cubin)
    os.replace(unfinished, path)
    variants = sorted(path.parent.glob(path.name[:-22] + "?" * 16 + ".cubin"), key=lambda p: p.stat().st_mtime)
    for old in variants[:-CACHED_VARIANTS]:
        old.unlink(missing_ok=True)


def lane_bytes(dtype: DTypeLike, shape: tuple[int, ...] = ()) -> int:
    """Bytes of a value in one lane."""
    return np.dtype((dtype, shape)).itemsize


def torch_dtype(dtype: Any) -> torch.dtype:
    """torch's name of a NumPy dtype."""
    return torch.from_numpy(np.empty(0, dtype)).dtype
