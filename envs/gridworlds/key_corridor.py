"""KeyCorridor: find the key behind one of the doors of a hallway, and the object behind the locked one. Minigrid's environment.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, as far as it sees
             them; "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward, 3 pick up, 4 drop, 5 toggle; 6 done does nothing here.
Reward:      1 - 0.9 t / max_steps on picking up the object at step t; otherwise 0.
Terminates:  on picking up the object.  Truncates: after max_steps (30 room_size^2).
Info:        cell (row * width + column), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells one can stand on), success, context (index of the layout, -1 if drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed.
Source:      `KeyCorridorEnv` of Minigrid (Chevalier-Boisvert et al., 2023, arXiv:2306.13831).
"""

import numpy as np

from explore_gym.envs.engine import kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import (
    BALL,
    BOX,
    COLOR_NAMES,
    KEY,
    LOCKED,
    MAX_SIZE,
    NORTH,
    PICKUP,
    WEST,
    GridEnv,
    act,
    begin,
    cell,
    check_integer,
    finish,
    inform,
    observe,
    time_reward,
)
from explore_gym.envs.gridworlds.room_grid import (
    LAYOUT_FIELDS,
    add_door,
    agent_in_room,
    connect_all,
    count_rooms,
    place_in_room,
    remove_wall,
    room_grid,
    room_grid_params,
    room_grid_state,
)

COLUMNS = 3  # of rooms; the hallway is the middle one
OBJECTS = {"ball": BALL, "box": BOX}
MAX_ROWS = 20


@kernel
def reset(params, state):
    word = begin(params, state)
    room_grid(params, state)
    for row in range(1, params.num_rows):
        remove_wall(params, state, COLUMNS * row + 1, NORTH)
    behind = COLUMNS * randint(state, params.num_rows) + 2
    color = randint(state, 6)
    add_door(params, state, behind, WEST, color, LOCKED)
    state.mission = randint(state, 6)
    state.target = cell(params.kind, state.mission)
    place_in_room(params, state, behind, state.target)
    place_in_room(params, state, COLUMNS * randint(state, params.num_rows), cell(KEY, color))
    agent_in_room(params, state, COLUMNS * (params.num_rows // 2) + 1)
    connect_all(params, state)
    finish(state, word)
    count_rooms(params, state)


@kernel
def step(params, state, action):
    act(state, action)
    state.success = action == PICKUP and state.carrying == state.target
    return (time_reward(params, state) if state.success else 0.0), state.success


class KeyCorridor(GridEnv):
    """A hallway between two columns of rooms, one of them locked with the object inside, the key in another.

    Args:
        num_rows: rows of rooms, in [1, 20].
        room_size: cells along each side of a room, walls included, at least 3; 85 at most, 255 cells in all.
        obj_type: what to pick up, "ball" or "box".
        max_steps: time limit in steps; None: 30 room_size^2.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)
    untracked = (*GridEnv.untracked, *LAYOUT_FIELDS)

    def __init__(
        self,
        num_rows=3,
        room_size=6,
        obj_type="ball",
        max_steps=None,
        num_contexts=None,
        layout_seed=0,
        agent_view_size=7,
        see_through_walls=False,
        observation="dict",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("num_rows", num_rows, 1, MAX_ROWS)
        check_integer("room_size", room_size, 3, (MAX_SIZE - 1) // max(num_rows, COLUMNS) + 1)
        if obj_type not in OBJECTS:
            raise ValueError(f"obj_type must be one of {', '.join(OBJECTS)}, got {obj_type!r}")
        super().__init__(
            state=room_grid_state(num_rows, COLUMNS, room_size, agent_view_size, target=np.uint16),
            params=dict(kind=OBJECTS[obj_type], **room_grid_params(num_rows, COLUMNS, room_size)),
            missions=tuple(f"pick up the {color} {obj_type}" for color in COLOR_NAMES),
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=30 * room_size**2 if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


KeyCorridorVector = vectorize(KeyCorridor)
