"""FourRooms: four rooms joined by a random gap in each wall; find the goal square. Minigrid's environment, of any odd size.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, as far as it sees
             them; "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward; 3 pick up, 4 drop, 5 toggle and 6 done do nothing here.
Reward:      1 - 0.9 t / max_steps on reaching the goal at step t; otherwise 0.
Terminates:  on the goal.  Truncates: after max_steps (100).
Info:        cell (row * size + col), visited (distinct cells in this episode), coverage (visited / cells one can stand on),
             success, context (index of the layout, -1 if it is drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones, walls, goal and start all included: episode k of layout_seed.
Source:      Sutton, Precup and Singh, "Between MDPs and semi-MDPs" (1999); `FourRoomsEnv` of Minigrid, from which it departs in
             one law only: with a fixed goal the agent never starts on it. Contexts: Henaff et al. (2023, arXiv:2306.03236).
"""

from explore_gym.envs.engine import kernel, randint, seed_stream, vectorize
from explore_gym.envs.gridworlds.grid import (
    EMPTY,
    GREEN_GOAL,
    MAX_SIZE,
    GridEnv,
    act,
    arrive,
    check_integer,
    clear,
    grid_state,
    horizontal_wall,
    observe,
    place,
    place_agent,
    room,
    vertical_wall,
    visit,
)


@kernel
def reset(params, state):
    state.context = -1
    if params.num_contexts == 0:
        lay_out(params, state)
    else:
        state.context = randint(state, params.num_contexts)
        word = state.rng  # the context has a stream of its own
        seed_stream(state, params.layout_seed, state.context)
        lay_out(params, state)
        state.rng = word


@kernel
def lay_out(params, state):
    size = state.grid.shape[0]
    half = size // 2
    clear(state)
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
    visit(state)


@kernel
def step(params, state, action):
    return arrive(params, state, act(state, action))


@kernel
def inform(params, state, info):
    info.cell = state.row * state.grid.shape[1] + state.col
    info.visited = state.visited
    info.coverage = state.visited / params.walkable
    info.success = state.success
    info.context = state.context


class FourRooms(GridEnv):
    """Four rooms, a gap in each wall between two of them, an agent and a goal at random.

    Args:
        size: cells along each side, outer walls included; odd, in [5, 255].
        max_steps: time limit in steps.
        num_contexts: number of distinct episodes (walls, goal and start); None draws each one afresh.
        layout_seed: selects the set of contexts; only with num_contexts.
        agent_pos, goal_pos: fixed positions (column, row) inside a room, as in Minigrid; None draws them at random.
        agent_view_size, see_through_walls, observation: as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)
    untracked = (*GridEnv.untracked, "context")

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
        check_integer("layout_seed", layout_seed, 0, 2**63 - 1)
        if num_contexts is not None:
            check_integer("num_contexts", num_contexts, 1, 2**31 - 1)
        agent_col, agent_row = check_position("agent_pos", agent_pos, size)
        goal_col, goal_row = check_position("goal_pos", goal_pos, size)
        if agent_pos is not None and (agent_col, agent_row) == (goal_col, goal_row):
            raise ValueError(f"agent_pos and goal_pos must differ, got {agent_pos!r} for both")
        super().__init__(
            state=grid_state(size, size, agent_view_size, context="i4"),
            params=dict(
                num_contexts=num_contexts or 0,
                layout_seed=layout_seed,
                agent_row=agent_row,
                agent_col=agent_col,
                goal_row=goal_row,
                goal_col=goal_col,
                walkable=(size - 3) ** 2 + 4,
            ),
            missions=("reach the goal",),
            info=dict(cell=int, visited=int, coverage=float, success=bool, context=int),
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
