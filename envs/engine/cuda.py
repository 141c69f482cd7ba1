"""`CudaVectorEnv`: the same kernels over an array of records on an NVIDIA GPU, as a Gymnasium vector environment of tensors."""

import functools
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import ArrayLike, NDArray

from explore_gym.envs.engine.device import DONE_LANE, SIMULATED, Buffer, DeviceKernels, lane_bytes
from explore_gym.envs.engine.env import KernelEnv
from explore_gym.envs.engine.vector import MODES, KernelVectorEnv

ALIGNMENT = 256  # bytes: where a part of the outputs begins
OUTPUTS = ("obs", "info", "reward", "terminated", "truncated", "present")


class CudaVectorEnv(KernelVectorEnv):
    """A batch of one environment on a GPU, a thread for each lane; what it takes and returns are tensors of that GPU.

    Everything is as in `KernelVectorEnv` but for this. All work goes to torch's current stream and `step` doesn't wait for it,
    so that a CUDA graph can hold steps and a policy together; callers of several streams order them, as for torch's own work.
    Instructions (Text) are observed as indices into `texts[key]`, a Discrete space. A step that doesn't wait can't raise what
    the device finds, an action outside the space or, in DISABLED mode, a lane that is done: such a lane stays as it is, its
    reward is NaN, its observation and infos mean nothing, and the error is raised by `check`, which `get_state`, `set_state`,
    `close` and a reset of all lanes call. The other lanes have moved by then.

    Args:
        env: the environment that defines kernels, sizes and spaces; it is never stepped.
        num_envs: number of lanes.
        autoreset_mode: "NextStep", "SameStep", "Disabled" or an `AutoresetMode`.
        copy: whether each call returns fresh tensors. If False, it returns the engine's own, which the next call overwrites.
        device: "cuda", "cuda:1" ... or a `torch.device`.
        check: whether every step calls `check`, and so waits for the device.

    Raises:
        RuntimeError: torch is built without CUDA, or finds no such GPU.
        ValueError: an argument is out of range.
    """

    threads = 128  # in a block
    layout = "records"  # of states, observations and metrics in the device's memory, see `device.LAYOUTS`

    def __init__(
        self,
        env: KernelEnv,
        num_envs: int,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        device: str | torch.device = "cuda",
        check: bool = False,
    ):
        self.device, self.check_steps = find_device(device), check
        super().__init__(env, num_envs, autoreset_mode, copy=copy)

    @property
    def texts(self) -> dict[str, tuple[str, ...]]:
        """For each Text of the observation the strings that its indices stand for."""
        return self.env.observations.texts

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes in all lanes, or in those of `options["reset_mask"]`, bool (num_envs,), a tensor or an array.

        With a tensor on the device and without a seed it doesn't wait, so that a CUDA graph can hold it; the tensor may be
        False everywhere.

        Args:
            seed: None, an int (lane i gets seed + i) or a sequence of num_envs ints and Nones.
        """
        if options is None or "reset_mask" not in options:
            self.check()
        return super().reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:  # type: ignore[override]
        """Step all lanes with a tensor of actions; what isn't on the device, or is no tensor, is copied there first.

        Raises:
            ResetNeeded: before the first reset.
            InvalidAction: actions of another shape or kind; with check=True also one outside the action space.
        """
        if self._step is None:
            raise gym.error.ResetNeeded("step called before reset: call reset first")
        self._memory.actions.tensor().copy_(self._typed(actions))
        self._step()
        if self._reset_done is not None:
            self._memory.outputs.start_from_final()
            self._reset_done()
        if self.check_steps:
            self.check()
        outputs = self._memory.outputs.clone() if self.copy else self._memory.outputs
        obs, reward, terminated, truncated, present, info = outputs.values
        infos = with_masks(info, present)
        if outputs.final is not None:
            done = terminated | truncated
            infos["final_obs"], infos["_final_obs"] = outputs.final[0], done
            infos["final_info"], infos["_final_info"] = with_masks(outputs.final[1], present), done
        return dict(obs) if isinstance(obs, dict) else obs, reward, terminated, truncated, infos

    def check(self) -> None:
        """Wait for the device and raise what steps since the last check have refused.

        Raises:
            ResetNeeded: lanes that were done had been stepped in DISABLED mode.
            InvalidAction: actions had been outside the action space.
        """
        reasons = self._memory.refusals.tensor().cpu().numpy()
        if not reasons.any():
            return
        done, bad = np.flatnonzero(reasons == DONE_LANE), np.flatnonzero(reasons)
        self._memory.refusals.raw.zero_()
        if len(done):
            raise gym.error.ResetNeeded(
                f"lanes {done.tolist()} are done: reset them first, with options={{'reset_mask': mask}}"
            )
        action = self._memory.refused.tensor().cpu().numpy()[bad[0]]
        raise gym.error.InvalidAction(f"lane {bad[0]}: action must be an element of {self.single_action_space}, got {action!r}")

    def kernel(self, name: str) -> Any:
        """The kernel "reset_lanes", "step_lanes" or "reset_done_lanes": a `cuda.core.Kernel` with its needs as attributes."""
        return self._memory.kernels().linked(name)

    def get_state(self, lanes: ArrayLike | None = None) -> NDArray:
        """The state records of all lanes or of the given ones, structured array (k,), interchangeable with the CPU's."""
        self.check()
        return super().get_state(lanes)

    def set_state(self, state: NDArray | None = None, lanes: ArrayLike | None = None, **fields: Any) -> Any:
        """Restore records from `get_state`, or set fields by name, in all lanes or the given ones. Returns the observations.

        Raises:
            ValueError: records of another dtype (another environment or size) or number, a field or lane that isn't there.
        """
        self.check()
        return super().set_state(state, lanes, **fields)

    def close_extras(self, **kwargs: Any) -> None:
        self.check()

    def __del__(self):
        """Nothing is left to close, torch takes the memory back; Gymnasium's own would raise what `check` finds."""

    def _observed(self, space):
        texts = {key: spaces.Discrete(len(strings)) for key, strings in self.texts.items()}
        return spaces.Dict({**space.spaces, **texts}) if texts else space

    def _allocate(self):
        self._memory = Memory(self.env, self.num_envs, self.autoreset_mode, self.device, self.layout)
        self._present = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)  # never handed out

    def _load(self):
        """Make all kernels ready at the first reset, so that no step of a training loop compiles."""
        kernels = self._memory.kernels()
        self._reset, self._step = (kernels.launcher(name, self.threads) for name in ("reset_lanes", "step_lanes"))
        if self._memory.same_step:
            self._reset_done = kernels.launcher("reset_done_lanes", self.threads)

    def _refresh(self, mask):
        if self._reset is None:
            self._load()
        mask = torch.as_tensor(mask, device=self.device)
        self._memory.reset_mask.tensor().copy_(mask)
        self._reset()
        outputs = self._memory.outputs.clone() if self.copy else self._memory.outputs
        obs, *_, present, info = outputs.values
        if mask is self._present:
            mask = present
        else:  # Gymnasium: lanes that weren't reset have no reset info
            info = {key: torch.where(mask.view(-1, *[1] * (x.ndim - 1)), x, torch.zeros_like(x)) for key, x in info.items()}
        return dict(obs) if isinstance(obs, dict) else obs, with_masks(info, mask)

    def _typed(self, actions):
        """Actions of right shape and kind; the kernel checks their range."""
        if not isinstance(actions, torch.Tensor):
            return torch.tensor(self.env.actions.batch(actions, self.num_envs))
        kind, shape = actions.dtype, (self.num_envs, *self.env.actions.shape)
        integers = not (kind.is_floating_point or kind.is_complex or kind is torch.bool)
        if tuple(actions.shape) != shape or not (integers or (kind.is_floating_point and "f" in self.env.actions.kinds)):
            expected = "numbers" if "f" in self.env.actions.kinds else "integers"
            raise gym.error.InvalidAction(
                f"actions must be {expected} of shape {shape}, elements of {self.single_action_space}, "
                f"got {kind} of shape {tuple(actions.shape)}"
            )
        return actions.detach()  # what is written into the engine's memory must not become a part of a graph of gradients

    def _mask(self, options):
        mask = None if options is None else options.get("reset_mask")
        if not isinstance(mask, torch.Tensor):
            mask = super()._mask(options)
            return mask if mask is self._present else torch.tensor(mask, device=self.device)
        if mask.dtype is not torch.bool:
            raise TypeError(f"reset_mask must be a bool tensor, got {mask.dtype}")
        if tuple(mask.shape) != (self.num_envs,):
            raise ValueError(f"reset_mask must have shape ({self.num_envs},), got shape {tuple(mask.shape)}")
        if not self._started and not mask.all():
            raise gym.error.ResetNeeded("the first reset must start all lanes, got a reset_mask with False")
        return mask.to(self.device, copy=True)

    def _set_words(self, words, mask, given):
        held = self._memory.state.tensor("rng").view(torch.int64)  # torch does little with uint64
        words, given = (torch.tensor(array, device=self.device) for array in (words.view(np.int64), given))
        held.copy_(torch.where(mask & given, words, held))

    def _read(self, lanes):
        return self._memory.state.read(lanes)

    def _write(self, lanes, records):
        self._memory.state.write(lanes, records)

    def _like(self, num_envs):
        return CudaVectorEnv(self.env, num_envs, self.autoreset_mode, self.copy, self.device, self.check_steps)

    def __getstate__(self):
        self.check()
        kept = {key: value for key, value in super().__getstate__().items() if key not in ("_memory", "_present")}
        return {**kept, "records": self._memory.state.read(slice(None))}

    def __setstate__(self, attributes):
        records = attributes.pop("records")
        self.__dict__.update(attributes)
        self._allocate()
        self._memory.state.write(slice(None), records)
        if self._started:
            self._load()


class Memory:
    """All that a batch keeps on its device, and the kernels that work on it."""

    def __init__(self, env, num_envs, autoreset_mode, device, layout):
        self.env, self.mode, self.same_step = env, MODES[autoreset_mode], autoreset_mode is AutoresetMode.SAME_STEP
        n, size, kind, shape = num_envs, len(env.actions.low), env.actions.dtype, env.actions.shape
        zeros = functools.partial(Buffer.zeros, device)
        params, low, high = zeros(1, env.params.dtype), zeros(size, kind), zeros(size, kind)
        for buffer, values in ((params, env.params), (low, env.actions.low), (high, env.actions.high)):
            buffer.raw.copy_(torch.tensor(values.view(np.uint8)))
        self.state, self.reset_mask = zeros(n, env.state_dtype, (), layout), zeros(n, np.bool_)
        self.actions = zeros(n, kind, shape)
        self.refusals, self.refused = zeros(n, np.uint8), zeros(n, kind, shape)
        self.outputs = Outputs(env, n, self.same_step, device, layout)
        flat, refused = (Buffer(buffer.raw, n * size, kind) for buffer in (self.actions, self.refused))
        obs, info, *flow, _ = (self.outputs[name] for name in OUTPUTS)
        reached = [self.outputs[name] for name in ("final_obs", "final_info")] if self.same_step else [obs, info]
        taken = [self.actions, flat, low, high]
        self.arguments = {
            "reset_lanes": [params, self.state, self.reset_mask, obs, info],
            "step_lanes": [params, self.state, *taken, reached[0], *flow, reached[1], self.refusals, refused],
            "reset_done_lanes": [params, self.state, obs, info],
        }

    def kernels(self):
        """The kernels, of which only SAME_STEP needs `reset_done_lanes`."""
        return DeviceKernels(self.env.loops, self.mode, self.arguments)


class Outputs:
    """What a step returns, in one piece of memory that is copied at once."""

    def __init__(self, env, num_envs, same_step, device, layout, raw=None):
        self.env, self.num_envs, self.same_step, self.device, self.layout = env, num_envs, same_step, device, layout
        obs, info = (env.observations.dtype, env.observations.shape, layout), (env.metrics.dtype, (), layout)
        kinds = dict(zip(OUTPUTS, (obs, info, (np.float64, ()), (np.bool_, ()), (np.bool_, ()), (np.bool_, ()))))
        if same_step:
            kinds |= {"final_obs": obs, "final_info": info}
        self.kinds, self.places, end = kinds, {}, 0
        for name, kind in kinds.items():
            size = lane_bytes(*kind[:2]) * num_envs
            self.places[name] = slice(end, end + size)
            end += -(-size // ALIGNMENT) * ALIGNMENT
        # Ones, so that `present` is True in all lanes; kernels write the rest
        self.raw = torch.ones(end, dtype=torch.uint8, device=device) if raw is None else raw

    def __getitem__(self, name):
        return Buffer(self.raw[self.places[name]], self.num_envs, *self.kinds[name])

    def clone(self):
        return Outputs(self.env, self.num_envs, self.same_step, self.device, self.layout, self.raw.clone())

    def start_from_final(self):
        """Copy the observations and metrics that the step has reached to where those after an autoreset go."""
        first, last = self.places["final_obs"].start, self.places["final_info"].stop
        self.raw[: last - first].copy_(self.raw[first:last])

    @functools.cached_property
    def values(self):
        """obs, reward, terminated, truncated, present, info: views. `present` is True in all lanes."""
        return self._obs("obs"), *(self[name].tensor() for name in OUTPUTS[2:]), self._info("info")

    @functools.cached_property
    def final(self):
        """final_obs and final_info, or None."""
        return (self._obs("final_obs"), self._info("final_info")) if self.same_step else None

    def _obs(self, name):
        buffer, observations = self[name], self.env.observations
        if observations.fields is None:
            return buffer.tensor()[:, 0] if observations.scalar else self._shaped("observation", buffer.tensor())
        return {key: self._shaped(key, buffer.tensor(key)) for key in observations.fields}

    def _shaped(self, key, column):
        shapes = self.env.observations.shapes
        return column.unflatten(1, shapes[key]) if key in shapes else column

    def _info(self, name):
        buffer = self[name]
        return {key: buffer.tensor(key) for key in self.env.metrics.fields}


def with_masks(info, present):
    """Gymnasium's vector info: each metric, and under `_key` the mask of lanes that have it."""
    return {name: part for key, value in info.items() for name, part in ((key, value), (f"_{key}", present))}


def find_device(device: str | torch.device) -> torch.device:
    """The GPU of that name; in the simulator the CPU, where torch's tensors then live.

    Raises:
        ValueError: the name is no GPU's.
        RuntimeError: torch is built without CUDA, or finds no such GPU.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        found = None
    if found is None or found.type not in (("cuda", "cpu") if SIMULATED else ("cuda",)):
        raise ValueError(f"device must be 'cpu', 'cuda', 'cuda:1' ... or a torch.device of these kinds, got {device!r}")
    if SIMULATED:
        return torch.device("cpu")
    if not torch.backends.cuda.is_built():
        raise RuntimeError(f"device {str(device)!r} needs a build of torch with CUDA, this is torch {torch.__version__}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (found.index or 0) >= count:
        why = "look with nvidia-smi for a GPU and its driver" if count == 0 else "numbers begin at 0"
        raise RuntimeError(f"device {str(device)!r} isn't there: torch {torch.__version__} finds {count} CUDA devices ({why})")
    return torch.device("cuda", torch.cuda.current_device() if found.index is None else found.index)


def compile_ahead(
    env: KernelEnv, autoreset_mode: str | AutoresetMode, capability: tuple[int, int], layout: str = CudaVectorEnv.layout
) -> dict[str, bytes]:
    """Compile an environment's kernels for GPUs of a compute capability, such as (9, 0), into the cache; needs no GPU.

    Returns the machine code by the kernel's name.
    """
    memory = Memory(env, 1, AutoresetMode(autoreset_mode), torch.device("cpu"), layout)
    names = ("reset_lanes", "step_lanes", "reset_done_lanes") if memory.same_step else ("reset_lanes", "step_lanes")
    kernels = memory.kernels()
    return {name: kernels.cubin(name, capability)[0] for name in names}
