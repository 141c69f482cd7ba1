"""DistShift: walk around two strips of lava, whose place is another one in the test. Minigrid's environment.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, walls or not;
             "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward; 3 pick up, 4 drop, 5 toggle and 6 done do nothing here.
Reward:      1 - 0.9 t / max_steps on reaching the goal at step t; otherwise 0.
Terminates:  on the goal; on lava.  Truncates: after max_steps (4 width height).
Info:        cell (row * width + column), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells one can stand on), success, context (index of the layout, -1 if drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed.
Source:      `DistShiftEnv` of Minigrid (Chevalier-Boisvert et al., 2023, arXiv:2306.13831), after Leike et al.,
             "AI Safety Gridworlds" (2017, arXiv:1711.09883). One departure: the agent can't be told to start on goal or lava.
"""

from explore_gym.envs.engine import kernel, vectorize
from explore_gym.envs.gridworlds.grid import (
    GREEN_GOAL,
    MAX_SIZE,
    RED_LAVA,
    GridEnv,
    act,
    arrive,
    begin,
    check_integer,
    fill,
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
    height, width = state.grid.shape
    room(state, 0, 0, height, width)
    state.grid[1, width - 2] = GREEN_GOAL
    fill(state, 1, 3, 1, width - 6, RED_LAVA)
    fill(state, params.strip2_row, 3, 1, width - 6, RED_LAVA)
    start_agent(params, state)
    finish(state, word)


@kernel
def step(params, state, action):
    return arrive(params, state, act(state, action))


class DistShift(GridEnv):
    """A room with the start and the goal in its upper corners, lava between them, and a second strip of lava further down.

    Args:
        width, height: cells along the sides, outer walls included, in [7, 255] and [5, 255].
        agent_pos: the start (column, row), or None for a random cell and direction.
        agent_dir: direction at a fixed start, 0 east, 1 south, 2 west, 3 north.
        strip2_row: row of the second strip, 2 in Minigrid's DistShift1 and 5 in DistShift2, in [1, height - 2].
        max_steps: time limit in steps; None: 4 width height.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        width=9,
        height=7,
        agent_pos=(1, 1),
        agent_dir=0,
        strip2_row=2,
        max_steps=None,
        num_contexts=None,
        layout_seed=0,
        agent_view_size=7,
        see_through_walls=True,
        observation="dict",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("width", width, 7, MAX_SIZE)
        check_integer("height", height, 5, MAX_SIZE)
        check_integer("strip2_row", strip2_row, 1, height - 2)
        start = fixed_start(agent_pos, agent_dir, height, width, goal=(width - 2, 1))
        if start["agent_row"] in (1, strip2_row) and 3 <= start["agent_col"] <= width - 4:
            raise ValueError(f"agent_pos must not be in the lava, got {agent_pos!r}")
        super().__init__(
            state=grid_state(height, width, agent_view_size),
            params=dict(strip2_row=strip2_row, **start),
            missions=("get to the green goal square",),
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=4 * width * height if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


DistShiftVector = vectorize(DistShift)
