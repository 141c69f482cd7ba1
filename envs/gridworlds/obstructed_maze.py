"""ObstructedMaze: a blue ball behind locked doors, which balls block and whose keys lie in boxes. Minigrid's environments.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, as far as it sees
             them; "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward, 3 pick up, 4 drop, 5 toggle; 6 done does nothing here.
Reward:      1 - 0.9 t / max_steps on picking up the blue ball at step t; otherwise 0.
Terminates:  on picking up the blue ball.  Truncates: after max_steps (288, 720, 1584, 2592 or 3600 for 0 to 4 quarters).
Info:        cell (row * width + column), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells one can stand on), success, context (index of the layout, -1 if drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed.
Layout:      num_quarters=0: two rooms with a locked door between them. Otherwise 3x3 rooms: from the middle one closed doors
             lead to the rooms east, south, west and north of it, to the first num_quarters of them; from each of these locked
             ones lead to the corners on both sides. The keys lie in the room that one opens a locked door from, and the blue
             ball in a random corner. Each door of a quarter has a colour of its own, which neighbouring quarters share.
Source:      `ObstructedMazeEnv` of Minigrid (Chevalier-Boisvert et al., 2023, arXiv:2306.13831). 1Dl, 2Dl, 1Q, 2Q and Full are
             arguments: `VARIANTS` in `explore_gym.envs`.
"""

import numpy as np

from explore_gym.envs.engine import kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import (
    BALL,
    BLUE,
    CLOSED,
    EAST,
    GREEN,
    GREY,
    KEY,
    LOCKED,
    NORTH,
    PICKUP,
    SOUTH,
    WEST,
    GridEnv,
    act,
    begin,
    box,
    cell,
    check_integer,
    choose,
    finish,
    inform,
    observe,
    time_reward,
)
from explore_gym.envs.gridworlds.room_grid import (
    LAYOUT_FIELDS,
    add_door,
    agent_in_room,
    count_rooms,
    place_in_room,
    room_grid,
    room_grid_params,
    room_grid_state,
)

ROOM_SIZE = 6
MIDDLE = 4  # room of the 3x3
SIDE_ROOMS = ((2, 1), (1, 2), (0, 1), (1, 0))  # (column, row), in the order of the quarters
BLUE_BALL, GREEN_BALL = BALL | BLUE << 4, BALL | GREEN << 4
MAX_STEPS = (288, 720, 1584, 2592, 3600)  # by quarters


@kernel
def reset(params, state):
    word = begin(params, state)
    room_grid(params, state)
    used = 0
    for i in range(6):  # a random order of the colours
        state.door_colors[i] = choose(state, 6, used)
        used |= 1 << state.door_colors[i]
    state.target = BLUE_BALL
    if params.num_quarters == 0:
        lock(params, state, 0, EAST, state.door_colors[0])
        hide_key(params, state, 0, state.door_colors[0])
        place_in_room(params, state, 1, BLUE_BALL)
    else:
        for quarter in range(params.num_quarters):
            add_quarter(params, state, quarter)
        place_in_room(params, state, corner_room(randint(state, params.num_quarters)), BLUE_BALL)
    agent_in_room(params, state, params.start_room)
    finish(state, word)
    count_rooms(params, state)


@kernel
def add_quarter(params, state, quarter):
    """The room at a side of the middle one, with its door and those to the corners on both sides."""
    index = MIDDLE + (quarter == EAST) - (quarter == WEST) + 3 * (quarter == SOUTH) - 3 * (quarter == NORTH)
    add_door(params, state, MIDDLE, quarter, state.door_colors[quarter], CLOSED)
    for turn in (-1, 1):
        color = state.door_colors[(quarter + turn) % 6]
        lock(params, state, index, (quarter + turn) % 4, color)
        if not params.keys_last:
            hide_key(params, state, index, color)
    if params.keys_last:
        for turn in (-1, 1):
            hide_key(params, state, index, state.door_colors[(quarter + turn) % 6])


@kernel
def lock(params, state, index, side, color):
    """A locked door, with a ball before it if doors are blocked."""
    row, col = add_door(params, state, index, side, color, LOCKED)
    if params.blocked:
        row += np.int64(side == NORTH) - np.int64(side == SOUTH)
        col += np.int64(side == WEST) - np.int64(side == EAST)
        state.grid[row, col] = GREEN_BALL


@kernel
def hide_key(params, state, index, color):
    """A key in a room, in a box if keys are hidden."""
    key = cell(KEY, color)
    place_in_room(params, state, index, box(GREY, key) if params.key_in_box else key)


@kernel
def corner_room(i):
    """North-east, south-east, south-west, north-west."""
    return (2, 8, 6, 0)[i]


@kernel
def step(params, state, action):
    act(state, action)
    state.success = action == PICKUP and state.carrying == state.target
    return (time_reward(params, state) if state.success else 0.0), state.success


class ObstructedMaze(GridEnv):
    """Rooms behind locked and blocked doors, the keys in boxes, the blue ball in the last room.

    Args:
        num_quarters: side rooms of the 3x3 that can be entered, in [0, 4]; 0: two rooms in a row.
        agent_room: (column, row) of the room that the agent starts in: of an entered side room or the middle one, (1, 1);
            None: the middle one, of two rooms the left one.
        key_in_box: whether keys lie in boxes.
        blocked: whether a ball lies before each locked door.
        keys_last: whether keys are laid out behind all balls of their room, as in Minigrid's environments of version 1. If
            False, a ball may take the place of a key, as in version 0, and some layouts have no solution.
        max_steps: time limit in steps; None: by quarters, see above.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)
    untracked = (*GridEnv.untracked, *LAYOUT_FIELDS)

    def __init__(
        self,
        num_quarters=4,
        agent_room=None,
        key_in_box=True,
        blocked=True,
        keys_last=True,
        max_steps=None,
        num_contexts=None,
        layout_seed=0,
        agent_view_size=7,
        see_through_walls=False,
        observation="dict",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("num_quarters", num_quarters, 0, 4)
        rows, cols = (3, 3) if num_quarters else (1, 2)
        start_room = check_agent_room(agent_room, num_quarters)
        super().__init__(
            state=room_grid_state(rows, cols, ROOM_SIZE, agent_view_size, target=np.uint16, door_colors=(np.int32, (6,))),
            params=dict(
                num_quarters=num_quarters,
                start_room=start_room,
                key_in_box=bool(key_in_box),
                blocked=bool(blocked),
                keys_last=bool(keys_last),
                **room_grid_params(rows, cols, ROOM_SIZE),
            ),
            missions=("pick up the blue ball",),
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=MAX_STEPS[num_quarters] if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


def check_agent_room(agent_room, num_quarters):
    """The number of the room that the agent starts in."""
    rooms = ((1, 1), *SIDE_ROOMS[:num_quarters]) if num_quarters else ((0, 0),)
    start = rooms[0] if agent_room is None else agent_room
    if not isinstance(start, (tuple, list)) or tuple(start) not in rooms:
        raise ValueError(f"agent_room must be one of {', '.join(map(str, rooms))} here, got {agent_room!r}")
    col, row = start
    return 3 * row + col


ObstructedMazeVector = vectorize(ObstructedMaze)
