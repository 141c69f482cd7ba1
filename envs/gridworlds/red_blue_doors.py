"""RedBlueDoors: open the red door, then the blue one. Minigrid's environment, of any size.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, as far as it sees
             them; "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward, 3 pick up, 4 drop, 5 toggle; 6 done does nothing here.
Reward:      1 - 0.9 t / max_steps on opening the blue door at step t while the red one is open; otherwise 0.
Terminates:  when the blue door opens.  Truncates: after max_steps (20 size^2).
Info:        cell (row * width + column), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells one can stand on, of the room and of the one behind the red door), success,
             context (index of the layout, -1 if drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed.
Source:      `RedBlueDoorEnv` of Minigrid (Chevalier-Boisvert et al., 2023, arXiv:2306.13831).
"""

import numpy as np

from explore_gym.envs.engine import kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import (
    BLUE,
    CLOSED,
    DOOR,
    MAX_SIZE,
    OPEN,
    RED,
    GridEnv,
    act,
    begin,
    cell,
    check_integer,
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
    room(state, 0, 0, size, 2 * size)
    room(state, 0, size // 2, size, size)
    place_agent(state, 0, size // 2, size, size)
    state.red_row, state.blue_row = 1 + randint(state, size - 2), 1 + randint(state, size - 2)
    state.grid[state.red_row, size // 2] = cell(DOOR, RED, CLOSED)
    state.grid[state.blue_row, size // 2 + size - 1] = cell(DOOR, BLUE, CLOSED)
    finish(state, word)
    state.walkable = (size // 2 - 1 + size - 2) * (size - 2) + 1  # behind the blue door the episode has ended


@kernel
def step(params, state, action):
    act(state, action)
    size = state.grid.shape[0]
    red_open = state.grid[state.red_row, size // 2] == cell(DOOR, RED, OPEN)
    blue_open = state.grid[state.blue_row, size // 2 + size - 1] == cell(DOOR, BLUE, OPEN)
    state.success = blue_open and red_open
    return (time_reward(params, state) if state.success else 0.0), blue_open


class RedBlueDoors(GridEnv):
    """A room with a red door in its left wall and a blue one in its right wall.

    Args:
        size: cells along each side of the room, walls included, in [4, 127]; the grid is twice as wide.
        max_steps: time limit in steps; None: 20 size^2.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        size=8,
        max_steps=None,
        num_contexts=None,
        layout_seed=0,
        agent_view_size=7,
        see_through_walls=False,
        observation="dict",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("size", size, 4, MAX_SIZE // 2)
        super().__init__(
            state=grid_state(size, 2 * size, agent_view_size, red_row=np.int32, blue_row=np.int32),
            params={},
            missions=("open the red door then the blue door",),
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=20 * size**2 if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


RedBlueDoorsVector = vectorize(RedBlueDoors)
