"""Exploration statistics: what was visited, how evenly, and when for the first time, per episode and over all training."""

from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import ArrayLike, NDArray

from explore_gym.wrappers.count_table import CountTable, Key, check_key, read_keys
from explore_gym.wrappers.lanes import LaneWrapper, is_integer


class ExplorationStatistics(LaneWrapper):
    """Counts visits of cells, at a cost per step that on average doesn't grow with their number.

    Adds `info["episode_unique"]`, int64 (num_envs,): distinct cells visited in this episode, and `info["episode_entropy"]`,
    float64 (num_envs,): entropy of its distribution of visits, in nats. Both include its first state. `statistics()` and
    `coverage()` are over all lanes and the whole lifetime, which no reset ends.

    Args:
        key: name of an integer entry of the info, or a function of (obs, info) that returns integers (num_envs,).
        num_cells: how many cells there are, to make coverage a fraction; None counts cells.

    Raises:
        ValueError: num_cells is no positive integer, or the environment gives no such keys.
    """

    def __init__(self, env: VectorEnv, key: Key = "cell", num_cells: int | None = None):
        super().__init__(env)
        check_key(key)
        if num_cells is not None and not (is_integer(num_cells) and num_cells >= 1):
            raise ValueError(f"num_cells must be a positive integer or None, got {num_cells!r}")
        self.key, self.num_cells = key, num_cells
        self.episodic, self.overall = CountTable(), CountTable()
        self.episode, self.num_episodes = np.zeros(self.num_envs, np.int64), 0
        self.visits, self.unique = np.zeros((2, self.num_envs), np.int64)
        self.weighted_logs = np.zeros(self.num_envs)  # sum over cells of count * log(count)
        self.steps = self.ended = self.ended_unique = 0
        self.found: list[NDArray] = []  # cells in the order of their first visits,
        self.found_at: list[NDArray] = []  # and the steps of those

    def statistics(self) -> dict[str, Any]:
        """Statistics of the lifetime.

        Returns:
            steps: environment steps taken, all lanes together. episodes: how many have ended.
            unique_cells: distinct cells visited. coverage: their fraction of num_cells, or their number.
            entropy: of the distribution of all visits, in nats.
            mean_episode_unique: distinct cells per ended episode, NaN if none has.
            cells, visits, first_visit: int64 (unique_cells,) each, in the order of first visits: the cells, how often they
            were visited, and `steps` at their first visit, 0 for the cells of the first reset.
        """
        found, first_visit = self._first_visits()
        _, cells, visits = self.overall.entries()
        order = np.argsort(cells)
        visits = visits[order[np.searchsorted(cells, found, sorter=order)]]
        share = visits / max(visits.sum(), 1)
        return {
            "steps": self.steps,
            "episodes": self.ended,
            "unique_cells": len(found),
            "coverage": len(found) / (self.num_cells or 1),
            "entropy": float(-(share * np.log(share)).sum()),
            "mean_episode_unique": self.ended_unique / self.ended if self.ended else float("nan"),
            "cells": found,
            "visits": visits,
            "first_visit": first_visit,
        }

    def coverage(self, steps: ArrayLike) -> NDArray:
        """Coverage after so many environment steps of all lanes together, float64 in the shape of `steps`."""
        _, first_visit = self._first_visits()
        return np.searchsorted(first_visit, steps, side="right") / (self.num_cells or 1)

    def start(self, lanes, obs, info):
        count = int(lanes.sum())
        self.episode[lanes] = self.num_episodes + np.arange(count)
        self.num_episodes += count
        self.visits[lanes] = self.unique[lanes] = 0
        self.weighted_logs[lanes] = 0.0
        self._count(lanes, obs, info)

    def advance(self, lanes, actions, obs, reward, terminated, truncated, info):
        self.steps += int(lanes.sum())
        self._count(lanes, obs, info)
        ended = lanes & (terminated | truncated)
        self.ended += int(ended.sum())
        self.ended_unique += int(self.unique[ended].sum())
        return reward

    def report(self):
        visits = np.maximum(self.visits, 1)  # lanes that a first reset has yet to start have none
        entropy = np.maximum(np.log(visits) - self.weighted_logs / visits, 0.0)  # rounding may go below
        return {"episode_unique": self.unique, "episode_entropy": entropy}

    def _count(self, lanes, obs, info):
        cells = read_keys(self.key, obs, info, lanes)
        count = self.episodic.add(self.episode[lanes], cells, alive=self.episode)
        self.visits[lanes] += 1
        self.unique[lanes] += count == 1
        before = np.maximum(count - 1, 1)
        self.weighted_logs[lanes] += count * np.log(count) - before * np.log(before)
        known, everyone = len(self.overall), np.zeros(len(cells), np.int64)
        total = self.overall.add(everyone, cells)
        if len(self.overall) > known:
            distinct, index, arrivals = np.unique(cells, return_index=True, return_counts=True)
            new = distinct[total[index] == arrivals]
            self.found.append(new)
            self.found_at.append(np.full(len(new), self.steps))

    def _first_visits(self):
        empty = np.zeros(0, np.int64)
        return np.concatenate([empty, *self.found]), np.concatenate([empty, *self.found_at])
