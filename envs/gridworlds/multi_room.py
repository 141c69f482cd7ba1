"""MultiRoom: a winding chain of rooms with closed doors between them, the goal in the last. Minigrid's environment.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, as far as it sees
             them; "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward, 3 pick up, 4 drop, 5 toggle; 6 done does nothing here.
Reward:      1 - 0.9 t / max_steps on reaching the goal at step t; otherwise 0.
Terminates:  on the goal.  Truncates: after max_steps (20 max_rooms).
Info:        cell (row * width + column), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells one can stand on), success, context (index of the layout, -1 if drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed.
Source:      `MultiRoomEnv` of Minigrid (Chevalier-Boisvert et al., 2023, arXiv:2306.13831).
             One departure: after 10,000 chains that were too short it asks for one room less, where Minigrid goes on for ever.
"""

from explore_gym.envs.engine import kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import (
    CLOSED,
    DOOR,
    GREEN_GOAL,
    MAX_SIZE,
    GridEnv,
    act,
    arrive,
    begin,
    cell,
    check_integer,
    choose,
    finish,
    grid_state,
    inform,
    observe,
    place,
    place_agent,
    room,
)
from explore_gym.envs.gridworlds.room_chain import (
    DOOR_COL,
    DOOR_ROW,
    HEIGHT,
    LEFT,
    MIN_ROOM,
    TOP,
    WIDTH,
    bounds,
    chain_field,
    grow_chain,
)

MAX_ROOMS = 64
MAX_CHAINS = 10_000  # drawn before one room less is asked for


@kernel
def reset(params, state):
    word = begin(params, state)
    num_rooms = place_rooms(params, state, params.min_rooms + randint(state, params.max_rooms - params.min_rooms + 1))
    walkable, excluded = num_rooms - 1, 0
    for i in range(num_rooms):
        row, col, height, width = bounds(state, i)
        room(state, row, col, height, width)
        walkable += (height - 2) * (width - 2)
        if i > 0:
            color = choose(state, 6, excluded)
            excluded = 1 << color  # the next door has another one
            state.grid[state.rooms[i, DOOR_ROW], state.rooms[i, DOOR_COL]] = cell(DOOR, color, CLOSED)
    row, col, height, width = bounds(state, 0)
    place_agent(state, row, col, height, width)
    row, col, height, width = bounds(state, num_rooms - 1)
    place(state, GREEN_GOAL, row, col, height, width)
    finish(state, word)
    state.walkable = walkable  # there are empty cells around the rooms


@kernel
def place_rooms(params, state, wanted):
    """Draw chains of rooms until one is as long as wanted. Returns its length."""
    state.rooms[0, TOP], state.rooms[0, LEFT] = 0, 0  # a room at least
    state.rooms[0, HEIGHT], state.rooms[0, WIDTH] = MIN_ROOM, MIN_ROOM
    while wanted > 0:
        for _ in range(MAX_CHAINS):
            if grow_chain(state, wanted, params.max_room_size) == wanted:
                return wanted
        wanted -= 1
    return 1


@kernel
def step(params, state, action):
    return arrive(params, state, act(state, action))


class MultiRoom(GridEnv):
    """Rooms in a chain, doors of random colours between them, the agent in the first room and the goal in the last.

    Args:
        min_rooms, max_rooms: bounds on the random number of rooms, in [1, 64].
        max_room_size: largest side of a room, its walls included, in [4, min(width, height) - 1]; the smallest is 4.
        width, height: cells along the sides of the grid, in [5, 255].
        max_steps: time limit in steps; None: 20 max_rooms.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        min_rooms=6,
        max_rooms=6,
        max_room_size=10,
        width=25,
        height=25,
        max_steps=None,
        num_contexts=None,
        layout_seed=0,
        agent_view_size=7,
        see_through_walls=False,
        observation="dict",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("max_rooms", max_rooms, 1, MAX_ROOMS)
        check_integer("min_rooms", min_rooms, 1, max_rooms)
        check_integer("width", width, 5, MAX_SIZE)
        check_integer("height", height, 5, MAX_SIZE)
        check_integer("max_room_size", max_room_size, MIN_ROOM, min(width, height) - 1)
        super().__init__(
            state=grid_state(height, width, agent_view_size, rooms=chain_field(max_rooms)),
            params=dict(min_rooms=min_rooms, max_rooms=max_rooms, max_room_size=max_room_size),
            missions=("traverse the rooms to get to the goal",),
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=20 * max_rooms if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


MultiRoomVector = vectorize(MultiRoom)
