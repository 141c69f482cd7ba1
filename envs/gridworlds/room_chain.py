"""A chain of rooms, each entered through a door from the one before: the law of Minigrid's MultiRoom, as kernels.

A state with such a chain has the field `rooms`, ROOM numbers for each room, in the order of the chain.
"""

import numpy as np

from explore_gym.envs.engine import kernel, randint
from explore_gym.envs.gridworlds.grid import EAST, SOUTH, WEST

TOP, LEFT, HEIGHT, WIDTH, DOOR_ROW, DOOR_COL = range(6)  # of a room, walls included, and of the door that leads into it
ROOM = 6
MIN_ROOM = 4  # cells along a side of the smallest room
CHAIN_TRIES = 2000  # chains that are begun before a shorter one has to do
EXIT_TRIES = 8  # places tried for the room behind a room


def chain_field(num_rooms):
    """The type of the state's field `rooms`."""
    return np.int32, (num_rooms, ROOM)


def most_rooms(size, max_size):
    """How many rooms a chain in a square grid may have: about one in 25 chains begun gets as long, or more."""
    return max(1, min(16, 2 * size**2 // (MIN_ROOM + max_size) ** 2))


@kernel
def chain_rooms(state, num_rooms, max_size):
    """Draw `state.rooms`. Returns their number, num_rooms unless so many hardly fit."""
    count = 0
    for attempt in range(2 * CHAIN_TRIES):
        count = grow_chain(state, num_rooms, max_size)
        if count == num_rooms or (attempt >= CHAIN_TRIES and count > 0):
            break
    return count


@kernel
def grow_chain(state, num_rooms, max_size):
    """Begin a chain and add rooms until one finds no place. Returns their number."""
    width = state.grid.shape[1]
    entry, col, row = WEST, randint(state, width - 2), randint(state, width - 2)
    if not add_room(state, 0, max_size, entry, row, col):
        return 0
    count = 1
    while count < num_rooms:
        top, left = np.int64(state.rooms[count - 1, TOP]), np.int64(state.rooms[count - 1, LEFT])
        bottom, right = top + state.rooms[count - 1, HEIGHT] - 1, left + state.rooms[count - 1, WIDTH] - 1
        placed = False
        for _ in range(EXIT_TRIES):
            leave = (entry + 1 + randint(state, 3)) & 3
            if leave in (EAST, WEST):
                row, col = top + 1 + randint(state, bottom - top - 1), right if leave == EAST else left
            else:
                row, col = bottom if leave == SOUTH else top, left + 1 + randint(state, right - left - 1)
            if add_room(state, count, max_size, (leave + 2) & 3, row, col):
                entry, placed = (leave + 2) & 3, True
                break
        if not placed:
            break
        count += 1
    return count


@kernel
def add_room(state, index, max_size, entry, row, col):
    """Try a room of random size with the door (row, col) in its wall `entry`. Returns whether it has a place."""
    width = MIN_ROOM + randint(state, max_size - MIN_ROOM + 1)
    height = MIN_ROOM + randint(state, max_size - MIN_ROOM + 1)
    top, left = row, col
    if index > 0:
        if entry in (EAST, WEST):
            top = row - height + 2 + randint(state, height - 2)
            left = col - width + 1 if entry == EAST else col
        else:
            left = col - width + 2 + randint(state, width - 2)
            top = row - height + 1 if entry == SOUTH else row
    if top < 0 or left < 0 or left + width > state.grid.shape[1] or top + height >= state.grid.shape[0]:
        return False
    for i in range(index - 1):  # the room before shares a wall
        other_top, other_left = np.int64(state.rooms[i, TOP]), np.int64(state.rooms[i, LEFT])
        apart = left + width < other_left or other_left + state.rooms[i, WIDTH] <= left
        if not (apart or top + height < other_top or other_top + state.rooms[i, HEIGHT] <= top):
            return False
    state.rooms[index, TOP], state.rooms[index, LEFT] = top, left
    state.rooms[index, HEIGHT], state.rooms[index, WIDTH] = height, width
    state.rooms[index, DOOR_ROW], state.rooms[index, DOOR_COL] = row, col
    return True


@kernel
def bounds(state, i):
    """(top, left, height, width) of room i, walls included."""
    rooms = state.rooms
    return np.int64(rooms[i, TOP]), np.int64(rooms[i, LEFT]), np.int64(rooms[i, HEIGHT]), np.int64(rooms[i, WIDTH])
