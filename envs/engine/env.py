"""`KernelEnv`: an environment given by its kernels, as a Gymnasium environment with one record of state."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from explore_gym.envs.engine.kernels import Loops, Record, record_of
from explore_gym.envs.engine.planning import shortest_path
from explore_gym.envs.engine.random import initial_words
from explore_gym.envs.engine.tabular import TabularModel, enumerate_model

if TYPE_CHECKING:
    from explore_gym.envs.engine.vector import KernelVectorEnv


class KernelEnv(gym.Env):
    """A Gymnasium environment made of kernels over one record, which is its whole state, the random word included.

    Subclasses set `dynamics` and `draw` and hand their sizes and spaces to this constructor; `vectorize` gives the batch.

    Attributes:
        dynamics: kernels (reset, step, observe) or (reset, step, observe, inform).
        untracked: state fields that neither dynamics nor observations depend on; `to_tabular` leaves them out.
        keys: for playing by hand, names of keyboard keys and the actions they stand for.
        additive_noise: True if normal draws enter nothing but the reward, linearly; `to_tabular` then takes their mean.

    Args:
        state: dtype of the state record, from `state_dtype`.
        params: what kernels read but never write, by name: numbers, bools or arrays.
        observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of those and Text.
        action_space: Discrete, MultiDiscrete, MultiBinary or Box.
        info: metrics that `inform` writes: name -> int, float or bool, or (type, shape).
        texts: for each Text in the observation the strings that `observe` picks from by index.
        flat: whether kernels see Box observations as flat vectors in C order, which is faster to copy; users see their shape.
        max_steps: the task's time limit in steps, None if it has none; `max_episode_steps` can only shorten it.
        render_mode: None, "rgb_array" or "ansi" ("human" comes from `gym.make`).

    Raises:
        ValueError: a limit is not a positive integer, or the render mode is unknown.
    """

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 10}
    dynamics: tuple[Any, ...] = ()
    untracked: tuple[str, ...] = ()
    keys: Mapping[str, int] = {}
    additive_noise: bool = False

    loops: Loops
    _reset: Callable | None  # compiled loops, bound at their first use
    _step: Callable | None
    _arguments: tuple[NDArray, NDArray, NDArray, NDArray]  # params, state, and the buffers for observation and metrics
    _read_obs: Callable[[], Any]
    _read_info: Callable[[], dict[str, Any]]

    def __new__(cls, *args, **kwargs):
        check_keywords(cls, kwargs)
        return super().__new__(cls)

    def __init__(
        self,
        *,
        state: np.dtype,
        params: Mapping[str, Any],
        observation_space: spaces.Space,
        action_space: spaces.Space,
        info: Mapping[str, Any] | None = None,
        texts: Mapping[str, Sequence[str]] | None = None,
        flat: bool = False,
        max_steps: int | None = None,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
    ):
        for name, limit in (("max_steps", max_steps), ("max_episode_steps", max_episode_steps)):
            if limit is not None and not (is_integer(limit) and limit > 0):
                raise ValueError(f"{name} must be a positive integer or None, got {limit!r}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be None or one of {self.metadata['render_modes']}, got {render_mode!r}")
        limits = [limit for limit in (max_steps, max_episode_steps) if limit is not None]
        self.time_limit = min(limits, default=None)
        self.params = record_of({**params, "time_limit": self.time_limit or 0})
        self.state_dtype = state
        self.observation_space, self.action_space = observation_space, action_space
        self.observations = Observations(observation_space, texts or {}, flat)
        self.actions = Actions(action_space)
        self.metrics = Metrics(info or {})
        self.render_mode = render_mode
        self._state = np.zeros(1, state)
        self._started, self._done = False, True
        self._bind()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; with a seed the whole future is a function of it. Returns the observation and the metrics."""
        seed = check_seed(seed)
        super().reset(seed=seed)
        if seed is not None or not self._started:
            word = seed if seed is not None else int(self.np_random.integers(2**63))
            self._state["rng"] = initial_words([word])
        self._started = True
        return self._refresh(begin=True)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Apply an action.

        Raises:
            ResetNeeded: before the first reset, or after an episode's end.
            InvalidAction: the action lies outside the action space.
        """
        if self._done:
            when = "after the episode's end" if self._started else "before reset"
            raise gym.error.ResetNeeded(f"step called {when}: call reset first")
        action = self.actions.one(action)
        if self._step is None:
            self._step = self.loops.get("step_one", (*self._arguments[:2], action, *self._arguments[2:]))
        params, state, obs, info = self._arguments
        reward, terminated, truncated = self._step(params, state, action, obs, info)
        self._done = terminated or truncated
        return self._read_obs(), reward, terminated, truncated, self._read_info()

    def render(self) -> Any:
        """The current state as `render_mode` says: uint8 (height, width, 3), or a string. None without a render mode."""
        if not self._started:
            raise gym.error.ResetNeeded("render called before reset: call reset first")
        return self.render_state(self._state[0])

    def get_state(self) -> NDArray:
        """A copy of the state record, () structured array, the random word included."""
        self._check_started("get_state")
        return self._state[0:1].copy().reshape(())

    def set_state(self, state: NDArray | None = None, **fields: Any) -> Any:
        """Restore a record from `get_state`, or set single fields by name. Returns the observation.

        Raises:
            ValueError: the record is of another dtype (another environment or size), or a field is unknown.
        """
        self._started = self._started or state is not None
        self._check_started("set_state")
        assign_state(self._state, state, fields)
        return self._refresh(begin=False)[0]

    def fork(self, num_envs: int, seed: int | None = None) -> "KernelVectorEnv":
        """A vector environment (DISABLED autoreset) whose lanes all start from this state.

        With `seed` lane i draws from the stream of seed + i, without it all lanes share this environment's random future.
        """
        from explore_gym.envs.engine.vector import KernelVectorEnv

        self._check_started("fork")
        envs = KernelVectorEnv(self, num_envs, autoreset_mode="Disabled")
        envs.set_state(np.repeat(self._state, num_envs))
        if seed is not None:
            envs.set_state(rng=initial_words(lane_seeds(seed, num_envs)))
        return envs

    def to_tabular(self, max_states: int = 20_000) -> TabularModel:
        """The exact model of the states that can be reached from the current one, as a `TabularModel`.

        The clock is no part of its states: rewards that depend on it are those of the current step.

        Raises:
            ValueError: there are more states than `max_states`, the actions aren't Discrete, or a draw is continuous.
        """
        self._check_started("to_tabular")
        return enumerate_model(self, self._state[0], max_states)

    def shortest_path(self, max_states: int = 1_000_000) -> list[int] | None:
        """The fewest actions from the current state to a positive reward, None if there is no way; see `planning`.

        Raises:
            ValueError: the actions aren't Discrete, a step draws random numbers, or there are more than max_states states.
        """
        self._check_started("shortest_path")
        return shortest_path(self, max_states)

    def render_state(self, state: np.void) -> Any:
        """Draw one record as `render_mode` says."""
        from explore_gym.envs.engine.canvas import PixelCanvas, TextCanvas

        if self.render_mode is None:
            gym.logger.warn("render called without a render mode: pass render_mode='rgb_array' or 'ansi' to make")
            return None
        canvas = TextCanvas() if self.render_mode == "ansi" else PixelCanvas()
        self.draw(canvas, Record(state))
        return canvas.result()

    def draw(self, canvas: Any, state: Any) -> None:
        """Draw a state record on a canvas; the one drawing behind every render mode."""
        raise NotImplementedError(f"{type(self).__name__} has no drawing")

    def _refresh(self, begin):
        params, state, obs, info = self._arguments
        args = (params, state, np.array([begin]), obs, info)
        if self._reset is None:
            self._reset = self.loops.get("reset_batch", args)
        self._reset(*args)
        self._done = bool(state["done"][0])
        return self._read_obs(), self._read_info()

    def _bind(self) -> None:
        """Set up what the compiled loops and the buffers of this process need."""
        layout = str(
            (self.params.dtype, self.state_dtype, self.observations.dtype, self.observations.shape, self.metrics.dtype)
        )
        self.loops = Loops(self.dynamics, layout, type(self).__name__, type(self).__module__)
        self._reset = self._step = None
        obs, info = self.observations.empty(1), self.metrics.empty(1)
        self._arguments = self.params, self._state, obs, info
        self._read_obs, self._read_info = self.observations.reader(obs), self.metrics.reader(info)

    def _check_started(self, what):
        if not self._started:
            raise gym.error.ResetNeeded(f"{what} called before reset: call reset first")

    def __getstate__(self):
        bound = ("loops", "_reset", "_step", "_arguments", "_read_obs", "_read_info")
        return {key: value for key, value in self.__dict__.items() if key not in bound}

    def __setstate__(self, attributes):
        self.__dict__.update(attributes)
        self._bind()


class Observations:
    """How observations of a space lie in a buffer that kernels write, and how users see them."""

    def __init__(self, space, texts, flat=False):
        self.texts, self.fields, self.flat = {}, None, flat
        self.shapes = {}  # of flattened components
        if isinstance(space, spaces.Dict):
            self.fields = {key: self._field(key, sub, texts) for key, sub in space.spaces.items()}
            self.dtype, self.shape = np.dtype([(k, *v) for k, v in self.fields.items()], align=True), ()
        else:
            self.dtype, self.shape = self._field("observation", space, texts)
            if isinstance(space, spaces.Box) and not self.shape:
                raise ValueError(f"a Box observation needs at least one dimension, got {space}")
        self.scalar = isinstance(space, spaces.Discrete)
        if self.scalar:
            self.shape = (1,)

    def _field(self, key, space, texts):
        if isinstance(space, spaces.Text):
            self.texts[key] = tuple(texts[key])
            return np.dtype(np.int64), ()
        if isinstance(space, spaces.Box) and self.flat:
            self.shapes[key] = space.shape
            return space.dtype, (math.prod(space.shape),)
        if isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
            return space.dtype, space.shape
        raise ValueError(f"observation {key!r} must be Box, Discrete, MultiDiscrete, MultiBinary or Text, got {space}")

    def empty(self, num_envs):
        """A buffer for that many lanes, to be filled by `observe`."""
        return np.empty((num_envs, *self.shape), self.dtype)

    def batch(self, buffer):
        """The observation of a batch: views of the buffer, and a tuple of strings for each Text."""
        if self.fields is None:
            return buffer[:, 0] if self.scalar else self._shaped("observation", buffer)
        return {k: self._texts(k, buffer[k]) if k in self.texts else self._shaped(k, buffer[k]) for k in self.fields}

    def _shaped(self, key, column):
        return column.reshape(len(column), *self.shapes[key]) if key in self.shapes else column

    def _texts(self, key, index):
        texts = self.texts[key]
        return texts * len(index) if len(texts) == 1 else tuple([texts[i] for i in index.tolist()])

    def reader(self, buffer):
        """A function that gives the observation in a buffer of one lane, as fresh values."""
        if self.fields is None:
            lane = self._shaped("observation", buffer)[0]
            return (lambda: lane[0]) if self.scalar else lane.copy

        def read_field(key):
            column = self._shaped(key, buffer[key])
            if key in self.texts:
                return lambda: self.texts[key][column[0]]
            return (lambda: column[0]) if column.ndim == 1 else column[0].copy

        readers = [(key, read_field(key)) for key in self.fields]
        return lambda: {key: read() for key, read in readers}


class Metrics:
    """How the metrics that `inform` writes lie in a buffer, and the info dicts made of them."""

    def __init__(self, fields):
        kinds = {int: np.int64, float: np.float64, bool: np.bool_}
        typed = {key: kind if isinstance(kind, tuple) else (kind, ()) for key, kind in fields.items()}
        self.fields = tuple(fields)
        for key, (kind, shape) in typed.items():
            if kind not in kinds or (kind is bool and shape):
                raise ValueError(f"metric {key!r} must be int, float or bool, or (int or float, shape), got {fields[key]}")
        dtype = [(key, kinds[kind], shape) for key, (kind, shape) in typed.items()]
        self.dtype = np.dtype(dtype, align=True) if fields else np.dtype(np.uint8)

    def empty(self, num_envs):
        """A buffer for that many lanes, to be filled by `inform`."""
        return np.empty(num_envs, self.dtype)

    def batch(self, buffer, present):
        """Gymnasium's vector info: for each metric an array over lanes, and under `_key` the mask of lanes that have it."""
        info = {}
        for key in self.fields:
            info[key] = buffer[key]
            info[f"_{key}"] = present
        return info

    def reader(self, buffer):
        """A function that gives the info dict in a buffer of one lane: Python numbers, and arrays for metrics with a shape."""
        arrays = {key: buffer[key][0] for key in self.fields if buffer[key].ndim > 1}

        def read():
            info = dict(zip(self.fields, buffer.item()))
            for key, array in arrays.items():
                info[key] = array.copy()
            return info

        return read if self.fields else dict


class Actions:
    """Checks actions and brings them into the type that kernels take."""

    def __init__(self, space):
        if isinstance(space, spaces.Discrete):
            low, high, self.dtype = [space.start], [space.start + space.n - 1], np.dtype(np.int64)
        elif isinstance(space, spaces.MultiDiscrete):
            low, high, self.dtype = space.start, space.start + space.nvec - 1, np.dtype(np.int64)
        elif isinstance(space, spaces.MultiBinary):
            low, high, self.dtype = np.zeros(space.shape), np.ones(space.shape), np.dtype(np.int64)
        elif isinstance(space, spaces.Box):
            low, high, self.dtype = space.low, space.high, space.dtype
        else:
            raise ValueError(f"action_space must be Discrete, MultiDiscrete, MultiBinary or Box, got {space}")
        self.space, self.shape = space, space.shape
        self.low, self.high = np.array(low, self.dtype).ravel(), np.array(high, self.dtype).ravel()
        self.first, self.last = self.low[0].item(), self.high[0].item()
        self.kinds = "iu" if self.dtype.kind in "iu" else "iuf"

    def one(self, action):
        """A checked action of one lane: a Python int for Discrete, else an array of the space's shape."""
        if not self.shape:
            if type(action) is int and self.first <= action <= self.last:
                return action
            if not is_integer(action) or not self.first <= action <= self.last:
                raise gym.error.InvalidAction(f"action must be an element of {self.space}, got {action!r}")
            return int(action)
        array = self._typed(action, self.shape)
        if not np.all((self.low <= array.ravel()) & (array.ravel() <= self.high)):
            raise gym.error.InvalidAction(f"action must be an element of {self.space}, got {action!r}")
        return array

    def batch(self, actions, num_envs):
        """Actions of right shape and type, (num_envs, *shape); the loop checks their range."""
        return self._typed(actions, (num_envs, *self.shape))

    def _typed(self, actions, shape):
        array = np.asarray(actions)
        if array.dtype.kind not in self.kinds or array.shape != shape:
            expected = "integers" if self.kinds == "iu" else "numbers"
            found = f"{array.dtype} of shape {array.shape}"
            raise gym.error.InvalidAction(f"actions must be {expected} of shape {shape}, elements of {self.space}, got {found}")
        return np.ascontiguousarray(array, self.dtype)


def is_integer(value: Any) -> bool:
    """Whether a value is an integer and no bool: a Python int, a NumPy integer or a 0-d array of one."""
    if isinstance(value, np.ndarray):
        return value.ndim == 0 and value.dtype.kind in "iu"
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_seed(seed: Any) -> int | None:
    """A seed as a Python int, or None."""
    if seed is not None and not (is_integer(seed) and 0 <= seed < 2**64):
        raise ValueError(f"seed must be None or an integer in [0, 2**64), got {seed!r}")
    return seed if seed is None else int(seed)


def lane_seeds(seed: Any, num_envs: int) -> NDArray[np.uint64]:
    """uint64 (num_envs,): seed + i for lane i."""
    seed = check_seed(seed)
    if seed > 2**64 - num_envs:
        raise ValueError(f"seed must be at most 2**64 - num_envs, so that seed + lane fits 64 bits, got {seed}")
    return np.uint64(seed) + np.arange(num_envs, dtype=np.uint64)


def assign_state(target, state, fields):
    """Copy whole records, or fields by name, into a structured array of records; fields make what was `stale` so."""
    if state is not None:
        state = np.asarray(state)
        if state.dtype != target.dtype:
            raise ValueError(f"state must have the dtype {target.dtype}, got {state.dtype}")
        target[...] = state
    for name, value in fields.items():
        if name not in target.dtype.names:
            raise ValueError(f"state has no field {name!r} (expected one of {', '.join(target.dtype.names)})")
        target[name] = value
    if fields and "stale" in target.dtype.names:
        target["stale"] = True


def check_keywords(cls, kwargs):
    """Raise a TypeError that names an argument which the class's constructor doesn't have, and those it has."""
    parameters = inspect.signature(cls.__init__).parameters
    unknown = sorted(kwargs.keys() - parameters.keys())
    if unknown and all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        expected = ", ".join(name for name in parameters if name != "self")
        raise TypeError(f"{cls.__name__} got an unexpected keyword argument {unknown[0]!r} (expected one of {expected})")
