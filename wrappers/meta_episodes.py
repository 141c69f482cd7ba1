"""Meta-episodes: k episodes of one task as one, so that what was learnt in the first can be used in the next."""

from collections.abc import Collection
from copy import deepcopy

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from explore_gym.wrappers.lanes import LaneWrapper, is_integer, is_object_array, lane_seeds, overwritten, reset_lanes

PARTS = ("action", "reward", "done")


class MetaEpisodes(LaneWrapper):
    """Plays k episodes of the same task in a row and ends, terminated, after the last.

    The task is the seed: each inner episode is a reset of the lane with the seed of its meta-episode. So everything drawn at
    random repeats, the layout as well as what happens to the same actions afterwards, which is exact where dynamics are
    deterministic. The environment must be a function of `reset(seed=[...], options={"reset_mask": mask})`, as this suite's
    and Gymnasium's SyncVectorEnv are. The first task of lane i behind `reset(seed=s)` is the seed s + i, later ones are drawn.

    Where the environment resets itself, that reset is thrown away for one with a known seed: put wrappers that count over
    all training around this one, not inside.

    The step that ends an inner episode, by termination or truncation, returns the first observation of the next; only the
    last step of the meta-episode returns the last observation. Adds `info["inner_episode"]`, int64 (num_envs,): 0 to k - 1,
    the episode that the observation belongs to, and `info["inner_done"]`, bool (num_envs,): whether the step ended one.

    Args:
        k: number of episodes.
        features: what is added to the observation: any of "action" (the previous one, one-hot if Discrete, flat if a Box),
            "reward" (the previous one) and "done" (1 if the previous step ended an inner episode), in this order. All are
            zero at the start of a meta-episode. A float vector is extended by them, any other observation becomes a Dict
            with the key "previous".

    Raises:
        ValueError: an argument is out of range, or "action" is asked for and actions are neither Discrete nor a Box.

    Source: Duan et al., "RL²: Fast reinforcement learning via slow reinforcement learning" (2016), section 2.
    """

    def __init__(self, env: VectorEnv, k: int = 2, features: Collection[str] = PARTS):
        super().__init__(env)
        if not (is_integer(k) and k >= 1):
            raise ValueError(f"k must be a positive integer, got {k!r}")
        if isinstance(features, str) or not set(features) <= set(PARTS):
            raise ValueError(f"features must be a collection of some of {list(PARTS)}, got {features!r}")
        self.k, self.parts = k, [part for part in PARTS if part in features]
        action, self.actions = env.single_action_space, 0
        if "action" in self.parts:
            if not isinstance(action, spaces.Discrete | spaces.Box):
                raise ValueError(f"the action as a feature must be Discrete or a Box, got {action}")
            self.actions = int(action.n) if isinstance(action, spaces.Discrete) else int(np.prod(action.shape))
        self.features = np.zeros((self.num_envs, self.actions + ("reward" in self.parts) + ("done" in self.parts)))
        if self.parts:
            self.add_component("previous", self.features.shape[1], -np.inf, np.inf)
        self.tasks = [0] * self.num_envs
        self.inner_episode = np.zeros(self.num_envs, np.int64)
        self.inner_done = np.zeros(self.num_envs, bool)

    def reset_env(self, seed, options):
        given = lane_seeds(seed, self.num_envs)
        tasks = [new if own is None else own for own, new in zip(given, self._new_tasks(), strict=True)]
        result = self.env.reset(seed=tasks, options=options)
        lanes = reset_lanes(options, self.num_envs)
        self._assign(lanes, tasks)
        self.random.skip(lanes, 1)
        return result

    def step_env(self, actions):
        obs, reward, terminated, truncated, info = self.env.step(actions)
        ended = (terminated | truncated) & ~self.pending
        last = ended & (self.inner_episode == self.k - 1)
        again = ended & ~last
        fresh = self.pending  # these lanes were reset by the environment, to a task that nobody knows
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            fresh = last
        elif self.autoreset_mode is AutoresetMode.DISABLED:
            fresh = np.zeros(self.num_envs, bool)
        self.inner_done = ended
        self.inner_episode[again] += 1
        if (again | fresh).any():
            obs, info = self._restart(again, fresh, obs, info)
        return obs, reward, last, np.zeros(self.num_envs, bool), info

    def advance(self, lanes, actions, obs, reward, terminated, truncated, info):
        parts = []
        if "action" in self.parts:
            taken, space = np.asarray(actions)[lanes], self.env.single_action_space
            one_hot = isinstance(space, spaces.Discrete)
            parts.append(np.eye(self.actions)[taken - space.start] if one_hot else taken.reshape(len(taken), self.actions))
        if "reward" in self.parts:
            parts.append(reward[lanes, None])
        if "done" in self.parts:
            parts.append(self.inner_done[lanes, None])
        if parts:
            self.features[lanes] = np.concatenate(parts, axis=1)
        return reward

    def start(self, lanes, obs, info):
        self.features[lanes] = 0.0
        self.inner_episode[lanes], self.inner_done[lanes] = 0, False

    def extend(self, obs, index):
        return self.join(obs, self.features[index]) if self.parts else obs

    def report(self):
        return {"inner_episode": self.inner_episode, "inner_done": self.inner_done}

    def _restart(self, again, fresh, obs, info):
        """Reset lanes to their task, or to a new one; observation and info of the step become those of the reset there."""
        self._assign(fresh, self._new_tasks())
        self.random.skip(fresh, 1)
        lanes = again | fresh
        final = {key: info[key] for key in ("final_obs", "final_info") if key in info}
        seeds = [task if restarted else None for task, restarted in zip(self.tasks, lanes, strict=True)]
        info = deepcopy(info)  # the reset may write into its arrays
        obs, restarted = self.env.reset(seed=seeds, options={"reset_mask": lanes.copy()})
        info = overwritten(info, restarted, lanes)
        if final and is_object_array(final["final_obs"]):
            ends = final["final_obs"].copy()
            ends[again] = None
            if fresh.any():
                info.update(final_obs=ends, final_info=overwritten(final["final_info"], {}, again))
        elif final:  # dense: what lanes that go on have there is what the step returns
            space = self.env.single_observation_space
            info["final_obs"] = chosen(space, again, obs, final["final_obs"])
            info["final_info"] = overwritten(final["final_info"], info, again)
        if "final_obs" in info:
            info["_final_obs"], info["_final_info"] = fresh.copy(), fresh.copy()
        return obs, info

    def _new_tasks(self):
        return [int(word) >> 1 for word in self.random.words(1)[:, 0]]

    def _assign(self, lanes, tasks):
        self.tasks = [new if chosen else old for new, old, chosen in zip(tasks, self.tasks, lanes.tolist(), strict=True)]


def chosen(space, lanes, ours, others):
    """A batch with the given lanes of one batch and the other lanes of another."""
    if isinstance(space, spaces.Dict):
        return {key: chosen(part, lanes, ours[key], others[key]) for key, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(chosen(part, lanes, a, b) for part, a, b in zip(space, ours, others, strict=True))
    if isinstance(ours, np.ndarray):
        return np.where(lanes.reshape(-1, *[1] * (ours.ndim - 1)), ours, others)
    return tuple(a if lane else b for lane, a, b in zip(lanes, ours, others, strict=True))  # such as texts
