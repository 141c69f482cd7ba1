"""A chain with every kind of observation and metric, for the engine's tests. Kept beside them, imported by path."""

import numpy as np
from gymnasium import spaces

from explore_gym.envs.engine import KernelEnv, bernoulli, kernel, randint, state_dtype, vectorize

STATE = state_dtype(cell=np.int64, visited=(np.uint8, (9,)), count=np.int64)
TEXTS = ("go left", "go right")


@kernel
def reset(params, state):
    state.cell = randint(state, params.length)
    for i in range(state.visited.shape[0]):
        state.visited[i] = 0
    state.visited[state.cell] = 1
    state.count = 1


@kernel
def step(params, state, action):
    if bernoulli(state, params.slip):
        action = 1 - action
    state.cell = min(max(state.cell + 2 * action - 1, 0), params.length - 1)
    if state.visited[state.cell] == 0:
        state.visited[state.cell] = 1
        state.count += 1
    at_end = state.cell == params.length - 1
    return 1.0 if at_end else 0.0, at_end


@kernel
def observe(params, state, obs):
    for i in range(obs.onehot.shape[0]):
        obs.onehot[i] = 1.0 if i == state.cell else 0.0
    obs.cell = state.cell
    obs.hint = 1 if state.cell < params.length // 2 else 0


@kernel
def inform(params, state, info):
    info.visited = state.count
    info.coverage = state.count / params.length
    info.home = state.cell == 0
    for i in range(info.map.shape[0]):
        info.map[i] = state.visited[i]


class Chain(KernelEnv):
    """Walk to the right end of a chain of up to nine cells."""

    dynamics = (reset, step, observe, inform)
    untracked = ("visited", "count")

    def __init__(self, length=5, slip=0.1, max_steps=20, render_mode=None, max_episode_steps=None):
        if not 2 <= length <= 9:
            raise ValueError(f"length must lie in [2, 9], got {length}")
        super().__init__(
            state=STATE,
            params=dict(length=length, slip=slip),
            observation_space=spaces.Dict(
                onehot=spaces.Box(0.0, 1.0, (length,), np.float32),
                cell=spaces.Discrete(length),
                hint=spaces.Text(8, charset="golefritghx "),
            ),
            action_space=spaces.Discrete(2),
            info=dict(visited=int, coverage=float, home=bool, map=(float, (length,))),
            texts=dict(hint=TEXTS),
            max_steps=max_steps,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def draw(self, canvas, state):
        length = int(self.params["length"][0])
        canvas.size(length, 1)
        for i in range(length):
            canvas.rect(i, 0, 1, 1, (200, 220, 200) if state.visited[i] else (230, 230, 230), char=".")
        canvas.circle(state.cell + 0.5, 0.5, 0.3, (200, 40, 40), char="A")


ChainVector = vectorize(Chain)
