"""SlipperyRooms: cross four rooms on a slippery floor, from one corner of the house to the opposite one.

Observation: Discrete(size * size - 2 * size + 5): free cells, numbered row by row from the top left one, where the episode
             starts; two walls, one cell thick, cross in the middle and have a door in the middle of each half.
Action:      Discrete(4): right, down, left, up. With probability slip the move goes in one of the three other
             directions, each equally likely; what would leave the house or enter a wall stays where it is.
Reward:      1 for every action taken in the bottom right cell; otherwise 0.
Terminates:  never.  Truncates: after max_steps (100); max_steps=None: continuing.
Source:      the four rooms of Sutton, Precup and Singh, 1999, Between MDPs and semi-MDPs, as a table, with the size and the
             slip of a small experiment on sample collection (Tarbouriech et al., 2021, arXiv:2007.06437).

The info has `coverage`, the share of cells visited in this episode.
"""

import numpy as np

from explore_gym.envs.engine import vectorize
from explore_gym.envs.engine.env import is_integer
from explore_gym.envs.tabular.tabular import Tabular

MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))  # (down, right) of each action


def floor_plan(size):
    """bool (size, size): which cells are free."""
    free, middle = np.ones((size, size), bool), size // 2
    free[middle, :] = free[:, middle] = False
    for door in (middle // 2, size - 1 - middle // 2):
        free[middle, door] = free[door, middle] = True
    return free


class SlipperyRooms(Tabular):
    """The four rooms as a `Tabular` environment.

    Args:
        size: rows and columns, an odd number from 5 to 31.
        slip: probability that a move goes astray, in [0, 1).
        max_steps: length of an episode; None: continuing.
    Raises:
        ValueError: an argument is outside the ranges above.
    """

    keys = {"right": 0, "down": 1, "left": 2, "up": 3}

    def __init__(self, size=7, slip=0.1, max_steps=100, render_mode=None, max_episode_steps=None):
        if not (is_integer(size) and 5 <= size <= 31 and size % 2 == 1):
            raise ValueError(f"size must be an odd integer in [5, 31], got {size!r}")
        if not 0.0 <= slip < 1.0:
            raise ValueError(f"slip must lie in [0, 1), got {slip!r}")
        self.cells = np.argwhere(floor_plan(size))  # (row, column) of each state
        index = {tuple(cell): s for s, cell in enumerate(self.cells.tolist())}
        num_states = len(self.cells)
        P, R = np.zeros((num_states, 4, num_states)), np.zeros((num_states, 4))
        for (row, column), s in index.items():
            for direction, (down, right) in enumerate(MOVES):
                target = index.get((row + down, column + right), s)
                for action in range(4):
                    P[s, action, target] += 1.0 - slip if action == direction else slip / 3.0
        R[-1] = 1.0
        self.size = size
        super().__init__(P, R, np.eye(num_states)[0], max_steps, render_mode, max_episode_steps)

    def draw(self, canvas, state):
        """The house from above, visited cells brighter, the goal, the walker where it is."""
        canvas.size(self.size, self.size)
        canvas.rect(0, 0, self.size, self.size, (60, 60, 66), "#")
        for s, (row, column) in enumerate(self.cells.tolist()):
            canvas.rect(column, row, 0.97, 0.97, (170, 200, 215) if state.visited[s] else (110, 130, 145), ".")
        canvas.rect(self.size - 0.8, self.size - 0.8, 0.6, 0.6, (90, 180, 90), "$")
        row, column = self.cells[state.s].tolist()
        canvas.circle(column + 0.48, row + 0.48, 0.3, (235, 90, 70), "@")


SlipperyRoomsVector = vectorize(SlipperyRooms)
