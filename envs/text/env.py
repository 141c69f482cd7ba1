"""Text tasks as environments of strings: the observation is what the environment says, the action what is answered.

An observation is the prompt or, within a dialogue, the reply; it is empty after the last response. The action is any text in
the action space: printable ASCII and the signs × · ÷ − (or the task's own), up to the task's `max_response` characters. The
whole state is a record, texts included. The info has `index` (of the task), `turn` (responses so far), `success` and the
task's own metrics.
"""

import string
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from explore_gym.envs.engine.env import Metrics, is_integer
from explore_gym.envs.engine.kernels import state_dtype
from explore_gym.envs.engine.random import GAMMA, U32, initial_words
from explore_gym.envs.engine.vector import KernelVectorEnv, read_only
from explore_gym.envs.text.task import Task


class TextVectorEnv(KernelVectorEnv):
    """A batch of a text task, strings in and out. Lane i of a batch seeded s equals the single environment seeded s + i.

    `reset(options={"index": i})` starts a given task, an integer or one for each lane; otherwise the index is drawn uniformly.
    Autoreset, infos and snapshots are those of every batch of the suite (`KernelVectorEnv`).

    Args:
        task: what is asked and how answers are verified.
        num_envs: number of lanes.
        autoreset_mode: "NextStep", "SameStep", "Disabled" or an `AutoresetMode`.
        render_mode: None or "ansi".
        max_episode_steps: steps after which an episode is truncated, None: never.

    Raises:
        ValueError: an argument is out of range.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}

    def __init__(
        self,
        task: Task,
        num_envs: int = 1,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
    ):
        for name, number in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps or 1)):
            if not is_integer(number) or number < 1:
                raise ValueError(f"{name} must be a positive integer, got {number!r}")
        if render_mode not in (None, "ansi"):
            raise ValueError(f"render_mode must be None or 'ansi', got {render_mode!r}")
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError:
            expected = [mode.value for mode in AutoresetMode]
            raise ValueError(f"autoreset_mode must be one of {expected}, got {autoreset_mode!r}") from None
        self.task, self.num_envs, self.render_mode, self.time_limit = task, int(num_envs), render_mode, max_episode_steps
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = self._spaces()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metrics = Metrics({"index": int, "turn": int, "success": bool, **task.metrics})
        fields = {"index": np.int64, "memory": task.memory_dtype, "report": self.metrics.dtype, **self._fields()}
        self._state = np.zeros(num_envs, state_dtype(**fields))
        self._started = False
        self._present = read_only(np.ones(num_envs, bool))
        self._chosen: NDArray | None = None  # indices asked for by the reset that is under way

    def _spaces(self) -> tuple[spaces.Space, spaces.Space]:
        characters = "".join(dict.fromkeys(string.printable + self.task.characters))  # a set has another order in each process
        said = spaces.Text(self.task.max_prompt, min_length=0, charset=characters)
        return said, spaces.Text(self.task.max_response, min_length=0, charset=characters)

    def _fields(self) -> dict[str, Any]:
        return {"said": f"U{self.task.max_prompt}", "response": f"U{self.task.max_response}"}

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes in all lanes, or in those of `options["reset_mask"]`, of the tasks `options["index"]` if given."""
        if options is not None and "index" in options:
            chosen = np.asarray(options["index"])
            last = self.task.num_tasks - 1
            fits = chosen.dtype.kind in "iu" and chosen.shape in ((), (self.num_envs,))
            if not fits or not ((chosen >= 0) & (chosen <= last)).all():
                expected = f"one in [0, {last}] or {self.num_envs} of them"
                raise ValueError(f"options['index'] must be an integer, {expected}, got {options['index']!r}")
            self._chosen = np.broadcast_to(chosen, self.num_envs)
        try:
            return super().reset(seed=seed, options=options)
        finally:
            self._chosen = None

    def step(self, actions: Any) -> tuple[Any, NDArray, NDArray, NDArray, dict[str, Any]]:
        """Step all lanes.

        Raises:
            ResetNeeded: before the first reset, or in DISABLED mode with a lane that is done.
            InvalidAction: an action lies outside the action space; no lane has moved then.
        """
        if not self._started:
            raise gym.error.ResetNeeded("step called before reset: call reset first")
        actions, state = self._checked(actions), self._state
        ended = np.flatnonzero(state["done"])
        if self.autoreset_mode is AutoresetMode.DISABLED and len(ended):
            raise gym.error.ResetNeeded(
                f"lanes {ended.tolist()} are done: reset them first, with options={{'reset_mask': mask}}"
            )
        lanes = np.flatnonzero(~state["done"])
        self._start(ended)
        reward, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        state["t"][lanes] += 1
        self._act(lanes, actions, reward, terminated)
        truncated = np.zeros(self.num_envs, bool)
        if self.time_limit is not None:
            truncated[lanes] = state["t"][lanes] >= self.time_limit
        state["done"] = done = terminated | truncated
        obs, infos = self._observe(), self._report(self._present)
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            final_obs, final_info = obs, infos
            self._start(np.flatnonzero(done))
            obs, infos = self._observe(), self._report(self._present)
            infos["final_obs"], infos["_final_obs"] = final_obs, done.copy()
            infos["final_info"], infos["_final_info"] = final_info, done.copy()
        return obs, reward, terminated, truncated, infos

    def _checked(self, actions: Any) -> Any:
        """The actions as a list of strings."""
        if not isinstance(actions, (list, tuple, np.ndarray)) or len(actions) != self.num_envs:
            raise gym.error.InvalidAction(f"actions must be a sequence of {self.num_envs} strings, got {short(actions)}")
        for lane, action in enumerate(actions):
            if not isinstance(action, str):
                raise gym.error.InvalidAction(f"lane {lane}: action must be a string, got {short(action)}")
            if len(action) > self.task.max_response:
                limit = f"at most {self.task.max_response} characters long"
                raise gym.error.InvalidAction(f"lane {lane}: action must be {limit}, got {len(action)} characters")
            if foreign := set(action) - self.single_action_space.character_set:  # type: ignore[attr-defined]
                raise gym.error.InvalidAction(
                    f"lane {lane}: action must consist of the action space's characters, got {min(foreign)!r}"
                )
        return [str(action) for action in actions]

    def _act(self, lanes, actions, reward, terminated):
        """Let these lanes act; writes their rewards and ends."""
        responses = [actions[lane] for lane in lanes.tolist()]
        replies = self._respond(lanes, responses)
        for lane, response, reply in zip(lanes.tolist(), responses, replies):
            self._state["said"][lane], self._state["response"][lane] = reply.text, response
            reward[lane], terminated[lane] = reply.reward, reply.terminated

    def _respond(self, lanes, responses):
        """The task's replies to these lanes' responses, their metrics noted."""
        state = self._state
        memories = state["memory"][lanes]
        replies = self.task.respond_batch(state["index"][lanes], memories, responses)
        state["memory"][lanes] = memories
        report = state["report"]
        report["turn"][lanes] = memories["turn"]
        for lane, reply in zip(lanes.tolist(), replies):
            for key, value in reply.metrics.items():
                report[key][lane] = value
        return replies

    def _start(self, lanes):
        """Start episodes in these lanes."""
        if not len(lanes):
            return
        state = self._state
        if self._chosen is None:
            words = initial_words(state["rng"][lanes])
            state["index"][lanes] = ((words >> U32) * np.uint64(self.task.num_tasks)) >> U32
        else:
            state["index"][lanes] = self._chosen[lanes]
        state["rng"][lanes] += GAMMA
        state["t"][lanes], state["done"][lanes] = 0, False
        memories, report = np.zeros(len(lanes), self.task.memory_dtype), np.zeros(len(lanes), self.metrics.dtype)
        report["index"] = state["index"][lanes]
        prompts = [self.task.begin(i, memory) for i, memory in zip(state["index"][lanes].tolist(), memories)]
        state["memory"][lanes], state["report"][lanes] = memories, report
        self._open(lanes, prompts)

    def _open(self, lanes, prompts):
        """Show these lanes their prompts."""
        for lane, prompt in zip(lanes.tolist(), prompts):
            self._state["said"][lane] = prompt
        self._state["response"][lanes] = ""

    def _observe(self) -> Any:
        return tuple(self._state["said"].tolist())

    def _report(self, present):
        return self.metrics.batch(self._state["report"].copy(), present)

    def _refresh(self, mask):
        self._start(np.flatnonzero(mask))
        report = self._state["report"].copy()
        report[~mask] = np.zeros((), report.dtype)  # Gymnasium: lanes that weren't reset have no reset info
        return self._observe(), self.metrics.batch(report, mask)

    def render(self) -> Any:
        """One text for each lane: what was said last, and the response to it."""
        if not self._started:
            raise gym.error.ResetNeeded("render called before reset: call reset first")
        if self.render_mode is None:
            gym.logger.warn("render called without a render mode: pass render_mode='ansi' to make")
            return None
        return tuple(self._draw(lane) for lane in range(self.num_envs))

    def _draw(self, lane):
        return f"> {self._state['response'][lane]}\n{self._state['said'][lane]}"

    def fork(self, lanes: ArrayLike) -> "TextVectorEnv":
        """A batch like this one whose lanes are copies of the given lanes, random words included."""
        records = self.get_state(lanes)
        envs = self._like(len(records))
        envs.set_state(records)
        return envs

    def _like(self, num_envs, autoreset_mode=None):
        return TextVectorEnv(self.task, num_envs, autoreset_mode or self.autoreset_mode, self.render_mode, self.time_limit)

    def __getstate__(self):
        return self.__dict__


class TextEnv(gym.Env):
    """A single environment: a batch of one lane.

    Attributes:
        task: what is asked and how answers are verified.

    Args:
        batch: the lane, with autoreset disabled.
    """

    metadata = TextVectorEnv.metadata

    def __init__(self, batch: TextVectorEnv):
        self.batch, self.task = batch, batch.task
        self.observation_space, self.action_space = batch.single_observation_space, batch.single_action_space
        self.render_mode, self.time_limit = batch.render_mode, batch.time_limit

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode, of the task `options["index"]` if given."""
        if seed is not None and not is_integer(seed):
            raise ValueError(f"seed must be None or an integer in [0, 2**64), got {seed!r}")
        super().reset(seed=seed)
        obs, infos = self.batch.reset(seed=seed, options=options)
        return self._first(obs), first_info(infos)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Apply an action.

        Raises:
            ResetNeeded: before the first reset, or after the episode's end.
            InvalidAction: the action lies outside the action space.
        """
        obs, reward, terminated, truncated, infos = self.batch.step(self._lane_of(action))
        return self._first(obs), float(reward[0]), bool(terminated[0]), bool(truncated[0]), first_info(infos)

    def _first(self, obs: Any) -> Any:
        return obs[0]

    def _lane_of(self, action: Any) -> Any:
        return (action,)

    def render(self) -> Any:
        """What was said last as text, None without a render mode."""
        frames = self.batch.render()
        return None if frames is None else frames[0]

    def get_state(self) -> NDArray:
        """A copy of the state record, () structured array, the random word included."""
        return self.batch.get_state().reshape(())

    def set_state(self, state: NDArray | None = None, **fields: Any) -> Any:
        """Restore a record from `get_state`, or set single fields by name. Returns the observation."""
        return self._first(self.batch.set_state(state, **fields))

    def fork(self, num_envs: int) -> TextVectorEnv:
        """A batch (DISABLED autoreset) whose lanes all start from this state."""
        records = np.repeat(self.batch.get_state(), num_envs)
        envs = self.batch._like(num_envs, AutoresetMode.DISABLED)
        envs.set_state(records)
        return envs


def first_info(infos):
    """The info of a batch of one lane as that of a single environment."""
    return {key: value[0].item() if value.ndim == 1 else value[0].copy() for key, value in infos.items() if key[0] != "_"}


def short(value):
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
