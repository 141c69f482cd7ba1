"""Corridors: a hub with six equally long corridors, time for one of them, and the reward at the end of one.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, as far as it sees
             them; "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. position=True adds "position",
             MultiDiscrete (column, row); step_counter=True "step", float32 (1,), t / max_steps; noise_channels=k "noise",
             float32 (k,), uniform random numbers, new in every step. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward; 3 pick up, 4 drop, 5 toggle and 6 done do nothing here.
Reward:      1 on reaching the goal; otherwise 0.
Terminates:  on the goal.  Truncates: after max_steps (length + 5).
Info:        cell (row * columns + col), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells one can stand on), success, context (index of the layout, -1 if it is drawn
             afresh), corridor (the one that the agent is in, from the west, -1 in the hub).
Layout:      a comb. The hub is a row, the corridors lead north from every second of its cells, and the agent starts in the
             middle of the hub looking south. Each corridor ends length (25) moves and two turns from there: the further its
             mouth, the shorter it is. So all ends are reached after length + 2 steps at the earliest, with length + 1 cells
             visited, and no path of max_steps visits more.
Contexts:    which corridor holds the goal, drawn from layout_seed: num_contexts=1 (default) makes it the same in all episodes,
             None draws it afresh in each.
Source:      Henaff et al., "A Study of Global and Episodic Bonuses for Exploration in Contextual MDPs" (2023,
             arXiv:2306.03236), Corridors-R5.
"""

import numpy as np

from explore_gym.envs.engine import kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import (
    EMPTY,
    GOAL,
    GREEN_GOAL,
    GREY_WALL,
    SOUTH,
    GridEnv,
    act,
    begin,
    check_integer,
    fill,
    finish,
    grid_state,
    observe,
)
from explore_gym.envs.gridworlds.grid import inform as inform_grid

SLACK = 5  # steps that an episode has beyond the length of a corridor


@kernel
def reset(params, state):
    word = begin(params, state)
    height, width = state.grid.shape
    hub, middle = height - 2, width // 2
    goal = randint(state, params.corridors)
    fill(state, 0, 0, height, width, GREY_WALL)
    fill(state, hub, 1, 1, width - 2, EMPTY)
    for i in range(params.corridors):
        col = 1 + 2 * i
        cells = params.length - abs(col - middle)
        fill(state, hub - cells, col, cells, 1, EMPTY)
        if i == goal:
            state.grid[hub - cells, col] = GREEN_GOAL
    state.row, state.col, state.direction = hub, middle, SOUTH
    finish(state, word)


@kernel
def step(params, state, action):
    state.success = act(state, action) == GOAL
    return (1.0 if state.success else 0.0), state.success


@kernel
def inform(params, state, info):
    inform_grid(params, state, info)
    in_hub = state.row == state.grid.shape[0] - 2
    info.corridor = -1 if in_hub else np.int64(state.col) // 2


class Corridors(GridEnv):
    """A hub with equally long corridors, one of which holds the goal.

    Args:
        corridors: their number, in [2, 100].
        length: moves from the start to the end of each corridor, at least corridors + 1, at most 250.
        max_steps: time limit in steps; None: length + 5, enough for one corridor.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.
        position, step_counter, noise_channels: further parts of the dict observation, as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        corridors=6,
        length=25,
        max_steps=None,
        num_contexts=1,
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
        check_integer("corridors", corridors, 2, 100)
        check_integer("length", length, corridors + 1, 250)
        nearest = 1 - corridors % 2  # moves from the start to the nearest mouth
        super().__init__(
            state=grid_state(length - nearest + 3, 2 * corridors + 1, agent_view_size),
            params=dict(corridors=corridors, length=length),
            missions=("find the goal at the end of a corridor",),
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=length + SLACK if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            position=position,
            step_counter=step_counter,
            noise_channels=noise_channels,
            info=dict(corridor=int),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )
        self.optimal_return = 1.0 if self.time_limit >= length + 2 else 0.0


CorridorsVector = vectorize(Corridors)
