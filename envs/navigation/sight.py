"""What lies in a cone in front of an agent on a map of `valleys`, by rays that the first obstacle stops.

Where rays go is known beforehand: each is a mask over the cells of the cone, numbered so that numbers rise along each ray. Then
a ray's first obstacle is the lowest bit that it shares with the obstacles.
"""

import math

import numpy as np

from explore_gym.envs.engine import kernel
from explore_gym.envs.navigation.valleys import BLOCKED

WORD = 62  # cells of the cone in a word of bits
SEEN, VISITED = 1, 2  # marks of the map's cells


@kernel
def look(params, state):
    """Compute which cells of the cone are seen, and mark them on the map."""
    words, cells = state.visible.shape[0], params.offsets.shape[1]
    cell, heading = np.int64(state.cell), np.int64(state.heading)
    for word in range(words):
        bits = 0
        for i in range(WORD * word, min(WORD * (word + 1), cells)):
            bits |= (np.int64(state.ground[cell + params.offsets[heading, i]]) & BLOCKED) << i - WORD * word
        state.opaque[word] = bits
    for word in range(words):
        opaque, bits = np.int64(state.opaque[word]), 0
        for ray in range(params.rays.shape[1]):
            stopped = 0
            for before in range(word):
                stopped |= params.rays[before, ray] & state.opaque[before]
            mask = params.rays[word, ray]
            lowest = mask & opaque & -(mask & opaque)
            bits |= mask & (lowest | lowest - 1) if stopped == 0 else 0
        state.visible[word] = bits
    new = 0
    for word in range(words):
        i, bits = WORD * word, np.int64(state.visible[word])
        while bits:
            place = cell + params.offsets[heading, i]
            if bits & 1 and not state.marks[place] & SEEN:
                state.marks[place] |= SEEN
                new += 1 - (np.int64(state.ground[place]) & BLOCKED)
            bits >>= 1
            i += 1
    state.seen += new
    state.stale = False


@kernel
def sees(params, state, forward, right):
    """Whether the cell so many ahead and to the right is in view."""
    side = params.number.shape[1] // 2
    if not (0 <= forward < params.number.shape[0] and -side <= right <= side):
        return False
    i = params.number[forward, right + side]
    return i >= 0 and state.visible[i // WORD] >> i % WORD & 1 == 1


def cast(view_range, view_angle):
    """Cells that may be in view, int64 (cells, 2), ahead and to the right, and the rays as masks of them, int64 (words, rays).

    Cells are in the order of ahead + abs(right), which rises along each ray. Rays lie evenly in the cone, at their ends at most
    a quarter of a cell apart.
    """
    count = 2 * math.ceil(2 * math.radians(view_angle) * view_range)
    angles = [math.radians(view_angle) * ((k + 0.5) / count - 0.5) for k in range(count)]
    paths = [crossed(math.cos(angle), math.sin(angle), view_range) for angle in angles]
    cells = sorted(set().union(*paths), key=lambda cell: (cell[0] + abs(cell[1]), cell))
    rays = np.zeros((-(-len(cells) // WORD), count), np.int64)
    for ray, path in zip(rays.T, paths):
        for i in map(cells.index, path):
            ray[i // WORD] |= 1 << i % WORD
    return np.array(cells), rays


def crossed(ahead, right, length):
    """Cells that a ray from the middle of cell (0, 0) crosses or touches; ahead >= 0, (ahead, right) has length 1."""
    cells, sign = [(0, 0)], 1 if right > 0.0 else -1
    a = r = 0
    while True:
        next_a = (a + 0.5) / ahead if ahead > 1e-9 else math.inf
        next_r = (abs(r) + 0.5) / abs(right) if abs(right) > 1e-9 else math.inf
        if min(next_a, next_r) > length:
            return cells
        if abs(next_a - next_r) < 1e-9:  # through a corner
            cells += [(a + 1, r), (a, r + sign)]
        a, r = a + (next_a <= next_r + 1e-9), r + sign * (next_r <= next_a + 1e-9)
        cells.append((a, r))
