"""Maps of open country: clearings and valleys between ridges, passes that lead through them, and dead ends, drawn by kernels.

The plan of a map is a lattice of tiles. Some blocks of 2x2 tiles are clearings, some chains of tiles are dead ends with a
single entrance, the rest are valleys. Two tiles are joined by a pass, or a ridge parts them:

 - a random spanning tree (Kruskal's law) joins all clearings and valleys, and each dead end to one of them;
 - a valley that would have one pass gets another one, a loop, so that the dead ends that are left are the planned ones.

Ridges of rock are then drawn along the borders of tiles, trees scattered to the density asked for. A tree stands only where the
free cells around it stay connected among themselves, so that it cuts nothing off, and not beside a pass, so that nothing is cut
off either when loops are closed later on.

A map lies in `state.ground`, one byte of bits for each cell, with a margin of blocked cells around it. Cells are numbered in
that array: `cell_at` and `place_of` go from row and column to the number and back.
"""

import math

import numpy as np

from explore_gym.envs.engine import kernel, randint

BLOCKED, ROCK, ROUGH, KEEP, GATE, CLEARING, GOAL, LANDMARK = (1 << bit for bit in range(8))  # KEEP: free of trees
CLOSED, TREE, LOOP, CLOSING, OPEN = range(5)  # borders of two tiles; CLOSING: a loop that is closed later on
VALLEY, DEAD_END = 0, 100  # roles of tiles, with the dead end's number; clearings are 1, 2, ...
MAX_GATE = 8  # cells
MAX_SIZE, MAX_TILES = 128, 16
TRIES = 64  # random cells tried for each tree
EIGHT = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))  # neighbours (row, col) in a circle


def valley_fields(size, margin, tiles, dead_ends, closings):
    """State fields of a map and of its making."""
    area, borders = (size + 2 * margin) ** 2, max(1, 2 * tiles * (tiles - 1))
    return dict(
        ground=(np.uint8, (area,)),
        roles=(np.uint8, (tiles**2,)),
        parent=(np.int16, (tiles**2,)),  # of the union of tiles that are joined
        borders=(np.uint8, (borders,)),
        order=(np.int16, (borders,)),
        heads=(np.int16, (max(1, dead_ends),)),  # the first tile of each dead end,
        entrances=(np.int16, (max(1, dead_ends),)),  # the border that leads into it,
        mouths=(np.int16, (max(1, dead_ends), MAX_GATE)),  # and the cells of that pass, -1 for none
        closing_cells=(np.int16, (max(1, closings) * MAX_GATE,)),
        num_closing=np.int32,
        blocked=np.int32,  # number of obstacles
        queue=(np.int16, (area,)),
    )


def valley_params(size, margin, tiles, density, clearings, dead_ends, dead_end_depth, closings, odd):
    """Parameters of a map, for the kernels below."""
    lines = [k * size // tiles for k in range(tiles + 1)]
    first = [line + 1 if k else 0 for k, line in enumerate(lines[:-1])]  # of a tile, behind the ridge
    last = [line - 1 for line in lines[1:]]
    pitch = size // tiles
    return dict(
        size=size,
        stride=size + 2 * margin,
        margin=margin,
        tiles=tiles,
        first=np.array(first),
        last=np.array(last),
        tile_of=[next((k for k in range(tiles) if first[k] <= i <= last[k]), -1) for i in range(size)],
        gate_low=max(1, pitch // 4),
        gate_high=min(MAX_GATE, max(1, pitch // 2)),
        bend=pitch >= 6,  # ridges wind by a cell to both sides where there is room
        fewest=math.ceil(density[0] * size**2),
        most=math.floor(density[1] * size**2),
        odd=odd,
        few_clearings=clearings[0],
        many_clearings=clearings[1],
        dead_ends=dead_ends,
        dead_end_depth=dead_end_depth,
        chain=chain_length(size, tiles, dead_end_depth),
        closings=closings,
        simple=simple_table(),
    )


def chain_length(size, tiles, dead_end_depth):
    """Tiles of a dead end, enough of them for its depth."""
    return math.ceil(dead_end_depth / (size // tiles)) + 1


def most_walls(size, tiles):
    """What the cells of all ridges can't exceed: all lines, less the passes of a spanning tree."""
    return 2 * (tiles - 1) * size - (tiles - 1) ** 2 - max(1, size // tiles // 4) * (tiles**2 - 1)


def simple_table():
    """uint8 (256,): whether a cell may be blocked, by the bits of its free neighbours in the order of `EIGHT`.

    It may if those of its four neighbours that are free are joined by free cells among the eight, and there is one.
    """
    table = np.zeros(256, np.uint8)
    for bits in range(256):
        free = [bits >> k & 1 for k in range(8)]
        parts = sum(free[k] and not (free[k - 1] and free[k - 2]) for k in (1, 3, 5, 7))
        around = all(free)
        table[bits] = parts == 1 or around
    return table


@kernel
def cell_at(params, row, col):
    return (row + params.margin) * params.stride + col + params.margin


@kernel
def place_of(params, cell):
    """(row, col) of a cell's number."""
    return np.int64(cell) // params.stride - params.margin, np.int64(cell) % params.stride - params.margin


@kernel
def role_of(params, state, cell):
    """The role of the tile in which a cell lies, -1 between tiles: ridges wind, so that it may lie on either side."""
    row, col = place_of(params, cell)
    if params.tile_of[row] < 0 or params.tile_of[col] < 0:
        return np.int64(-1)
    return np.int64(state.roles[params.tile_of[row] * params.tiles + params.tile_of[col]])


@kernel
def draw_country(params, state):
    """Draw a map. Returns False if it came out wrong: to be drawn again."""
    if not plan(params, state):
        return False
    clear_ground(params, state)
    raise_ridges(params, state)
    mark_clearings(params, state)
    return scatter_trees(params, state)


@kernel
def plan(params, state):
    """Decide on the roles of tiles and on the borders between them. Returns False if it leads nowhere."""
    n = params.tiles
    for tile in range(n * n):
        state.roles[tile], state.parent[tile] = VALLEY, tile
    count = 2 * n * (n - 1)
    for border in range(count):
        state.borders[border], state.order[border] = CLOSED, border
    for i in range(count - 1, 0, -1):  # Fisher and Yates
        j = randint(state, i + 1)
        state.order[i], state.order[j] = state.order[j], state.order[i]
    for clearing in range(params.few_clearings + randint(state, params.many_clearings - params.few_clearings + 1)):
        place_clearing(params, state, clearing + 1)
    for number in range(params.dead_ends):
        if not dig(params, state, number):
            return False
    for i in range(count):
        border = np.int64(state.order[i])
        a, b = tiles_at(n, border)
        if state.roles[a] < DEAD_END and state.roles[b] < DEAD_END:
            join(state, a, b, border, TREE)
    for number in range(params.dead_ends):
        if not open_mouth(params, state, number):
            return False
    for tile in range(n * n):
        if root(state, tile) != root(state, 0):
            return False
    close_circles(params, state)
    return True


@kernel
def tiles_at(n, border):
    """The two tiles that a border parts, the first one to the left of or above the other."""
    if border < n * (n - 1):
        tile = border // (n - 1) * n + border % (n - 1)
        return tile, tile + 1
    tile = border - n * (n - 1)
    return tile, tile + n


@kernel
def border_at(n, tile, direction):
    """The border of a tile to the east, south, west or north (0 to 3), -1 at the map's edge."""
    row, col = tile // n, tile % n
    border = np.int64(-1)
    if direction == 0 and col < n - 1:
        border = row * (n - 1) + col
    elif direction == 1 and row < n - 1:
        border = n * (n - 1) + tile
    elif direction == 2 and col > 0:
        border = row * (n - 1) + col - 1
    elif direction == 3 and row > 0:
        border = n * (n - 1) + tile - n
    return border


@kernel
def beyond(n, tile, border):
    """The tile on the other side of its border."""
    a, b = tiles_at(n, border)
    return a + b - tile


@kernel
def root(state, tile):
    """The tile that stands for all that are joined with this one."""
    while state.parent[tile] != tile:
        state.parent[tile] = state.parent[state.parent[tile]]
        tile = np.int64(state.parent[tile])
    return tile


@kernel
def join(state, a, b, border, kind):
    """Open the border of two tiles that aren't joined yet. Returns whether it has."""
    a, b = root(state, a), root(state, b)
    if a == b:
        return False
    state.parent[a] = b
    state.borders[border] = kind
    return True


@kernel
def place_clearing(params, state, number):
    """Make a random block of 2x2 valleys a clearing; the constructor has checked that there always is one."""
    n = params.tiles
    seen, corner = 0, np.int64(-1)
    for row in range(n - 1):
        for col in range(n - 1):
            tile = row * n + col
            upper = state.roles[tile] == VALLEY and state.roles[tile + 1] == VALLEY
            if upper and state.roles[tile + n] == VALLEY and state.roles[tile + n + 1] == VALLEY:
                seen += 1
                if randint(state, seen) == 0:  # each of them is equally likely to be the last one taken
                    corner = tile
    for tile in (corner, corner + 1, corner + n, corner + n + 1):
        state.roles[tile] = number
        state.parent[tile] = corner
    for border in (border_at(n, corner, 0), border_at(n, corner, 1), border_at(n, corner + n, 0), border_at(n, corner + 1, 1)):
        state.borders[border] = OPEN


@kernel
def dig(params, state, number):
    """Make a random chain of valleys a dead end. Returns False where it doesn't get on."""
    n = params.tiles
    tile = randint(state, n * n)
    if state.roles[tile] != VALLEY:
        return False
    state.roles[tile] = DEAD_END + number
    state.heads[number] = tile
    for _ in range(params.chain - 1):
        seen, chosen = 0, np.int64(-1)
        for direction in range(4):
            border = border_at(n, tile, direction)
            if border >= 0 and state.roles[beyond(n, tile, border)] == VALLEY:
                seen += 1
                if randint(state, seen) == 0:
                    chosen = border
        if chosen < 0:
            return False
        other = beyond(n, tile, chosen)
        state.roles[other] = DEAD_END + number
        join(state, tile, other, chosen, TREE)
        tile = other
    return True


@kernel
def open_mouth(params, state, number):
    """Join a dead end's first tile to a random valley or clearing. Returns False if there is none beside it."""
    n, tile = params.tiles, np.int64(state.heads[number])
    seen, chosen = 0, np.int64(-1)
    for direction in range(4):
        border = border_at(n, tile, direction)
        if border >= 0 and state.roles[beyond(n, tile, border)] < DEAD_END:
            seen += 1
            if randint(state, seen) == 0:
                chosen = border
    if chosen < 0:
        return False
    state.entrances[number] = chosen
    return join(state, tile, beyond(n, tile, chosen), chosen, TREE)


@kernel
def num_passes(params, state, tile):
    count = 0
    for direction in range(4):
        border = border_at(params.tiles, tile, direction)
        count += border >= 0 and state.borders[border] != CLOSED
    return count


@kernel
def close_circles(params, state):
    """Give valleys with one pass another one, in random order. The first of these loops are those that are closed later."""
    n, loops = params.tiles, 0
    for i in range(2 * n * (n - 1)):
        border = np.int64(state.order[i])
        a, b = tiles_at(n, border)
        if state.borders[border] == CLOSED and state.roles[a] < DEAD_END and state.roles[b] < DEAD_END:
            nook_a = state.roles[a] == VALLEY and num_passes(params, state, a) == 1
            nook_b = state.roles[b] == VALLEY and num_passes(params, state, b) == 1
            if nook_a or nook_b:
                state.borders[border] = CLOSING if loops < params.closings else LOOP
                loops += 1


@kernel
def clear_ground(params, state):
    for cell in range(state.ground.shape[0]):
        state.ground[cell] = BLOCKED
    for row in range(params.size):
        start = cell_at(params, row, 0)
        for cell in range(start, start + params.size):
            state.ground[cell] = 0
    state.blocked, state.num_closing = 0, 0
    for number in range(state.mouths.shape[0]):
        for i in range(MAX_GATE):
            state.mouths[number, i] = -1


@kernel
def starts_clearing(params, state, tile):
    """Whether a tile is the upper left one of a clearing's four."""
    n, number = params.tiles, state.roles[tile]
    if tile % n == n - 1 or tile // n == n - 1 or not VALLEY < number < DEAD_END:
        return False
    return state.roles[tile + 1] == number and state.roles[tile + n] == number and state.roles[tile + n + 1] == number


@kernel
def mark_clearings(params, state):
    """Mark the ellipse within each block of 2x2 tiles."""
    n = params.tiles
    for tile in range(n * n):
        if starts_clearing(params, state, tile):
            top, bottom = params.first[tile // n], params.last[tile // n + 1]
            left, right = params.first[tile % n], params.last[tile % n + 1]
            for row in range(top, bottom + 1):
                for col in range(left, right + 1):
                    y = (2 * row - top - bottom) / (bottom - top + 1)
                    x = (2 * col - left - right) / (right - left + 1)
                    cell = cell_at(params, row, col)
                    if x * x + y * y <= 1.0 and not state.ground[cell] & BLOCKED:
                        state.ground[cell] |= CLEARING | KEEP


@kernel
def block(state, cell, bits):
    """Put an obstacle on a cell, unless there is one."""
    if not state.ground[cell] & BLOCKED:
        state.ground[cell] |= BLOCKED | bits
        state.blocked += 1


@kernel
def raise_ridges(params, state):
    n = params.tiles
    for tile in range(n * n):  # the posts where ridges meet, below and to the right of a tile
        row, col = tile // n, tile % n
        if row < n - 1 and col < n - 1 and not starts_clearing(params, state, tile):
            block(state, cell_at(params, params.last[row] + 1, params.last[col] + 1), ROCK)
    for border in range(2 * n * (n - 1)):
        if state.borders[border] != OPEN:
            raise_ridge(params, state, border)
    for row in range(n - 1):
        for col in range(n - 1):
            fill_pockets(params, state, cell_at(params, params.last[row] + 1, params.last[col] + 1))


@kernel
def fill_pockets(params, state, post):
    """Block the cells around a post that winding ridges shut in, or would if passes were closed."""
    for down in range(-1, 2):
        for right in range(-1, 2):
            cell = post + down * params.stride + right
            shut = is_ridge(state, cell + 1) and is_ridge(state, cell - 1)
            shut = shut and is_ridge(state, cell + params.stride) and is_ridge(state, cell - params.stride)
            if shut and not is_ridge(state, cell):
                block(state, cell, ROCK)


@kernel
def is_ridge(state, cell):
    return state.ground[cell] & (BLOCKED | GATE) > 0


@kernel
def raise_ridge(params, state, border):
    """Draw the ridge of two tiles, with its pass. It may wind; cells that touch at a corner part what lies on both sides."""
    n, kind = params.tiles, state.borders[border]
    a, b = tiles_at(n, border)
    upright = b == a + 1
    across = a % n if upright else a // n
    along = a // n if upright else a % n
    line, low, high = params.last[across] + 1, params.first[along], params.last[along]
    gate, width = high + 1, 0
    if kind != CLOSED:
        width = params.gate_low + randint(state, params.gate_high - params.gate_low + 1)
        room = 1 if params.bend else 0  # other ridges may bend as far
        gate = low + room + randint(state, high - low + 2 - width - 2 * room)
    offset = randint(state, 3) - 1 if params.bend else 0
    for position in range(low, high + 1):
        cell = cell_at(params, position, line + offset) if upright else cell_at(params, line + offset, position)
        if gate <= position < gate + width:
            open_cell(params, state, cell, border, position - gate)
        else:
            block(state, cell, ROCK)
        if params.bend:
            offset = min(max(offset + randint(state, 3) - 1, -1), 1)


@kernel
def open_cell(params, state, cell, border, number):
    """Keep a cell of a pass and those around it free of trees."""
    state.ground[cell] |= GATE
    for down in range(-1, 2):
        for right in range(-1, 2):
            state.ground[cell + down * params.stride + right] |= KEEP
    if state.borders[border] == CLOSING:
        state.closing_cells[state.num_closing] = cell
        state.num_closing += 1
    for dead_end in range(params.dead_ends):
        if state.entrances[dead_end] == border:
            state.mouths[dead_end, number] = cell


@kernel
def is_simple(params, state, cell):
    """Whether blocking this cell leaves the free cells around it connected."""
    s, bits = params.stride, 0
    bits |= 1 - (state.ground[cell - s - 1] & 1)
    bits |= (1 - (state.ground[cell - s] & 1)) << 1
    bits |= (1 - (state.ground[cell - s + 1] & 1)) << 2
    bits |= (1 - (state.ground[cell + 1] & 1)) << 3
    bits |= (1 - (state.ground[cell + s + 1] & 1)) << 4
    bits |= (1 - (state.ground[cell + s] & 1)) << 5
    bits |= (1 - (state.ground[cell + s - 1] & 1)) << 6
    bits |= (1 - (state.ground[cell - 1] & 1)) << 7
    return params.simple[bits] == 1


@kernel
def scatter_trees(params, state):
    """Plant trees up to a random number of obstacles, odd or even as asked. Returns False if there is no room for them."""
    least = max(params.fewest, np.int64(state.blocked))
    if least >= params.most:
        return False
    wanted = least + randint(state, params.most - least + 1)
    if wanted % 2 != params.odd:
        wanted += 1 if wanted < params.most else -1
    for _ in range(TRIES * wanted):
        if state.blocked == wanted:
            return True
        cell = random_cell(params, state)
        if not state.ground[cell] & (BLOCKED | KEEP) and is_simple(params, state, cell):
            block(state, cell, 0)
    return False


@kernel
def random_cell(params, state):
    row = randint(state, params.size)
    return cell_at(params, row, randint(state, params.size))


@kernel
def roughen(params, state, share):
    """Cover a share of the map with rough patches; obstacles within them count."""
    wanted, covered = share * params.size**2, 0
    while covered < wanted:
        row, col, radius = randint(state, params.size), randint(state, params.size), 1 + randint(state, 3)
        for down in range(max(-radius, -row), min(radius, params.size - 1 - row) + 1):
            for right in range(max(-radius, -col), min(radius, params.size - 1 - col) + 1):
                cell = cell_at(params, row + down, col + right)
                if down * down + right * right <= radius * radius + 1 and not state.ground[cell] & ROUGH:
                    state.ground[cell] |= ROUGH
                    covered += 1


@kernel
def flood(params, state, distances, start, end):
    """Breadth-first search from the cells queue[start:end]: moves to each cell, int16, -1 where no way leads.

    Returns the number of cells reached.
    """
    for cell in range(distances.shape[0]):
        distances[cell] = -1
    for i in range(start, end):
        distances[state.queue[i]] = 0
    stride = params.stride
    while start < end:
        cell = np.int64(state.queue[start])
        start += 1
        further = np.int64(distances[cell]) + 1
        for neighbour in (cell + 1, cell + stride, cell - 1, cell - stride):
            if distances[neighbour] < 0 and not state.ground[neighbour] & BLOCKED:
                distances[neighbour] = further
                state.queue[end] = neighbour
                end += 1
    return end


@kernel
def shallowest(params, state, distances):
    """The depth of the shallowest dead end, at least: moves to its deepest cell, less those to its farthest entrance cell.

    `distances` are those from a cell outside all dead ends. Without dead ends, a large number.
    """
    least = 1 << 14
    for number in range(params.dead_ends):
        mouth, deepest = 0, 0
        for i in range(MAX_GATE):
            if state.mouths[number, i] >= 0:
                mouth = max(mouth, np.int64(distances[state.mouths[number, i]]))
        for tile in range(params.tiles**2):
            if state.roles[tile] == DEAD_END + number:
                deepest = max(deepest, farthest_in(params, distances, tile))
        least = min(least, deepest - mouth)
    return least


@kernel
def farthest_in(params, distances, tile):
    """The largest distance within a tile."""
    row, col = tile // params.tiles, tile % params.tiles
    most = 0
    for r in range(params.first[row], params.last[row] + 1):
        start = cell_at(params, r, 0)
        for cell in range(start + params.first[col], start + params.last[col] + 1):
            most = max(most, np.int64(distances[cell]))
    return most
