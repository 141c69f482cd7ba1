"""LavaMultiRoom: a chain of rooms whose walls are lava, from the first room through every door to the goal in the last.

Observation: dict of "image", uint8 (7, 7, 3): object, colour and state of the cells in front of the agent, as far as it sees
             them; "direction", 0 east, 1 south, 2 west, 3 north; "mission", a sentence. position=True adds "position",
             MultiDiscrete (column, row); step_counter=True "step", float32 (1,), t / max_steps; noise_channels=k "noise",
             float32 (k,), uniform random numbers, new in every step. observation="image": the image alone.
Action:      Discrete(7): 0 turn left, 1 turn right, 2 forward, 5 open or close the door ahead; 3 pick up, 4 drop and 6 done do
             nothing here.
Reward:      1 on reaching the goal; otherwise 0.
Terminates:  on the goal and in lava.  Truncates: after max_steps (20 for each room).
Info:        cell (row * size + col), visited (distinct cells in this episode), first_visit (step that reached this cell first),
             coverage (visited / cells one can stand on), success, context (index of the layout, -1 if it is drawn afresh).
Layout:      Minigrid's MultiRoom: rooms of 4 to max_room_size cells a side, walls included, each entered through a door in
             its wall, which it shares with the room before. The walls are lava, and everything beyond them is wall.
Contexts:    num_contexts=K draws each episode from K fixed ones, rooms, goal and start all included: episode k of layout_seed.
Source:      Henaff et al., "A Study of Global and Episodic Bonuses for Exploration in Contextual MDPs" (2023,
             arXiv:2306.03236), whose MultiRoom-N6-Lava is MiniHack's; the law of the chain is `MultiRoomEnv`'s of Minigrid.
"""

from explore_gym.envs.engine import kernel, vectorize
from explore_gym.envs.gridworlds.grid import (
    CLOSED,
    DOOR,
    EMPTY,
    GOAL,
    GREEN_GOAL,
    GREY_WALL,
    LAVA,
    MAX_SIZE,
    OPEN,
    RED_LAVA,
    GridEnv,
    act,
    begin,
    cell,
    check_integer,
    choose,
    fill,
    finish,
    grid_state,
    inform,
    observe,
    place,
    place_agent,
)
from explore_gym.envs.gridworlds.room_chain import (
    DOOR_COL,
    DOOR_ROW,
    MIN_ROOM,
    bounds,
    chain_field,
    chain_rooms,
    most_rooms,
)

STEPS_PER_ROOM = 20


@kernel
def reset(params, state):
    word = begin(params, state)
    size = state.grid.shape[0]
    fill(state, 0, 0, size, size, GREY_WALL)
    last = chain_rooms(state, state.rooms.shape[0], params.max_room_size) - 1
    excluded = 0
    for i in range(last + 1):
        top, left, height, width = bounds(state, i)
        fill(state, top, left, height, width, RED_LAVA)
        fill(state, top + 1, left + 1, height - 2, width - 2, EMPTY)
        if i > 0:
            color = choose(state, 6, excluded)
            excluded = 1 << color  # the next door has another one
            state.grid[state.rooms[i, DOOR_ROW], state.rooms[i, DOOR_COL]] = cell(DOOR, color, params.door_state)
    top, left, height, width = bounds(state, 0)
    place_agent(state, top, left, height, width)
    top, left, height, width = bounds(state, last)
    place(state, GREEN_GOAL, top, left, height, width)
    finish(state, word)


@kernel
def step(params, state, action):
    entered = act(state, action)
    state.success = entered == GOAL
    return (1.0 if state.success else 0.0), state.success or entered == LAVA


class LavaMultiRoom(GridEnv):
    """A chain of rooms between walls of lava, an agent in the first, a goal in the last.

    Args:
        num_rooms: rooms of the chain, in [1, 16], fewer where the grid is small for them.
        max_room_size: cells along the longest side of a room, walls included, in [4, size - 2].
        size: cells along each side of the grid, in [9, 255].
        open_doors: whether the doors are open at the start.
        max_steps: time limit in steps; None: 20 for each room.
        num_contexts, layout_seed, agent_view_size, see_through_walls, observation: as in `GridEnv`.
        position, step_counter, noise_channels: further parts of the dict observation, as in `GridEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)
    untracked = (*GridEnv.untracked, "rooms")

    def __init__(
        self,
        num_rooms=6,
        max_room_size=6,
        size=25,
        open_doors=False,
        max_steps=None,
        num_contexts=None,
        layout_seed=0,
        agent_view_size=7,
        see_through_walls=False,
        observation="dict",
        position=False,
        step_counter=False,
        noise_channels=0,
        render_mode=None,
        max_episode_steps=None,
    ):
        check_integer("size", size, 9, MAX_SIZE)
        check_integer("max_room_size", max_room_size, MIN_ROOM, size - 2)
        check_integer("num_rooms", num_rooms, 1, most_rooms(size, max_room_size))
        super().__init__(
            state=grid_state(size, size, agent_view_size, rooms=chain_field(num_rooms)),
            params=dict(max_room_size=max_room_size, door_state=OPEN if open_doors else CLOSED),
            missions=("traverse the rooms to get to the goal",),
            num_contexts=num_contexts,
            layout_seed=layout_seed,
            max_steps=STEPS_PER_ROOM * num_rooms if max_steps is None else max_steps,
            agent_view_size=agent_view_size,
            see_through_walls=see_through_walls,
            observation=observation,
            position=position,
            step_counter=step_counter,
            noise_channels=noise_channels,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )


LavaMultiRoomVector = vectorize(LavaMultiRoom)
