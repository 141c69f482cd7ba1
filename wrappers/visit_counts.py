"""Visit counts of states, per episode and over all training, as infos and as exploration bonuses."""

import numpy as np
from gymnasium.vector import VectorEnv

from explore_gym.wrappers.count_table import CountTable, Key, check_key, read_keys
from explore_gym.wrappers.lanes import LaneWrapper, is_number

BONUSES = {  # of the episodic count n and the global count N
    "global": lambda episodic, overall: 1.0 / np.sqrt(overall),
    "episodic": lambda episodic, overall: 1.0 * (episodic == 1),
    "product": lambda episodic, overall: (episodic == 1) / np.sqrt(overall),
}


class VisitCounts(LaneWrapper):
    """Counts visits of the state reached, this one included, and optionally pays a bonus for it.

    Adds `info["episodic_count"]` and `info["global_count"]`, int64 (num_envs,). The first state of an episode is counted and
    pays nothing. Global counts outlive every reset; `forget()` clears them.

    Args:
        key: name of an integer entry of the info, or a function of (obs, info) that returns integers (num_envs,).
        bonus: what is added to the reward, times coef: "global" 1 / sqrt(N), "episodic" 1 if n = 1, "product" of the two, or
            None.
        shared: whether all lanes count into one global table, all arrivals of a step at once. Otherwise each lane has its
            own, and doesn't depend on the others.

    Raises:
        ValueError: an argument is none of these, or the environment gives no such keys.

    Source: Henaff, Jiang and Raileanu (2023, arXiv:2306.03236), eq. 7-8.
    """

    def __init__(self, env: VectorEnv, key: Key = "cell", bonus: str | None = None, coef: float = 1.0, shared: bool = True):
        super().__init__(env)
        check_key(key)
        if bonus is not None and bonus not in BONUSES:
            raise ValueError(f"bonus must be None or one of {sorted(BONUSES)}, got {bonus!r}")
        if not (is_number(coef) and np.isfinite(coef)):
            raise ValueError(f"coef must be a finite number, got {coef!r}")
        self.key, self.bonus, self.coef = key, bonus, coef
        self.owner = np.zeros(self.num_envs, np.int64) if shared else np.arange(self.num_envs)
        self.episodic, self.overall = CountTable(), CountTable()
        self.episode, self.num_episodes = np.zeros(self.num_envs, np.int64), 0
        self.episodic_count, self.global_count = np.zeros((2, self.num_envs), np.int64)

    def forget(self) -> None:
        """Clear the global counts; those of running episodes stay."""
        self.overall = CountTable()

    def start(self, lanes, obs, info):
        count = int(lanes.sum())
        self.episode[lanes] = self.num_episodes + np.arange(count)
        self.num_episodes += count
        self._count(lanes, obs, info)

    def advance(self, lanes, actions, obs, reward, terminated, truncated, info):
        self._count(lanes, obs, info)
        if self.bonus is None:
            return reward
        return reward + self.coef * np.where(lanes, BONUSES[self.bonus](self.episodic_count, self.global_count), 0.0)

    def report(self):
        return {"episodic_count": self.episodic_count, "global_count": self.global_count}

    def _count(self, lanes, obs, info):
        keys = read_keys(self.key, obs, info, lanes)
        self.episodic_count[lanes] = self.episodic.add(self.episode[lanes], keys, alive=self.episode)
        self.global_count[lanes] = self.overall.add(self.owner[lanes], keys)
