"""DynamicObstacles: get to the goal without running into the balls that move about. Minigrid's environment, of any size.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, walls or not;
             "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(3): 0 turn left, 1 turn right, 2 forward.
Reward:      1 - 0.9 t / max_steps on reaching the goal at step t; -1 on going forward where, before the obstacles moved, there
             was one or a wall; otherwise 0.
Terminates:  on the goal; on such a collision.  Truncates: after max_steps (4 size^2).
Info:        cell (row * width + column), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells one can stand on), success, context (index of the layout, -1 if drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed.
Source:      `DynamicObstaclesEnv` of Minigrid (Chevalier-Boisvert et al., 2023, arXiv:2306.13831).
             Departures: an obstacle that can move does, where Minigrid gives up after 101 draws (probability below 1e-5); too
             many obstacles are an error, where Minigrid takes fewer; the agent can't be told to start on the goal.
"""

import numpy as np

from explore_gym.envs.engine import kernel, vectorize
from explore_gym.envs.gridworlds.grid import (
    BALL,
    BLUE,
    EMPTY,
    FORWARD,
    GOAL,
    GREEN_GOAL,
    MAX_SIZE,
    GridEnv,
    act,
    arrive,
    begin,
    cell,
    check_integer,
    counted_cell,
    finish,
    fixed_start,
    front,
    grid_state,
    inform,
    observe,
    place,
    room,
    start_agent,
)


@kernel
def reset(params, state):
    word = begin(params, state)
    size = state.grid.shape[0]
    room(state, 0, 0, size, size)
    state.grid[size - 2, size - 2] = GREEN_GOAL
    start_agent(params, state)
    for i in range(state.obstacles.shape[0]):
        state.obstacles[i] = place(state, cell(BALL, BLUE), 0, 0, size, size)
    finish(state, word)


@kernel
def step(params, state, action):
    ahead = front(state)[2] & 15
    collision = action == FORWARD and ahead != EMPTY and ahead != GOAL
    for i in range(state.obstacles.shape[0]):
        wander(state, i)
    reward, terminated = arrive(params, state, act(state, action))
    return (-1.0 if collision else reward), terminated or collision


@kernel
def wander(state, i):
    """Move an obstacle to a random free cell around it, if there is one."""
    width = state.grid.shape[1]
    row, col = state.obstacles[i] // width, state.obstacles[i] % width
    index = counted_cell(state, row - 1, col - 1, 3, 3)
    if index >= 0:
        state.grid[row, col] = EMPTY
        state.grid[index // width, index % width] = cell(BALL, BLUE)
        state.obstacles[i] = index
        state.stale = True


class DynamicObstacles(GridEnv):
    """An empty room with the goal in its far corner, in which balls take a random step at a time.

    Args:
        size: cells along each side, outer walls included, in [5, 255].
        agent_pos: the start (column, row), or None for a random cell and direction.
        agent_dir: direction at a fixed start, 0 east, 1 south, 2 west, 3 north.
        num_obstacles: number of balls, in [1, size // 2 + 1].
        max_steps: time limit in steps; None: 4 size^2.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        size=8,
        agent_pos=(1, 1),
        agent_dir=0,
        num_obstacles=4,
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
        check_integer("num_obstacles", num_obstacles, 1, size // 2 + 1)
        super().__init__(
            state=grid_state(size, size, agent_view_size, obstacles=(np.int32, (num_obstacles,))),
            params=fixed_start(agent_pos, agent_dir, size, size, goal=(size - 2, size - 2)),
            missions=("get to the green goal square",),
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            num_actions=3,
            max_steps=4 * size**2 if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


DynamicObstaclesVector = vectorize(DynamicObstacles)
