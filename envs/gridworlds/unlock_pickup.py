"""UnlockPickup: fetch the key, open the locked door and pick up the box behind it. Minigrid's environment, of any size.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, as far as it sees
             them; "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward, 3 pick up, 4 drop, 5 toggle; 6 done does nothing here.
Reward:      1 - 0.9 t / max_steps on picking up the box at step t; otherwise 0.
Terminates:  on picking up the box.  Truncates: after max_steps (8 room_size^2).
Info:        cell (row * width + column), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells one can stand on), success, context (index of the layout, -1 if drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed.
Source:      `UnlockPickupEnv` of Minigrid (Chevalier-Boisvert et al., 2023, arXiv:2306.13831).
"""

import numpy as np

from explore_gym.envs.engine import kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import (
    BOX,
    COLOR_NAMES,
    EAST,
    KEY,
    LOCKED,
    MAX_SIZE,
    PICKUP,
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
    count_rooms,
    place_in_room,
    room_grid,
    room_grid_params,
    room_grid_state,
)


@kernel
def reset(params, state):
    word = begin(params, state)
    room_grid(params, state)
    state.mission = randint(state, 6)
    state.target = cell(BOX, state.mission)
    place_in_room(params, state, 1, state.target)
    color = randint(state, 6)
    add_door(params, state, 0, EAST, color, LOCKED)
    place_in_room(params, state, 0, cell(KEY, color))
    agent_in_room(params, state, 0)
    finish(state, word)
    count_rooms(params, state)


@kernel
def step(params, state, action):
    act(state, action)
    state.success = action == PICKUP and state.carrying == state.target
    return (time_reward(params, state) if state.success else 0.0), state.success


class UnlockPickup(GridEnv):
    """Two rooms with a locked door between them, agent and key in the left one, the box in the right one.

    Args:
        room_size: cells along each side of a room, walls included, in [5, 127].
        max_steps: time limit in steps; None: 8 room_size^2.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)
    untracked = (*GridEnv.untracked, *LAYOUT_FIELDS)

    def __init__(
        self,
        room_size=6,
        max_steps=None,
        num_contexts=None,
        layout_seed=0,
        agent_view_size=7,
        see_through_walls=False,
        observation="dict",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("room_size", room_size, 5, MAX_SIZE // 2)
        super().__init__(
            state=room_grid_state(1, 2, room_size, agent_view_size, target=np.uint16),
            params=room_grid_params(1, 2, room_size),
            missions=tuple(f"pick up the {color} box" for color in COLOR_NAMES),
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=8 * room_size**2 if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


UnlockPickupVector = vectorize(UnlockPickup)
