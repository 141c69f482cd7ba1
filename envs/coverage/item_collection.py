"""ItemCollection: pick up items of several kinds, of each kind no more than are needed.

Observation: float32 (3 + cells,), "map": row and column, 0 to 1, share of the steps that are over; then 1 for each visited
             cell, otherwise 0, row by row. "position": the first three alone. "history": the first three, then row and
             column of all visits in order, steps + 1 of them, -1 for those to come. With several contexts, map and history
             end with where the items are: kind by kind, row by row, 1 where one lies.
Action:      Discrete(5): 0 stay, 1 right, 2 down, 3 left, 4 up; the edge stops the walker. With probability slip a
             uniformly drawn action takes its place.
Reward:      1 for the first visit of a cell with an item whose kind is still needed; otherwise 0. reward="modular": 1 for
             every visit of a cell with an item.
Terminates:  after steps (39), so that a walk has 40 visits.  Truncates: never.
Info:        F, the items that count so far, the start's included; coverage, their share of all that is needed; cell (row *
             columns + column); modular_reward, the reward if nothing had been collected before.
Layout:      7x15 cells, at most one item on each, placed at random: 18, 14, 13, 16, 18 and 14 of six kinds, of which 3, 2, 3,
             4, 6 and 3 are needed.
Source:      Prajapat, Mutny, Zeilinger and Krause, 2024, Submodular reinforcement learning, arXiv:2307.13372, with the
             numbers, the start and the horizon of its released code ("Steiner covering").
"""

import string

import numpy as np

from explore_gym.envs.bandits.checks import check_integer
from explore_gym.envs.coverage.cover import CoverageGrid
from explore_gym.envs.coverage.grid import INK, TAKEN, check_contexts, check_shape
from explore_gym.envs.engine import vectorize
from explore_gym.envs.engine.canvas import BACKGROUND

KINDS = ((214, 66, 52), (60, 130, 200), (70, 160, 80), (230, 170, 40), (150, 90, 180), (235, 120, 60), (90, 90, 100))


class ItemCollection(CoverageGrid):
    """A map of items.

    Args:
        counts: items of each kind, 1 to 7 kinds.
        needed: how many of each kind count.
        shape: (rows, columns), 2 to 50 each.
        steps: actions of an episode, 1 to 10,000.
        slip: probability that a uniformly drawn action takes the place of the chosen one.
        start: (row, column) of the walk's start.
        num_contexts: number of layouts, of which each episode draws one, 1 to 1000.
        layout_seed: draws the layouts.
        observation: "map", "position" or "history".
        reward: "marginal" or "modular".
    Raises:
        ValueError: an argument is out of range, or there are more items than cells.
    """

    def __init__(
        self,
        counts=(18, 14, 13, 16, 18, 14),
        needed=(3, 2, 3, 4, 6, 3),
        shape=(7, 15),
        steps=39,
        slip=0.0,
        start=(2, 4),
        num_contexts=1,
        layout_seed=0,
        observation="map",
        reward="marginal",
        render_mode=None,
        max_episode_steps=None,
    ):
        shape = check_shape(shape)
        check_contexts(num_contexts, layout_seed)
        cells = shape[0] * shape[1]
        if not (1 <= len(counts) <= len(KINDS) and len(needed) == len(counts)):
            raise ValueError(f"counts and needed must have a number for each of 1 to 7 kinds, got {counts!r} and {needed!r}")
        for count, need in zip(counts, needed):
            check_integer("counts", count, 1, cells)
            check_integer("needed", need, 1, count)
        if sum(counts) > cells:
            raise ValueError(f"counts must add up to at most {cells} cells, got {sum(counts)}")
        super().__init__(
            free=np.ones(shape, bool),
            weights=np.stack([place_items(counts, cells, [layout_seed, k]) for k in range(num_contexts)]),
            quotas=np.array(needed, np.float64),
            reach=0,
            start=start,
            steps=steps,
            slip=slip,
            observation=observation,
            reward=reward,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def draw(self, canvas, state):
        """Items in the colour of their kind, grey where the walk was; at the right what is collected of what is needed."""
        rows, columns = self.free.shape
        kinds = self.weights[state.context]
        self.draw_cells(canvas, state.covered == 1, [BACKGROUND] * rows * columns, " " * rows * columns, margin=4)
        for kind, lie in enumerate(kinds):
            letter = string.ascii_uppercase[kind]
            for cell in np.flatnonzero(lie).tolist():
                if not state.covered[cell]:
                    row, column = divmod(cell, columns)
                    canvas.circle(column + 0.5, row + 0.5, 0.32, KINDS[kind], letter)
            y, done = kind * rows / len(kinds), int(state.filled[kind])
            for slot in range(int(self.quotas[kind])):
                width = 2.6 / self.quotas.max()
                canvas.rect(columns + 1 + slot * width, y + 0.2, 0.8 * width, 0.6, KINDS[kind] if slot < done else TAKEN)
            canvas.text(columns + 0.4, y + 0.15, letter, INK, 0.5)
        self.draw_walker(canvas, state)
        self.draw_caption(canvas, state)


def place_items(counts, cells, seed):
    """float64 (kinds, cells), 1 where an item of a kind lies."""
    weights = np.zeros((len(counts), cells))
    kinds = np.repeat(np.arange(len(counts)), counts)
    weights[kinds, np.random.default_rng(seed).permutation(cells)[: len(kinds)]] = 1.0
    return weights


ItemCollectionVector = vectorize(ItemCollection)
