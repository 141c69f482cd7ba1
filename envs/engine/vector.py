"""`KernelVectorEnv`: the same kernels over an array of records, as a Gymnasium vector environment."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numba
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numba import config
from numpy.typing import ArrayLike, NDArray

from explore_gym.envs.engine.env import KernelEnv, assign_state, check_keywords, check_seed, is_integer, lane_seeds
from explore_gym.envs.engine.kernels import DISABLED, NEXT_STEP, SAME_STEP
from explore_gym.envs.engine.random import initial_words

MAX_THREADS: int = config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
MODES = {AutoresetMode.NEXT_STEP: NEXT_STEP, AutoresetMode.SAME_STEP: SAME_STEP, AutoresetMode.DISABLED: DISABLED}


class KernelVectorEnv(gym.vector.VectorEnv):
    """A batch of one environment. Lane i of a batch seeded s equals the single environment seeded s + i, bit for bit.

    Every metric of the kernels is in `info`, an array over lanes with its mask `_key`. In SAME_STEP mode `info["final_obs"]`
    and `info["final_info"]` are there after every step and dense: row i is what lane i reached by this step before any
    autoreset (so it equals `obs[i]` where the lane isn't done); `_final_obs` and `_final_info` mask the lanes that are done.

    Args:
        env: the environment that defines kernels, sizes and spaces; it is never stepped.
        num_envs: number of lanes.
        autoreset_mode: "NextStep", "SameStep", "Disabled" or an `AutoresetMode`.
        num_threads: threads for the loop over lanes; 1 runs the sequential loop, which is faster below a few hundred lanes.
        copy: whether each call returns fresh arrays. If False, it returns the engine's buffers, which the next call overwrites.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        env: KernelEnv,
        num_envs: int,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        num_threads: int = 1,
        copy: bool = True,
    ):
        if not is_integer(num_envs) or num_envs < 1:
            raise ValueError(f"num_envs must be a positive integer, got {num_envs!r}")
        if not is_integer(num_threads) or not 1 <= num_threads <= MAX_THREADS:
            raise ValueError(f"num_threads must be an integer in [1, {MAX_THREADS}], got {num_threads!r}")
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError:
            expected = [mode.value for mode in AutoresetMode]
            raise ValueError(f"autoreset_mode must be one of {expected}, got {autoreset_mode!r}") from None
        self.env, self.num_envs, self.num_threads, self.copy = env, num_envs, num_threads, copy
        self.metadata = {**env.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = env.render_mode
        self.single_observation_space, self.single_action_space = self._observed(env.observation_space), env.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(env.action_space, num_envs)
        self._started = False
        self._reset: Callable | None = None  # the compiled loops, bound at their first use
        self._step: Callable | None = None
        self._reset_done: Callable | None = None
        self._allocate()

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes in all lanes, or in those of `options["reset_mask"]`, bool (num_envs,).

        Args:
            seed: None, an int (lane i gets seed + i) or a sequence of num_envs ints and Nones.
        """
        mask = self._mask(options)
        super().reset(seed=check_seed(seed) if seed is None or is_integer(seed) else None)
        seeds, given = self._seeds(seed)
        if given.any():
            self._set_words(initial_words(seeds), mask, given)
        self._started = True
        return self._refresh(mask)

    def step(self, actions: Any) -> tuple[Any, NDArray, NDArray, NDArray, dict[str, Any]]:
        """Step all lanes.

        Raises:
            ResetNeeded: before the first reset, or in DISABLED mode with a lane that is done.
            InvalidAction: an action lies outside the action space; no lane has moved then.
        """
        if not self._started:
            raise gym.error.ResetNeeded("step called before reset: call reset first")
        actions = self.env.actions.batch(actions, self.num_envs)
        if self.autoreset_mode is AutoresetMode.DISABLED and self._state["done"].any():
            done = np.flatnonzero(self._state["done"]).tolist()
            raise gym.error.ResetNeeded(f"lanes {done} are done: reset them first, with options={{'reset_mask': mask}}")
        obs, reward, terminated, truncated, info, final_obs, final_info = self._buffers or self._new_buffers()
        actors, same_step = self.env.actions, self.autoreset_mode is AutoresetMode.SAME_STEP
        reached = (final_obs, final_info) if same_step else (obs, info)
        records = self.env.params, self._state
        bounds = actions.reshape(-1), actors.low, actors.high
        args = (MODES[self.autoreset_mode], *records, actions, *bounds, reached[0], reward, terminated, truncated, reached[1])
        if self._step is None:
            self._step = self._loop("step_batch", args)
        bad = self._step(*args)
        if bad >= 0:
            raise gym.error.InvalidAction(
                f"lane {bad}: action must be an element of {self.single_action_space}, got {actions[bad]!r}"
            )
        infos = self.env.metrics.batch(info, self._present)
        if same_step:
            copy_bytes(final_obs, obs), copy_bytes(final_info, info)
            if self._reset_done is None:
                self._reset_done = self._loop("reset_done", (*records, obs, info))
            self._reset_done(*records, obs, info)
            done = terminated | truncated
            infos["final_obs"], infos["_final_obs"] = self.env.observations.batch(final_obs), done
            infos["final_info"], infos["_final_info"] = self.env.metrics.batch(final_info, self._present), done
        return self.env.observations.batch(obs), reward, terminated, truncated, infos

    def render(self) -> tuple[Any, ...]:
        """One frame for each lane."""
        return tuple(self.env.render_state(state) for state in self._read(slice(None)))

    def get_state(self, lanes: ArrayLike | None = None) -> NDArray:
        """A copy of the state records of all lanes or of the given ones, structured array (k,)."""
        self._check_started("get_state")
        return self._read(slice(None) if lanes is None else self._lanes(lanes))

    def set_state(self, state: NDArray | None = None, lanes: ArrayLike | None = None, **fields: Any) -> Any:
        """Restore records from `get_state`, or set fields by name, in all lanes or the given ones. Returns the observations.

        Raises:
            ValueError: records of another dtype (another environment or size) or number, a field or lane that isn't there.
        """
        self._started = self._started or (state is not None and lanes is None)
        self._check_started("set_state")
        index = slice(None) if lanes is None else self._lanes(lanes)
        records = self._read(index)
        if state is not None and np.shape(state) not in ((), records.shape):
            raise ValueError(f"state must hold {len(records)} records, got shape {np.shape(state)}")
        assign_state(records, state, fields)
        self._write(index, records)
        return self._refresh(np.zeros(self.num_envs, bool))[0]

    def fork(self, lanes: ArrayLike) -> "KernelVectorEnv":
        """A vector environment like this one whose lanes are copies of the given lanes, random words included."""
        self._check_started("fork")
        records = self.get_state(lanes)
        envs = self._like(len(records))
        envs.set_state(records)
        return envs

    def _observed(self, space):
        return space

    def _allocate(self):
        self._state = np.zeros(self.num_envs, self.env.state_dtype)
        self._present = read_only(np.ones(self.num_envs, bool))
        self._buffers = None if self.copy else self._new_buffers()

    def _read(self, index):
        return self._state[index].copy() if isinstance(index, slice) else self._state[index]  # an array of lanes copies

    def _write(self, index, records):
        self._state[index] = records

    def _set_words(self, words, mask, given):
        self._state["rng"][mask & given] = words[mask & given]

    def _like(self, num_envs):
        return KernelVectorEnv(self.env, num_envs, self.autoreset_mode, self.num_threads, self.copy)

    def _refresh(self, mask):
        obs, *_, info, _, _ = self._buffers or self._new_buffers()
        args = (self.env.params, self._state, mask, obs, info)
        if self._reset is None:
            self._reset = self._loop("reset_batch", args)
        self._reset(*args)
        info[~mask] = np.zeros((), info.dtype)  # Gymnasium: lanes that weren't reset have no reset info
        return self.env.observations.batch(obs), self.env.metrics.batch(info, mask)

    def _loop(self, template, args):
        loop = self.env.loops.get(template, args, parallel=self.num_threads > 1)
        if self.num_threads == 1:
            return loop

        def run(*args):
            before = numba.get_num_threads()
            numba.set_num_threads(self.num_threads)
            try:
                return loop(*args)
            finally:
                numba.set_num_threads(before)

        return run

    def _new_buffers(self):
        n, observations, metrics = self.num_envs, self.env.observations, self.env.metrics
        obs, info = observations.empty(n), metrics.empty(n)
        same_step = self.autoreset_mode is AutoresetMode.SAME_STEP
        final = (observations.empty(n), metrics.empty(n)) if same_step else (obs, info)
        return obs, np.empty(n), np.empty(n, bool), np.empty(n, bool), info, *final

    def _mask(self, options):
        if options is None or "reset_mask" not in options:
            return self._present
        mask = options["reset_mask"]
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            kind = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
            raise TypeError(f"reset_mask must be a bool array, got {kind}")
        if mask.shape != (self.num_envs,) or not mask.any():
            found = "no True" if mask.shape == (self.num_envs,) else f"shape {mask.shape}"
            raise ValueError(f"reset_mask must have shape ({self.num_envs},) and at least one True, got {found}")
        if not self._started and not mask.all():
            raise gym.error.ResetNeeded("the first reset must start all lanes, got a reset_mask with False")
        return mask.copy()

    def _seeds(self, seed):
        """Each lane's seed, uint64 (num_envs,), and which lanes get it: the others go on with their stream."""
        n, first = self.num_envs, not self._started
        if seed is None:
            return lane_seeds(int(self.np_random.integers(2**63)), n) if first else np.zeros(n, np.uint64), np.full(n, first)
        if is_integer(seed):
            return lane_seeds(seed, n), np.ones(n, bool)
        if not isinstance(seed, (list, tuple, np.ndarray)) or len(seed) != n:
            raise ValueError(f"seed must be None, an integer or a sequence of {n} integers and Nones, got {seed!r}")
        own = [int(self.np_random.integers(2**63)) if s is None and first else check_seed(s) for s in seed]
        return np.array([s or 0 for s in own], np.uint64), np.array([s is not None for s in own])

    def _lanes(self, lanes):
        lanes = np.atleast_1d(np.asarray(lanes))
        if lanes.dtype.kind not in "iu" or lanes.ndim != 1 or not np.all((lanes >= 0) & (lanes < self.num_envs)):
            raise ValueError(f"lanes must be integers in [0, {self.num_envs}), got {lanes.tolist()}")
        return lanes

    def _check_started(self, what):
        if not self._started:
            raise gym.error.ResetNeeded(f"{what} called before reset: call reset first")

    def __getstate__(self):
        return {**self.__dict__, "_reset": None, "_step": None, "_reset_done": None}


def vectorize(cls: type[KernelEnv]) -> Callable[..., KernelVectorEnv]:
    """The batched form of a `KernelEnv` class: a function of num_envs, the options of `KernelVectorEnv` and the class's own.

    With `device="cuda"` it returns a `CudaVectorEnv`, and takes its option `check`.
    """

    def make(
        num_envs=1,
        autoreset_mode=AutoresetMode.NEXT_STEP,
        num_threads=1,
        copy=True,
        device="cpu",
        check=False,
        **kwargs,
    ):
        check_keywords(cls, kwargs)
        if str(device) == "cpu":
            return KernelVectorEnv(cls(**kwargs), num_envs, autoreset_mode, num_threads, copy)
        missing = [package for package in ("numba_cuda", "torch") if importlib.util.find_spec(package) is None]
        if missing:
            raise ImportError(f"device {str(device)!r} needs {' and '.join(missing)}: pip install 'explore-gym[cuda]'")
        from explore_gym.envs.engine.cuda import CudaVectorEnv

        if num_threads != 1:
            raise ValueError(f"num_threads is for the CPU: on device {str(device)!r} it must be 1, got {num_threads!r}")
        return CudaVectorEnv(cls(**kwargs), num_envs, autoreset_mode, copy, device, check)

    make.__name__ = make.__qualname__ = f"{cls.__name__}Vector"
    make.__module__ = cls.__module__
    make.__doc__ = f"A batch of `{cls.__name__}`: see `KernelVectorEnv` and, for device='cuda', `CudaVectorEnv`."
    return make


def copy_bytes(source, target):
    """Copy a contiguous array of any dtype as bytes: NumPy copies records field by field, many times slower."""
    np.copyto(target.view(np.uint8), source.view(np.uint8))


def read_only(array):
    """The array, protected against writes: it is handed out more than once."""
    array.setflags(write=False)
    return array
