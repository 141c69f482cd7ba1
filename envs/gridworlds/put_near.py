"""PutNear: pick up one object and drop it near another, as the mission says. Minigrid's environment, of any size.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, walls or not;
             "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward, 3 pick up, 4 drop, 5 toggle; 6 done does nothing here.
Reward:      1 - 0.9 t / max_steps on dropping it, at step t, within one cell of the other's place, diagonals too; otherwise 0.
Terminates:  on picking up another object; on dropping, or trying to.  Truncates: after max_steps (5 size).
Info:        cell (row * width + column), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells that an object doesn't block for ever), success,
             context (index of the layout, -1 if drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed.
Source:      `PutNearEnv` of Minigrid (Chevalier-Boisvert et al., 2023, arXiv:2306.13831).
             One departure: numbers of objects that may not fit are an error, where Minigrid may search for ever.
"""

import numpy as np

from explore_gym.envs.engine import kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import (
    BOX,
    COLOR_NAMES,
    DROP,
    EMPTY,
    KEY,
    MAX_SIZE,
    PICKUP,
    UNSEEN,
    GridEnv,
    act,
    begin,
    cell,
    check_integer,
    choose,
    finish,
    front,
    grid_state,
    inform,
    observe,
    place,
    place_agent,
    room,
    time_reward,
)

NUM_THINGS = 18  # a key, a ball and a box of each colour
THINGS = tuple(f"{color} {kind}" for color in COLOR_NAMES for kind in ("key", "ball", "box"))
MISSIONS = tuple(f"put the {moved} near the {target}" for moved in THINGS for target in THINGS)


@kernel
def reset(params, state):
    word = begin(params, state)
    size = state.grid.shape[0]
    room(state, 0, 0, size, size)
    moved = randint(state, params.num_objects)
    target, taken = choose(state, params.num_objects, 1 << moved), 0
    moved_thing, target_thing, blocked = 0, 0, 0
    for i in range(params.num_objects):
        thing = choose(state, NUM_THINGS, taken)
        taken |= 1 << thing
        code = cell(KEY + thing % 3, thing // 3)
        index = place(state, code, 0, 0, size, size)
        row, col = index // size, index % size
        reserve_around(state, row, col)
        if i == moved:
            state.moved, moved_thing = code, thing
        elif code & 15 != BOX:
            blocked += 1
        if i == target:
            state.target_row, state.target_col, target_thing = row, col, thing
    for row in range(1, size - 1):
        for col in range(1, size - 1):
            if state.grid[row, col] == UNSEEN:
                state.grid[row, col] = EMPTY
    state.mission = moved_thing * NUM_THINGS + target_thing
    place_agent(state, 0, 0, size, size)
    finish(state, word)
    state.walkable -= blocked  # only the one to be moved can be taken away, and boxes vanish when they are opened


@kernel
def reserve_around(state, row, col):
    """Mark the empty cells around an object, so that no other finds its place there."""
    for r in range(row - 1, row + 2):
        for c in range(col - 1, col + 2):
            if state.grid[r, c] == EMPTY:
                state.grid[r, c] = UNSEEN


@kernel
def step(params, state, action):
    carried = state.carrying
    act(state, action)
    wrong = action == PICKUP and state.carrying != EMPTY and state.carrying != state.moved
    tried = action == DROP and carried != EMPTY
    row, col, _ = front(state)
    near = abs(row - state.target_row) <= 1 and abs(col - state.target_col) <= 1
    state.success = tried and state.carrying == EMPTY and near
    return (time_reward(params, state) if state.success else 0.0), wrong or tried


class PutNear(GridEnv):
    """A room with keys, balls and boxes, no two alike or side by side, of which one has to be carried to another.

    Args:
        size: cells along each side, outer walls included, in [6, 255].
        num_objects: number of objects, at least 2; 9 (num_objects - 1) < (size - 2)^2, so that all find a place.
        max_steps: time limit in steps; None: 5 size.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        size=6,
        num_objects=2,
        max_steps=None,
        num_contexts=None,
        layout_seed=0,
        agent_view_size=7,
        see_through_walls=True,
        observation="dict",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("size", size, 6, MAX_SIZE)
        check_integer("num_objects", num_objects, 2, min(NUM_THINGS, 1 + ((size - 2) ** 2 - 1) // 9))
        super().__init__(
            state=grid_state(size, size, agent_view_size, moved=np.uint16, target_row=np.int32, target_col=np.int32),
            params=dict(num_objects=num_objects),
            missions=MISSIONS,
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=5 * size if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


PutNearVector = vectorize(PutNear)
