"""GoToDoor: go to the door of the colour that the mission names and say that you are done. Minigrid's environment.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, walls or not;
             "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward, 5 toggle, 6 done; 3 pick up and 4 drop do nothing here.
Reward:      1 - 0.9 t / max_steps on saying done beside the door at step t; otherwise 0.
Terminates:  on done; on toggle.  Truncates: after max_steps (4 size^2).
Info:        cell (row * width + column), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells within the walls), success, context (index of the layout, -1 if drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed.
Source:      `GoToDoorEnv` of Minigrid (Chevalier-Boisvert et al., 2023, arXiv:2306.13831).
"""

import numpy as np

from explore_gym.envs.engine import kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import (
    CLOSED,
    COLOR_NAMES,
    DONE,
    DOOR,
    MAX_SIZE,
    TOGGLE,
    GridEnv,
    act,
    begin,
    beside,
    cell,
    check_integer,
    choose,
    finish,
    grid_state,
    inform,
    observe,
    place_agent,
    room,
    time_reward,
)


@kernel
def reset(params, state):
    word = begin(params, state)
    size = state.grid.shape[0]
    width, height = 5 + randint(state, size - 4), 5 + randint(state, size - 4)
    room(state, 0, 0, height, width)
    target, taken = randint(state, 4), 0
    for i in range(4):  # a door in the upper, lower, left and right wall
        color = choose(state, 6, taken)
        taken |= 1 << color
        if i < 2:
            row, col = i * (height - 1), 2 + randint(state, width - 4)
        else:
            row, col = 2 + randint(state, height - 4), (i - 2) * (width - 1)
        state.grid[row, col] = cell(DOOR, color, CLOSED)
        if i == target:
            state.target_row, state.target_col, state.mission = row, col, color
    place_agent(state, 0, 0, height, width)
    finish(state, word)
    state.walkable = (height - 2) * (width - 2)  # no door can be passed


@kernel
def step(params, state, action):
    act(state, action)
    state.success = action == DONE and beside(state, state.target_row, state.target_col)
    return (time_reward(params, state) if state.success else 0.0), action in (TOGGLE, DONE)


class GoToDoor(GridEnv):
    """A room of random size with four doors of different colours, one in each wall.

    Args:
        size: largest number of cells along a side of the room, outer walls included, in [5, 255].
        max_steps: time limit in steps; None: 4 size^2.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        size=5,
        max_steps=None,
        num_contexts=None,
        layout_seed=0,
        agent_view_size=7,
        see_through_walls=True,
        observation="dict",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("size", size, 5, MAX_SIZE)
        super().__init__(
            state=grid_state(size, size, agent_view_size, target_row=np.int32, target_col=np.int32),
            params={},
            missions=tuple(f"go to the {color} door" for color in COLOR_NAMES),
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=4 * size**2 if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


GoToDoorVector = vectorize(GoToDoor)
