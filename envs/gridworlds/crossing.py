"""Crossing: cross rivers of lava, or walls, each with one opening, to the goal. Minigrid's LavaCrossing and SimpleCrossing.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, as far as it sees
             them; "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. position=True adds "position",
             MultiDiscrete (column, row); step_counter=True "step", float32 (1,), t / max_steps; noise_channels=k "noise",
             float32 (k,), uniform random numbers, new in every step. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward; 3 pick up, 4 drop, 5 toggle and 6 done do nothing here.
Reward:      1 - 0.9 t / max_steps on reaching the goal at step t; otherwise 0.
Terminates:  on the goal; on lava.  Truncates: after max_steps (4 size^2).
Info:        cell (row * width + column), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells of the rooms on the way to the goal), success,
             context (index of the layout, -1 if drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed.
Source:      `CrossingEnv` of Minigrid (Chevalier-Boisvert et al., 2023, arXiv:2306.13831).
"""

import numpy as np

from explore_gym.envs.engine import kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import (
    EMPTY,
    GREEN_GOAL,
    GREY_WALL,
    MAX_SIZE,
    RED_LAVA,
    GridEnv,
    act,
    arrive,
    begin,
    check_integer,
    fill,
    finish,
    grid_state,
    inform,
    observe,
    room,
)

ROW, COLUMN = range(2)  # axes of rivers
OBSTACLES = {  # name -> code, mission
    "lava": (RED_LAVA, "avoid the lava and get to the green goal square"),
    "wall": (GREY_WALL, "find the opening and get to the green goal square"),
}


@kernel
def reset(params, state):
    word = begin(params, state)
    size = state.grid.shape[0]
    room(state, 0, 0, size, size)
    state.row, state.col = 1, 1
    state.grid[size - 2, size - 2] = GREEN_GOAL
    lay_rivers(params, state)
    walkable = open_path(state)
    finish(state, word)
    state.walkable = walkable


@kernel
def lay_rivers(params, state):
    """Fill a random subset of the even rows and columns between the walls, all subsets of its size equally likely."""
    size = state.grid.shape[0]
    missing = params.num_crossings
    for i in range(size - 3):
        axis, line = i % 2, 2 + i // 2 * 2
        chosen = randint(state, size - 3 - i) < missing
        state.rivers[axis, line] = chosen
        if chosen:
            missing -= 1
            if axis == ROW:
                fill(state, line, 1, 1, size - 2, params.obstacle)
            else:
                fill(state, 1, line, size - 2, 1, params.obstacle)


@kernel
def open_path(state):
    """Open each river once, on a way from room to room that goes right and down in random order; returns its cells."""
    size = state.grid.shape[0]
    rows, cols = 0, 0  # rivers still to be crossed
    for line in range(2, size - 2):
        rows += np.int64(state.rivers[ROW, line])
        cols += np.int64(state.rivers[COLUMN, line])
    top, left = 0, 0  # above and to the left of the room
    bottom, right = next_river(state, ROW, top), next_river(state, COLUMN, left)
    cells = (bottom - top - 1) * (right - left - 1)
    while rows + cols > 0:
        if randint(state, rows + cols) < cols:
            state.grid[top + 1 + randint(state, bottom - top - 1), right] = EMPTY
            left, cols = right, cols - 1
            right = next_river(state, COLUMN, left)
        else:
            state.grid[bottom, left + 1 + randint(state, right - left - 1)] = EMPTY
            top, rows = bottom, rows - 1
            bottom = next_river(state, ROW, top)
        cells += 1 + (bottom - top - 1) * (right - left - 1)
    return cells


@kernel
def next_river(state, axis, line):
    """The next river after a row or column, or the wall."""
    line += 1
    while line < state.grid.shape[0] - 1 and state.rivers[axis, line] == 0:
        line += 1
    return line


@kernel
def step(params, state, action):
    return arrive(params, state, act(state, action))


class Crossing(GridEnv):
    """A room from corner to corner, crossed by rivers of an obstacle.

    Args:
        size: cells along each side, outer walls included; odd, in [5, 255].
        num_crossings: number of rivers, in [0, size - 3].
        obstacle: "lava", which ends the episode, or "wall".
        max_steps: time limit in steps; None: 4 size^2.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.
        position, step_counter, noise_channels: further parts of the dict observation, as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        size=9,
        num_crossings=1,
        obstacle="lava",
        max_steps=None,
        num_contexts=None,
        layout_seed=0,
        agent_view_size=7,
        see_through_walls=False,
        observation="dict",
        position=False,
        step_counter=False,
        noise_channels=0,
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("size", size, 5, MAX_SIZE, odd=True)
        check_integer("num_crossings", num_crossings, 0, size - 3)
        if obstacle not in OBSTACLES:
            raise ValueError(f"obstacle must be one of {list(OBSTACLES)}, got {obstacle!r}")
        code, mission = OBSTACLES[obstacle]
        super().__init__(
            state=grid_state(size, size, agent_view_size, rivers=(np.uint8, (2, size))),
            params=dict(num_crossings=num_crossings, obstacle=code),
            missions=(mission,),
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=4 * size**2 if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            position=position,
            step_counter=step_counter,
            noise_channels=noise_channels,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


CrossingVector = vectorize(Crossing)
