"""A grid of square rooms with walls, doors and objects, Minigrid's `RoomGrid`, as kernels for the environments made of it.

Rooms are numbered row by row, their sides as directions (EAST, SOUTH, WEST, NORTH). A layout is drawn like this:

    word = begin(params, state)
    room_grid(params, state)                           # walls, places of doors to come; the agent in the middle
    add_door(params, state, 0, EAST, RED, LOCKED)
    place_in_room(params, state, 0, cell(KEY, RED))
    agent_in_room(params, state, 0)
    finish(state, word)
    count_rooms(params, state)                         # of what can be reached
"""

import numpy as np

from explore_gym.envs.engine import kernel, randint
from explore_gym.envs.gridworlds.grid import (
    CLOSED,
    DOOR,
    EAST,
    EMPTY,
    LOCKED,
    NORTH,
    SOUTH,
    WALL,
    WEST,
    cell,
    fill,
    front,
    grid_state,
    is_free,
    room,
)

SIDES = 4
LAYOUT_FIELDS = ("door_cells", "joined", "locked")  # of the state: how the layout was drawn, for `untracked`


def room_grid_state(num_rows, num_cols, room_size, view_size, **fields):
    """The dtype of the state of num_rows x num_cols rooms, each room_size cells wide, walls included."""
    num_rooms = num_rows * num_cols
    return grid_state(
        num_rows * (room_size - 1) + 1,
        num_cols * (room_size - 1) + 1,
        view_size,
        door_cells=(np.int32, (num_rooms, SIDES)),  # index of the cell that a door in this side takes, -1 without neighbour
        joined=(np.int32, (num_rooms,)),  # a bit for each side that has a door or no wall
        locked=(np.uint8, (num_rooms,)),  # whether the door added last from this room is locked
        **fields,
    )


def room_grid_params(num_rows, num_cols, room_size):
    """What the kernels here read from `params`."""
    return dict(num_rows=num_rows, num_cols=num_cols, room_size=room_size)


@kernel
def corner(params, index):
    """(row, col) of a room's upper left cell."""
    return index // params.num_cols * (params.room_size - 1), index % params.num_cols * (params.room_size - 1)


@kernel
def neighbour(params, index, side):
    """The number of the room beyond a side, -1 if there is none."""
    row = index // params.num_cols + np.int64(side == SOUTH) - np.int64(side == NORTH)
    col = index % params.num_cols + np.int64(side == EAST) - np.int64(side == WEST)
    if row < 0 or col < 0 or row >= params.num_rows or col >= params.num_cols:
        return -1
    return row * params.num_cols + col


@kernel
def room_grid(params, state):
    """Walls around all rooms, a random place for the door in each wall between two, the agent in the middle looking east."""
    size, width = params.room_size, state.grid.shape[1]
    for index in range(params.num_rows * params.num_cols):
        state.joined[index], state.locked[index] = 0, 0
        for side in range(SIDES):
            state.door_cells[index, side] = -1
    for index in range(params.num_rows * params.num_cols):
        row, col = corner(params, index)
        room(state, row, col, size, size)
        right, below = neighbour(params, index, EAST), neighbour(params, index, SOUTH)
        if right >= 0:
            place = (row + 1 + randint(state, size - 2)) * width + col + size - 1
            state.door_cells[index, EAST] = place
            state.door_cells[right, WEST] = place
        if below >= 0:
            place = (row + size - 1) * width + col + 1 + randint(state, size - 2)
            state.door_cells[index, SOUTH] = place
            state.door_cells[below, NORTH] = place
    state.row = params.num_rows // 2 * (size - 1) + size // 2
    state.col = params.num_cols // 2 * (size - 1) + size // 2
    state.direction = EAST


@kernel
def add_door(params, state, index, side, color, door):
    """A door in a room's side, which must have a neighbour. Returns (row, col) of its cell."""
    width = state.grid.shape[1]
    place = np.int64(state.door_cells[index, side])
    row, col = place // width, place % width
    state.grid[row, col] = cell(DOOR, color, door)
    state.locked[index] = door == LOCKED
    join(params, state, index, side)
    return row, col


@kernel
def join(params, state, index, side):
    """Note that one can get through a side."""
    state.joined[index] |= 1 << side
    state.joined[neighbour(params, index, side)] |= 1 << ((side + 2) & 3)
    state.stale = True


@kernel
def remove_wall(params, state, index, side):
    """Open a side on its whole length."""
    row, col = corner(params, index)
    last = params.room_size - 1
    if side in (EAST, WEST):
        fill(state, row + 1, col + (last if side == EAST else 0), last - 1, 1, EMPTY)
    else:
        fill(state, row + (last if side == SOUTH else 0), col + 1, 1, last - 1, EMPTY)
    join(params, state, index, side)


@kernel
def can_hold(state, row, col):
    """Whether an object may be put on a cell: free and not next to the agent."""
    return is_free(state, row, col) and abs(row - state.row) + abs(col - state.col) >= 2


@kernel
def place_in_room(params, state, index, code):
    """Put an object on a random cell of a room that can hold it, all equally likely. Returns whether there is one."""
    top, left = corner(params, index)
    size, count = params.room_size, 0
    for row in range(top, top + size):
        for col in range(left, left + size):
            count += can_hold(state, row, col)
    if count == 0:
        return False
    count = randint(state, count)
    for row in range(top, top + size):
        for col in range(left, left + size):
            if can_hold(state, row, col):
                if count == 0:
                    state.grid[row, col] = code
                    state.stale = True
                    return True
                count -= 1
    return False


@kernel
def can_start(state, row, col, direction):
    """Whether the agent may start with this pose: on a free cell, with nothing or a wall ahead. The pose becomes its own."""
    state.row, state.col, state.direction = row, col, direction
    ahead = front(state)[2]
    return state.grid[row, col] == EMPTY and (ahead == EMPTY or ahead & 15 == WALL)


@kernel
def agent_in_room(params, state, index):
    """Put the agent in a random pose in a room, not in front of an object, all equally likely. Returns whether there is one."""
    top, left = corner(params, index)
    size, count = params.room_size, 0
    for row in range(top, top + size):
        for col in range(left, left + size):
            for direction in range(4):
                count += can_start(state, row, col, direction)
    state.stale = True
    if count == 0:
        return False
    count = randint(state, count)
    for row in range(top, top + size):
        for col in range(left, left + size):
            for direction in range(4):
                if can_start(state, row, col, direction):
                    if count == 0:
                        return True
                    count -= 1
    return False


@kernel
def agent_room(params, state):
    """The number of the room that the agent is in; a wall between two belongs to the one to the right or below."""
    pitch = params.room_size - 1
    return state.row // pitch * params.num_cols + state.col // pitch


@kernel
def reached_rooms(params, state):
    """A bit for each room that the agent's is connected with."""
    reached, grown = 1 << agent_room(params, state), 0
    while grown != reached:
        grown = reached
        for index in range(params.num_rows * params.num_cols):
            if reached >> index & 1:
                for side in range(SIDES):
                    if state.joined[index] >> side & 1:
                        reached |= 1 << neighbour(params, index, side)
    return reached


@kernel
def can_join(params, state, index, side):
    """Whether `connect_all` may put a door there: to a neighbour, where there is none, and no locked room on either side."""
    other = neighbour(params, index, side)
    return other >= 0 and not state.joined[index] >> side & 1 and not state.locked[index] and not state.locked[other]


@kernel
def connect_all(params, state):
    """Add closed doors of random colours at random places until all rooms are connected, or no place is left."""
    num_rooms = params.num_rows * params.num_cols
    while reached_rooms(params, state) != (1 << num_rooms) - 1:
        count = 0
        for place in range(num_rooms * SIDES):
            count += can_join(params, state, place // SIDES, place % SIDES)
        if count == 0:
            break
        count = randint(state, count)
        for place in range(num_rooms * SIDES):
            if can_join(params, state, place // SIDES, place % SIDES):
                if count == 0:
                    add_door(params, state, place // SIDES, place % SIDES, randint(state, 6), CLOSED)
                    break
                count -= 1


@kernel
def count_rooms(params, state):
    """Count the cells in rooms that the agent's is connected with, with what joins them, as those one can stand on."""
    reached, count, size = reached_rooms(params, state), 0, params.room_size
    for index in range(params.num_rows * params.num_cols):
        if reached >> index & 1:
            row, col = corner(params, index)
            count += (size - 2) ** 2
            for i in range(1, size - 1):  # doors and gaps to the right and below
                count += state.joined[index] >> EAST & 1 and state.grid[row + i, col + size - 1] & 15 != WALL
                count += state.joined[index] >> SOUTH & 1 and state.grid[row + size - 1, col + i] & 15 != WALL
    state.walkable = count
