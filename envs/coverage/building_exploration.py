"""BuildingExploration: see as much as possible of a building in which rooms are joined by a corridor.

Observation: float32 (3 + cells,), "map": row and column, 0 to 1, share of the steps that are over; then 1 for each visited
             cell, otherwise 0, row by row. "position": the first three alone. "history": the first three, then row and
             column of all visits in order, steps + 1 of them, -1 for those to come.
Action:      Discrete(5): 0 stay, 1 right, 2 down, 3 left, 4 up; walls stop the walker. With probability slip a uniformly
             drawn action takes its place.
Reward:      number of free cells seen for the first time; from a cell the walker sees it, the next ones to the right and
             down and the one between them. reward="modular": all it sees from there, again and again.
Terminates:  after steps (39), so that a walk has 40 visits.  Truncates: never.
Info:        F, the cells seen so far, the start's included; coverage, their share of all free cells; cell (row * columns +
             column); modular_reward, the reward if nothing had been seen before.
Layout:      "two_rooms": 7x14 cells, two rooms of 7x4, and between them a corridor of 2x6 in which the walk starts.
Source:      the two rooms of Prajapat, Mutny, Zeilinger and Krause, 2024, Submodular reinforcement learning,
             arXiv:2307.13372, with the walls, the start and the horizon of its released code.

A walker whose moves slip has to know what it has seen: where it is and how late it is no longer say which room was first.
"""

import numpy as np

from explore_gym.envs.coverage.cover import CoverageGrid
from explore_gym.envs.coverage.grid import check_shape
from explore_gym.envs.engine import vectorize

PLANS = {
    "two_rooms": (
        "....######....",
        "....######....",
        "......S.......",
        "..............",
        "....######....",
        "....######....",
        "....######....",
    ),
}


def read_plan(plan):
    """Free cells, bool (rows, columns), and the start (row, column) of rows of text: # walls, . free cells, S the start.

    Raises:
        ValueError: rows differ in length, other characters, or not exactly one S.
    """
    lines = PLANS.get(plan, ()) if isinstance(plan, str) else tuple(plan)
    if not lines:
        raise ValueError(f"plan must be one of {', '.join(PLANS)} or rows of text, got {plan!r}")
    if len({len(line) for line in lines}) > 1 or set("".join(lines)) - set("#.S") or "".join(lines).count("S") != 1:
        raise ValueError(f"plan must have rows of equal length made of #, . and one S, got {list(lines)}")
    cells = np.array([list(line) for line in lines])
    check_shape(cells.shape)
    return cells != "#", np.argwhere(cells == "S")[0]


class BuildingExploration(CoverageGrid):
    """A building as a floor plan.

    Args:
        plan: "two_rooms", or rows of text: # for walls, . for free cells, one S for the start.
        steps: actions of an episode, 1 to 10,000.
        slip: probability that a uniformly drawn action takes the place of the chosen one.
        observation: "map", "position" or "history".
        reward: "marginal" or "modular".
    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        plan="two_rooms",
        steps=39,
        slip=0.0,
        observation="map",
        reward="marginal",
        render_mode=None,
        max_episode_steps=None,
    ):
        free, start = read_plan(plan)
        super().__init__(
            free=free,
            weights=np.ones((1, 1, free.size)),
            quotas=np.array([np.inf]),
            reach=1,
            start=start,
            steps=steps,
            slip=slip,
            observation=observation,
            reward=reward,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


BuildingExplorationVector = vectorize(BuildingExploration)
