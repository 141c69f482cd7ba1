"""Empty: an empty room with the goal in its far corner. Minigrid's environment, of any size.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, walls or not;
             "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward; 3 pick up, 4 drop, 5 toggle and 6 done do nothing here.
Reward:      1 - 0.9 t / max_steps on reaching the goal at step t; otherwise 0.
Terminates:  on the goal.  Truncates: after max_steps (4 size^2).
Info:        cell (row * width + column), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells one can stand on), success, context (index of the layout, -1 if drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed.
Source:      `EmptyEnv` of Minigrid (Chevalier-Boisvert et al., 2023, arXiv:2306.13831).
             One departure: the agent can't be told to start on the goal.
"""

from explore_gym.envs.engine import kernel, vectorize
from explore_gym.envs.gridworlds.grid import (
    GREEN_GOAL,
    MAX_SIZE,
    GridEnv,
    act,
    arrive,
    begin,
    check_integer,
    finish,
    fixed_start,
    grid_state,
    inform,
    observe,
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
    finish(state, word)


@kernel
def step(params, state, action):
    return arrive(params, state, act(state, action))


class Empty(GridEnv):
    """A square room, the agent by default in the corner opposite to the goal.

    Args:
        size: cells along each side, outer walls included, in [4, 255].
        agent_pos: the start (column, row), or None for a random cell and direction.
        agent_dir: direction at a fixed start, 0 east, 1 south, 2 west, 3 north.
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
        max_steps=None,
        num_contexts=None,
        layout_seed=0,
        agent_view_size=7,
        see_through_walls=True,
        observation="dict",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("size", size, 4, MAX_SIZE)
        super().__init__(
            state=grid_state(size, size, agent_view_size),
            params=fixed_start(agent_pos, agent_dir, size, size, goal=(size - 2, size - 2)),
            missions=("get to the green goal square",),
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=4 * size**2 if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


EmptyVector = vectorize(Empty)
