"""FourRooms: four rooms joined by a random gap in each wall; find the goal square. Minigrid's environment, of any odd size.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, as far as it sees
             them; "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward; 3 pick up, 4 drop, 5 toggle and 6 done do nothing here.
Reward:      1 - 0.9 t / max_steps on reaching the goal at step t; otherwise 0.
Terminates:  on the goal.  Truncates: after max_steps (100).
Info:        cell (row * size + col), visited (distinct cells in this episode), first_visit (step that reached this cell first),
             coverage (visited / cells one can stand on), success, context (index of the layout, -1 if it is drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones, walls, goal and start all included: episode k of layout_seed.
Source:      Sutton, Precup and Singh, "Between MDPs and semi-MDPs" (1999); `FourRoomsEnv` of Minigrid, from which it departs in
             one law only: with a fixed goal the agent never starts on it. Contexts: Henaff et al. (2023, arXiv:2306.03236).
"""

from explore_gym.envs.engine import kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import (
    EMPTY,
    GREEN_GOAL,
    MAX_SIZE,
    GridEnv,
    act,
    arrive,
    begin,
    check_integer,
    finish,
    grid_state,
    horizontal_wall,
    inform,
    observe,
    place,
    place_agent,
    room,
    vertical_wall,
)


@kernel
def reset(params, state):
    word = begin(params, state)
    size = state.grid.shape[0]
    half = size // 2
    room(state, 0, 0, size, size)
    vertical_wall(state, 0, half, size)
    horizontal_wall(state, half, 0, size)
    for first in (1, half + 1):  # gaps: one in each half of each wall
        state.grid[first + randint(state, half - 1), half] = EMPTY
        state.grid[half, first + randint(state, half - 1)] = EMPTY
    if params.goal_row > 0:
        state.grid[params.goal_row, params.goal_col] = GREEN_GOAL
    if params.agent_row > 0:
        state.row, state.col, state.direction = params.agent_row, params.agent_col, randint(state, 4)
    else:
        place_agent(state, 0, 0, size, size)
    if params.goal_row == 0:
        place(state, GREEN_GOAL, 0, 0, size, size)
    finish(state, word)


@kernel
def step(params, state, action):
    return arrive(params, state, act(state, action))


class FourRooms(GridEnv):
    """Four rooms, a gap in each wall between two of them, an agent and a goal at random.

    Args:
        size: cells along each side, outer walls included; odd, in [5, 255].
        max_steps: time limit in steps.
        agent_pos, goal_pos: fixed positions (column, row) inside a room, as in Minigrid; None draws them at random.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        size=19,
        max_steps=100,
        num_contexts=None,
        layout_seed=0,
        agent_pos=None,
        goal_pos=None,
        agent_view_size=7,
        see_through_walls=False,
        observation="dict",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("size", size, 5, MAX_SIZE, odd=True)
        agent_col, agent_row = check_position("agent_pos", agent_pos, size)
        goal_col, goal_row = check_position("goal_pos", goal_pos, size)
        if agent_pos is not None and (agent_col, agent_row) == (goal_col, goal_row):
            raise ValueError(f"agent_pos and goal_pos must differ, got {agent_pos!r} for both")
        super().__init__(
            state=grid_state(size, size, agent_view_size),
            params=dict(
                agent_row=agent_row,
                agent_col=agent_col,
                goal_row=goal_row,
                goal_col=goal_col,
            ),
            missions=("reach the goal",),
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


def check_position(name, position, size):
    """(column, row) of a fixed position, (0, 0) for None."""
    if position is None:
        return 0, 0
    inside = [i for i in range(1, size - 1) if i != size // 2]
    if not isinstance(position, (tuple, list)) or len(position) != 2 or any(i not in inside for i in position):
        raise ValueError(f"{name} must be (column, row) inside a room, each in 1..{size - 2} but {size // 2}, got {position!r}")
    return int(position[0]), int(position[1])


FourRoomsVector = vectorize(FourRooms)
