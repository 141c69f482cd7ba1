"""LockedRoom: find the key in one of six rooms, open the locked one and get to the goal in it. Minigrid's environment.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, as far as it sees
             them; "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward, 3 pick up, 4 drop, 5 toggle; 6 done does nothing here.
Reward:      1 - 0.9 t / max_steps on reaching the goal at step t; otherwise 0.
Terminates:  on the goal.  Truncates: after max_steps (10 size).
Info:        cell (row * width + column), visited (distinct cells in this episode), first_visit (step that reached this cell
             first), coverage (visited / cells one can stand on), success, context (index of the layout, -1 if drawn afresh).
Contexts:    num_contexts=K draws each episode from K fixed ones: episode k of layout_seed.
Source:      `LockedRoomEnv` of Minigrid (Chevalier-Boisvert et al., 2023, arXiv:2306.13831).
             One departure: sizes at which a room leaves the grid or a door leads into a wall are an error.
"""

from explore_gym.envs.engine import kernel, randint, vectorize
from explore_gym.envs.gridworlds.grid import (
    CLOSED,
    COLOR_NAMES,
    DOOR,
    GREEN_GOAL,
    KEY,
    LOCKED,
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
    horizontal_wall,
    inform,
    observe,
    place,
    place_agent,
    room,
    vertical_wall,
)

MISSIONS = tuple(
    f"get the {locked} key from the {holder} room, unlock the {locked} door and go to the goal"
    for locked in COLOR_NAMES
    for holder in COLOR_NAMES
)


@kernel
def reset(params, state):
    word = begin(params, state)
    size = state.grid.shape[0]
    left, right, pitch = size // 2 - 2, size // 2 + 2, size // 3  # the walls of the hallway, rows from room to room
    room(state, 0, 0, size, size)
    vertical_wall(state, 0, left, size)
    vertical_wall(state, 0, right, size)
    locked = randint(state, 6)
    key_room = choose(state, 6, 1 << locked)
    locked_color = randint(state, 6)
    taken = 1 << locked_color
    for i in range(6):
        row, col = i // 2 * pitch, i % 2 * right
        horizontal_wall(state, row, col, left + 1)
        color = locked_color if i == locked else choose(state, 6, taken)
        taken |= 1 << color
        state.grid[row + 3, (left, right)[i % 2]] = cell(DOOR, color, LOCKED if i == locked else CLOSED)
        if i == locked:
            place(state, GREEN_GOAL, row + 1, col + 1, pitch - 1, left - 1)
        if i == key_room:
            place(state, cell(KEY, locked_color), row + 1, col + 1, pitch - 1, left - 1)
            state.mission = locked_color * 6 + color
    place_agent(state, 0, left, size, right - left)
    finish(state, word)


@kernel
def step(params, state, action):
    return arrive(params, state, act(state, action))


class LockedRoom(GridEnv):
    """A hallway between two columns of three rooms; one is locked, its key lies in another.

    Args:
        size: cells along each side, outer walls included; odd, in [13, 255], no multiple of 3.
        max_steps: time limit in steps; None: 10 size.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)

    def __init__(
        self,
        size=19,
        max_steps=None,
        num_contexts=None,
        layout_seed=0,
        agent_view_size=7,
        see_through_walls=False,
        observation="dict",
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("size", size, 13, MAX_SIZE, odd=True)
        if size % 3 == 0:
            raise ValueError(f"size must not be a multiple of 3, got {size}")
        super().__init__(
            state=grid_state(size, size, agent_view_size),
            params={},
            missions=MISSIONS,
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=10 * size if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


LockedRoomVector = vectorize(LockedRoom)
