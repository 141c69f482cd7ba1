"""The named suites of the test bed: environments, budgets, and the returns between which scores are normalised.

A score is (return - random) / (optimal - random): 0 is uniformly random actions, 1 the best policy there is. `source` says
where the two returns come from: "exact" is dynamic programming or a formula, `random_value()` and `optimal_value()` of the
environment; "stored" is docs/envs/scores.json, where random was played and optimal is the mean over layouts that were solved.
Once scores of a suite have been published, its lines stay as they are: a change makes a new suite.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from explore_gym.agents.common.errors import UsageError

SOURCES = ("exact", "stored", "given")  # given: by the author of a suite in a file


@dataclass(frozen=True)
class Task:
    """One line of a suite."""

    env: str  # id
    steps: int  # budget: environment steps of training
    random: float  # return of uniformly random actions
    optimal: float  # return of the best policy
    source: str = "given"
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Such as DeepSea-v0,size=10: for tables and folders."""
        words = [self.env.removeprefix("Explore/"), *(f"{key}={value}" for key, value in self.kwargs.items())]
        return re.sub(r"[^\w.,=+-]", "-", ",".join(words))

    def normalised(self, episode_return: float) -> float:
        return (episode_return - self.random) / (self.optimal - self.random)


DEEP_SEA_10 = Task("Explore/DeepSea-v0", 50_000, -0.004023, 0.99, "exact", {"size": 10})
RIVER_SWIM_12 = Task("Explore/RiverSwim-v0", 50_000, 0.13742, 28.928659, "exact", {"size": 12, "max_steps": 100})
SLIPPERY_ROOMS = Task("Explore/SlipperyRooms-v0", 50_000, 0.643146, 79.796184, "exact")
GARNET = Task("Explore/Garnet-v0", 50_000, 48.437221, 84.155, "exact")

DOOR_KEY_5 = Task("Explore/DoorKey-v0", 200_000, 0.033172, 0.963352, "stored", {"size": 5, "observation": "image"})
TWO_ROOMS = {"min_rooms": 2, "max_rooms": 2, "max_room_size": 4, "observation": "image"}
ONE_ROW = {"room_size": 3, "num_rows": 1, "observation": "image"}

SUITES: dict[str, list[Task]] = {
    # a single reward at the end of a long way
    "sparse": [
        DEEP_SEA_10,
        Task("Explore/DeepSea-v0", 100_000, -0.004999, 0.99, "exact", {"size": 20}),
        Task("Explore/FourRooms-v0", 200_000, 0.018458, 0.8542, "stored", {"observation": "image"}),
        DOOR_KEY_5,
    ],
    # noise in transitions and rewards
    "stochastic": [
        Task("Explore/DeepSea-v0", 100_000, -0.004622, 0.380907, "exact", {"size": 10, "deterministic": False}),
        RIVER_SWIM_12,
        SLIPPERY_ROOMS,
        GARNET,
    ],
    # a new task or layout in every episode
    "contextual": [
        Task("Explore/MetaBandit-v0", 500_000, 0.0, 34.888934, "exact"),
        Task("Explore/MetaBandit-v0", 500_000, 15.0, 25.0, "exact", {"family": "bernoulli"}),
        Task("Explore/MetaBandit-v0", 500_000, 3.0, 33.386146, "exact", {"safe_arm": 0.5}),
        Task("Explore/FourRooms-v0", 200_000, 0.087586, 0.92845, "stored", {"size": 9, "observation": "image"}),
    ],
    # Minigrid's tasks
    "minigrid": [
        DOOR_KEY_5,
        Task("Explore/DoorKey-v0", 500_000, 0.008586, 0.976867, "stored", {"observation": "image"}),
        Task("Explore/MultiRoom-v0", 500_000, 0.008421, 0.84295, "stored", TWO_ROOMS),
        Task("Explore/LavaGap-v0", 500_000, 0.010868, 0.95151, "stored", {"observation": "image"}),
        Task("Explore/LavaCrossing-v0", 500_000, 0.004711, 0.960917, "stored", {"observation": "image"}),
        Task("Explore/Unlock-v0", 500_000, 0.023128, 0.970562, "stored", {"observation": "image"}),
        Task("Explore/UnlockPickup-v0", 500_000, 0.000773, 0.949063, "stored", {"observation": "image"}),
        Task("Explore/KeyCorridor-v0", 500_000, 0.018947, 0.950867, "stored", ONE_ROW),
    ],
    # few enough states for tables
    "tabular": [
        DEEP_SEA_10,
        Task("Explore/RiverSwim-v0", 20_000, 0.043789, 3.397264, "exact"),
        RIVER_SWIM_12,
        Task("Explore/Corridor-v0", 100_000, 0.0, 75.789474, "exact"),
        SLIPPERY_ROOMS,
        GARNET,
    ],
}


def read_suite(name: str, scale: float = 1.0) -> list[Task]:
    """The tasks of a named suite, or of a JSON file with a list of them; budgets times `scale`.

    Raises:
        UsageError: no such suite or file, or a task in it that makes no sense.
    """
    if name in SUITES:
        tasks = SUITES[name]
    elif Path(name).is_file():
        tasks = [parse_task(entry, f"{name}, task {i}") for i, entry in enumerate(read_list(Path(name)), start=1)]
    else:
        raise UsageError(f"no suite {name!r}, expected one of {', '.join(SUITES)} or a JSON file")
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise UsageError(f"{name} has the same task twice: {', '.join(names)}")
    if not 0.0 < scale <= 1.0:
        raise UsageError(f"scale must lie in (0, 1], got {scale}")
    return [replace(task, steps=max(1, round(task.steps * scale))) for task in tasks]


def read_list(path: Path) -> list:
    try:
        entries = json.loads(path.read_text())
    except ValueError as error:
        raise UsageError(f"{path} is no JSON file: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{path} must hold a list of tasks, got {type(entries).__name__}")
    return entries


def parse_task(entry: Any, where: str) -> Task:
    known = [f.name for f in fields(Task)]
    if not isinstance(entry, dict) or not {"env", "steps", "random", "optimal"} <= entry.keys() <= set(known):
        raise UsageError(f"{where}: expected an object with {', '.join(known)} (source, kwargs may be missing), got {entry}")
    task = Task(**entry)
    numbers = all(isinstance(x, (int, float)) and math.isfinite(x) for x in (task.steps, task.random, task.optimal))
    if not numbers or task.steps < 1 or task.optimal <= task.random:
        raise UsageError(f"{where}: steps must be >= 1 and random < optimal, finite numbers all, got {entry}")
    if task.source not in SOURCES or not isinstance(task.kwargs, dict):
        raise UsageError(f"{where}: source must be one of {', '.join(SOURCES)} and kwargs an object, got {entry}")
    return task
