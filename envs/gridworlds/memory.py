"""Memory: remember the object of the first room and go to the same one at the end of the hallway. Minigrid's environment.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, as far as it sees
             them; "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward; 3 pick up, 4 drop, 5 toggle and 6 done do nothing here.
Reward:      1 - 0.9 t / max_steps on standing before the matching object at step t; otherwise 0.
Terminates:  before either object at the hallway's end.  Truncates: after max_steps (5 size^2).
Info:        cell (row * width + column), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells one can stand on), success, context (index of the layout, -1 if drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed.
Source:      `MemoryEnv` of Minigrid (Chevalier-Boisvert et al., 2023, arXiv:2306.13831).
             Its default size, 8, isn't odd, which it requires itself; ours is 9.
"""

import numpy as np

from explore_gym.envs.engine import kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import (
    BALL,
    EAST,
    GREEN,
    GREY_WALL,
    KEY,
    MAX_SIZE,
    PICKUP,
    TOGGLE,
    GridEnv,
    act,
    begin,
    cell,
    check_integer,
    finish,
    grid_state,
    horizontal_wall,
    inform,
    observe,
    room,
    time_reward,
    vertical_wall,
)


@kernel
def reset(params, state):
    word = begin(params, state)
    size = state.grid.shape[0]
    middle = size // 2
    end = 4 + randint(state, size - 6) if params.random_length else size - 3  # the hallway's last column
    room(state, 0, 0, size, size)
    for side in (-1, 1):  # above and below the middle
        horizontal_wall(state, middle + 2 * side, 1, 4)
        state.grid[middle + side, 4] = GREY_WALL
        for col in range(5, end):
            state.grid[middle + side, col] = GREY_WALL
    for row in range(size):
        if row != middle:
            state.grid[row, end] = GREY_WALL
    vertical_wall(state, 0, end + 2, size)
    state.row, state.col, state.direction = middle, 1 + randint(state, end), EAST
    shown = KEY + randint(state, 2)
    above = KEY + randint(state, 2)
    state.grid[middle - 1, 1] = cell(shown, GREEN)
    state.grid[middle - 2, end + 1] = cell(above, GREEN)
    state.grid[middle + 2, end + 1] = cell(KEY + BALL - above, GREEN)
    side = -1 if shown == above else 1
    state.success_row, state.failure_row, state.end_col = middle + side, middle - side, end + 1
    finish(state, word)
    state.walkable = end + 8  # 8 in the first room, its exit, the hallway up to `end`, 3 at the split


@kernel
def step(params, state, action):
    act(state, TOGGLE if action == PICKUP else action)
    at_end = state.col == state.end_col
    state.success = at_end and state.row == state.success_row
    failure = at_end and state.row == state.failure_row
    return (time_reward(params, state) if state.success else 0.0), state.success or failure


class Memory(GridEnv):
    """A small room with an object, a hallway, and a choice between two objects at its end.

    Args:
        size: cells along each side, outer walls included; odd, in [7, 255].
        random_length: whether the hallway's length is random, from nothing to that of the grid.
        max_steps: time limit in steps; None: 5 size^2.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        size=9,
        random_length=False,
        max_steps=None,
        num_contexts=None,
        layout_seed=0,
        agent_view_size=7,
        see_through_walls=False,
        observation="dict",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("size", size, 7, MAX_SIZE, odd=True)
        super().__init__(
            state=grid_state(size, size, agent_view_size, success_row=np.int32, failure_row=np.int32, end_col=np.int32),
            params=dict(random_length=bool(random_length)),
            missions=("go to the matching object at the end of the hallway",),
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=5 * size**2 if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


MemoryVector = vectorize(Memory)
