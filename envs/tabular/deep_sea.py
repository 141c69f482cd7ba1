"""DeepSea: dive down a grid and reach its far corner, though every step on the way there costs.

The diver starts in the top left cell and falls one row per step, moving one column left or right (staying inside).
Which action is right is drawn cell by cell from mapping_seed, so that no policy can generalise it.

Observation: float32 (size, size): 1 at the diver's cell, otherwise 0; all 0 below the last row.
Action:      Discrete(2): left or right as the cell's mapping says (randomize_actions=False: 0 left, 1 right).
Reward:      +1 for right in the last column, -unscaled_move_cost / size for every right.
             Stochastic (deterministic=False): + N(0, 1) in the two corners of the last row, and right leaves the
             column as it is with probability 1 / size.
Terminates:  after size steps, below the last row; continuing=True: never, the diver is back at the top instead.
             Truncates: never.
Source:      Osband et al., 2019, arXiv:1703.07608; bsuite's deep_sea and deep_sea_stochastic (arXiv:1908.03568),
             with the same action mapping for the same mapping_seed.

The best return of the deterministic variant is 1 - unscaled_move_cost. The info has `row` and `column`, `bad_episode`
(the diver went left on the diagonal, after which no treasure can be reached) and `treasure` (it was reached). In a
continuing sea the last two are those of the last dive until the next one begins.
"""

import numpy as np
from gymnasium import spaces

from explore_gym.envs.engine import KernelEnv, bernoulli, kernel, normal, state_dtype, vectorize
from explore_gym.envs.engine.env import is_integer

STATE = state_dtype(row=np.int32, column=np.int32, bad_episode=np.bool_, treasure=np.bool_)


@kernel
def reset(params, state):
    state.row, state.column = 0, 0
    state.bad_episode, state.treasure = False, False


@kernel
def step(params, state, action):
    last = params.rows - 1
    if state.row == 0:
        state.bad_episode, state.treasure = False, False
    right = action == params.mapping[state.row, state.column]
    reward = 0.0
    if right and state.column == last:
        reward += 1.0
        state.treasure = True
    if params.stochastic and state.row == last and (state.column == 0 or state.column == last):
        reward += normal(state)
    if right:
        reward -= params.move_cost
        if not (params.stochastic and bernoulli(state, 1.0 / params.rows)):  # held back by the wind
            state.column = min(state.column + 1, last)
    else:
        if state.row == state.column:
            state.bad_episode = True
        state.column = max(state.column - 1, 0)
    state.row += 1
    if params.continuing and state.row == params.rows:
        state.row, state.column = 0, 0
    return reward, state.row == params.rows


@kernel
def observe(params, state, obs):
    for row in range(obs.shape[0]):
        for column in range(obs.shape[1]):
            obs[row, column] = 0.0
    if state.row < params.rows:
        obs[state.row, state.column] = 1.0


@kernel
def inform(params, state, info):
    info.row, info.column = state.row, state.column
    info.bad_episode, info.treasure = state.bad_episode, state.treasure


class DeepSea(KernelEnv):
    """The deep sea of bsuite, deterministic or stochastic.

    Args:
        size: rows and columns, 2 to 200; the literature uses 10 to 50.
        deterministic: False adds the wind and the reward noise.
        unscaled_move_cost: cost of going right all the way down, >= 0.
        randomize_actions: False makes action 1 right in every cell (for debugging).
        mapping_seed: draws the action mapping; 0 to 2**32 - 1.
        continuing: True puts the diver back at the top instead of ending the episode.
    Raises:
        ValueError: an argument is outside the ranges above.
    """

    dynamics = (reset, step, observe, inform)
    untracked = ("bad_episode", "treasure")
    additive_noise = True

    def __init__(
        self,
        size=10,
        deterministic=True,
        unscaled_move_cost=0.01,
        randomize_actions=True,
        mapping_seed=42,
        continuing=False,
        render_mode=None,
        max_episode_steps=None,
    ):
        if not (is_integer(size) and 2 <= size <= 200):
            raise ValueError(f"size must be an integer in [2, 200], got {size!r}")
        if not (np.isfinite(unscaled_move_cost) and unscaled_move_cost >= 0.0):
            raise ValueError(f"unscaled_move_cost must be finite and >= 0, got {unscaled_move_cost!r}")
        if not (is_integer(mapping_seed) and 0 <= mapping_seed < 2**32):
            raise ValueError(f"mapping_seed must be an integer in [0, 2**32), got {mapping_seed!r}")
        self.size, self.deterministic, self.move_cost = size, deterministic, unscaled_move_cost / size
        if randomize_actions:
            self.mapping = np.random.RandomState(mapping_seed).binomial(1, 0.5, (size, size))  # bsuite's stream
        else:
            self.mapping = np.ones((size, size), np.int64)
        super().__init__(
            state=STATE,
            params=dict(
                rows=size,  # not "size", which every NumPy record has as an attribute of its own
                stochastic=not deterministic,
                move_cost=self.move_cost,
                continuing=bool(continuing),
                mapping=self.mapping.astype(np.uint8),
            ),
            observation_space=spaces.Box(0.0, 1.0, (size, size), np.float32),
            action_space=spaces.Discrete(2),
            info=dict(row=int, column=int, bad_episode=bool, treasure=bool),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def evaluate(self, backup):
        """Expected return by dynamic programming; backup maps Q of (left, right), each (size,), to V (size,)."""
        columns = np.arange(self.size)
        slip = 0.0 if self.deterministic else 1.0 / self.size
        values = np.zeros(self.size)
        for _ in range(self.size):
            left = values[np.maximum(columns - 1, 0)]
            right = (1.0 - slip) * values[np.minimum(columns + 1, self.size - 1)] + slip * values - self.move_cost
            right[-1] += 1.0
            values = backup(np.stack((left, right)))
        return float(values[0])

    def optimal_value(self):
        """Expected return of a dive under the best policy: 1 - unscaled_move_cost if deterministic (0 if that costs too much).

        In the stochastic variant it is a little above the (1 - 1 / size)^(size - 1) - unscaled_move_cost of always
        going right, because a diver who was held back by the wind can stop paying.
        """
        return self.evaluate(lambda q_values: q_values.max(0))

    def random_value(self):
        """Expected return of a dive under uniformly random actions."""
        return self.evaluate(lambda q_values: q_values.mean(0))

    def draw(self, canvas, state):
        """The reachable half of the sea, the treasure in its corner, the diver where it is."""
        canvas.size(self.size, self.size)
        for row in range(self.size):
            for column in range(self.size):
                color = (40, 90, 150) if column <= row else (20, 30, 50)
                canvas.rect(column, row, 0.97, 0.97, color, "." if column <= row else " ")
        canvas.rect(self.size - 0.8, self.size - 0.8, 0.6, 0.6, (240, 190, 60), "$")
        if state.row < self.size:
            canvas.circle(state.column + 0.5, state.row + 0.5, 0.35, (235, 235, 235), "@")


DeepSeaVector = vectorize(DeepSea)
