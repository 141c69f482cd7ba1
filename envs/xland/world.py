"""The world of XLand: rooms, doors, things with a shape and a colour, and agents that act at the same time.

A cell is one uint16: the tile on it, kind (bits 0-3) and colour (4-7); the colour of the floor beneath (8-11); the number of
the agent that stands on it, plus 1 (12-14); and whether it blocks the sight (15). A tile alone is the low byte. Kinds,
colours, directions and actions have the numbers of XLand-MiniGrid's first versions. Positions are (row, col).

A step is fair: it knows no order of the agents. Each of them turns or acts on the cell ahead, as that cell was at the start
of the step. An agent moves to a cell that nobody stands on, not even one who is leaving it. Where several agents would
change the same cell (by moving there, picking up, putting down or toggling), none of them does anything.

Source: Nikulin et al., "XLand-MiniGrid: Scalable Meta-Reinforcement Learning Environments in JAX" (2023, arXiv:2312.12044).
"""

import numpy as np

from explore_gym.envs.engine import kernel, randint, state_dtype

EMPTY, END_OF_MAP, UNSEEN, FLOOR, WALL, BALL, SQUARE, PYRAMID, GOAL, KEY, LOCKED, CLOSED, OPEN, AGENT = range(14)
RED, GREEN, BLUE, PURPLE, YELLOW, GREY, BLACK, ORANGE, WHITE = range(3, 12)
UP, RIGHT, DOWN, LEFT = range(4)  # directions; + 1 is a turn to the right
FORWARD, TURN_RIGHT, TURN_LEFT, PICK_UP, PUT_DOWN, TOGGLE = range(6)  # actions
NUM_ACTIONS = 6

OPAQUE = 1 << 15
PLAIN_FLOOR = FLOOR | BLACK << 4 | BLACK << 8
GREY_WALL = WALL | GREY << 4 | BLACK << 8 | OPAQUE
OUTSIDE = END_OF_MAP | END_OF_MAP << 4
HIDDEN = UNSEEN | UNSEEN << 4
WALKABLE = 1 << FLOOR | 1 << GOAL | 1 << OPEN
PICKABLE = 1 << BALL | 1 << SQUARE | 1 << PYRAMID | 1 << KEY
THINGS = PICKABLE | 1 << GOAL
LAYOUTS = (1, 2, 4, 6, 9)  # rooms
TEAMS = (RED, BLUE, GREEN, YELLOW)  # colours of agents
MAX_AGENTS = len(TEAMS)
MAX_OPTIONS, MAX_PREDICATES = 3, 3  # of a goal; predicates of each option
MAX_EVENTS = 16  # in a step: what happens to cells and pockets, production included
PLACE_TRIES = 32  # random cells that `place` looks at before it counts the free ones


def world_state(height, width, view_size, agents, max_rules, max_objects, **fields):
    """The dtype of a world's state: cells, agents, the tables of rules and goals, what holds, metrics, and further fields."""
    return state_dtype(
        grid=(np.uint16, (height, width)),
        row=(np.int32, (agents,)),
        col=(np.int32, (agents,)),
        direction=(np.int32, (agents,)),
        pocket=(np.uint8, (agents,)),  # the tile carried, EMPTY if there is none
        team=(np.uint8, (agents,)),  # colour
        rules=(np.uint8, (max_rules, 4)),  # kind, inputs a and b, product: see `logic`
        num_rules=np.int32,
        objects=(np.uint8, (max_objects,)),  # tiles that each trial begins with
        num_objects=np.int32,
        goals=(np.uint16, (agents, MAX_OPTIONS, MAX_PREDICATES, 4)),  # kind, negated, a, b: see `logic`
        truth=(np.int8, (agents, MAX_OPTIONS, MAX_PREDICATES)),  # of each predicate: 0 or 1, -1 where there is none
        options=(np.int8, (agents, MAX_OPTIONS)),  # of each option
        success=(np.uint8, (agents,)),  # whether the agent's goal holds
        reached=(np.uint8, (agents,)),  # whether it did after the last step, before a new trial began,
        option_rewards=(np.float64, (agents, MAX_OPTIONS)),  # what each option alone paid then,
        rewards=(np.float64, (agents,)),  # and what the goal paid
        task=np.int64,  # index, -1 if there is none
        trial=np.int32,
        trial_start=np.int32,  # the step that the trial began after
        trial_end=np.bool_,  # whether the last step ended a trial
        solved=np.int32,  # trials in which a goal was reached
        image=(np.uint8, (agents, 2 * view_size**2)),  # what each agent sees
        stale=np.bool_,  # the whole of what is computed from the fields above is out of date,
        moved=np.bool_,  # or what depends on agents,
        stirred=np.bool_,  # or on things
        action=(np.int32, (agents,)),
        target=(np.int32, (agents,)),  # the cell that an agent is about to change, -1 if none
        events=(np.int32, (MAX_EVENTS,)),  # a cell's index where something came to be, number of cells + agent for a pocket
        num_events=np.int32,
        visits=(np.uint8, (height * width,)),  # in this episode: bit i for agent i
        visited=(np.int32, (agents,)),  # distinct cells
        walkable=np.int32,  # cells that one can stand on when nothing lies there
        **fields,
    )


# Metrics, and what is computed from other fields
DERIVED = (
    "truth", "options", "success", "reached", "option_rewards", "rewards", "task", "trial_end", "solved", "image", "stale",
    "moved", "stirred",
    "action", "target", "events", "num_events", "visits", "visited", "walkable",
)  # fmt: skip


@kernel
def tile(kind, color):
    """The code of a tile."""
    return kind | color << 4


@kernel
def cover(code, new):
    """A cell with another tile on its floor; a floor without colour lets the old floor appear, one with colour replaces it."""
    ground = code >> 8 & 15
    if new & 15 == FLOOR:
        ground = ground if new >> 4 == BLACK else new >> 4
        new = tile(FLOOR, ground)
    kind = new & 15
    opaque = OPAQUE if kind in (WALL, CLOSED, LOCKED) else 0
    return new | ground << 8 | opaque


@kernel
def row_step(direction):
    return np.int64(direction == DOWN) - np.int64(direction == UP)


@kernel
def col_step(direction):
    return np.int64(direction == RIGHT) - np.int64(direction == LEFT)


@kernel
def cell_at(state, row, col):
    """The code of a cell; of a wall beyond the grid."""
    if row < 0 or col < 0 or row >= state.grid.shape[0] or col >= state.grid.shape[1]:
        return GREY_WALL
    return np.int64(state.grid[row, col])


@kernel
def build(params, state):
    """Rooms and doors of random colours, nothing in them: XLand-MiniGrid's R1, R2, R4, R6 and R9."""
    height, width = state.grid.shape
    rooms, middle, centre = params.rooms, height // 2, width // 2
    down, across = height // 3, width // 3
    count = 0
    for r in range(height):
        for c in range(width):
            solid = r == 0 or c == 0 or r == height - 1 or c == width - 1
            if rooms == 2 or rooms == 4:
                solid = solid or c == centre or (rooms == 4 and r == middle)
            elif rooms == 6:
                solid = solid or abs(c - centre) == 2 or (abs(c - centre) > 2 and (r == down or r == 2 * down))
            elif rooms == 9:
                solid = solid or r == down or r == 2 * down or c == across or c == 2 * across
            state.grid[r, c] = GREY_WALL if solid else PLAIN_FLOOR
            count += 0 if solid else 1
    doors = (0, 0, 1, 0, 4, 0, 6, 0, 0, 12)[rooms]
    for k in range(doors):
        if rooms == 2:
            r, c = 1 + randint(state, height - 2), centre
        elif rooms == 4:  # left, right, above and below the middle
            after = k % 2 * (height - height // 2 - 2 - (height // 2 - 1))  # cells that the second half has more
            spot = 1 + k % 2 * middle + randint(state, middle - 1 + after)
            r, c = (middle, spot) if k < 2 else (spot, centre)
        elif rooms == 6:
            r, c = middle + (k // 2 - 1) * down, centre + (2 if k % 2 else -2)
        else:  # to the right of each room, then below each
            i, j = k // 3, k % 3
            if k < 6:
                r, c = j * down + 1 + randint(state, down - 1), (i + 1) * across
            else:
                r, c = (i - 1) * down, j * across + 1 + randint(state, across - 1)
        color = RED + randint(state, 6)
        kind = OPEN if params.open_doors else CLOSED
        state.grid[r, c] = tile(kind, color) | BLACK << 8 | (0 if params.open_doors else OPAQUE)
    state.walkable = count + doors


@kernel
def is_free(state, row, col):
    """Whether there is nothing but plain floor."""
    return state.grid[row, col] == PLAIN_FLOOR


@kernel
def is_roomy(state, row, col):
    """Whether a cell of plain floor has no thing, door or agent beside it."""
    if state.grid[row, col] != PLAIN_FLOOR:
        return False
    for d in range(4):
        code = cell_at(state, row + row_step(d), col + col_step(d))
        if code & 15 != WALL and (code & 15 != FLOOR or code >> 12 & 7):
            return False
    return True


@kernel
def find_cell(state, row, col, height, width):
    """The index of a random roomy cell in a rectangle, of any free one if it finds none; -1 if no cell is free."""
    columns = state.grid.shape[1]
    for _ in range(PLACE_TRIES):
        r, c = row + randint(state, height), col + randint(state, width)
        if is_roomy(state, r, c):
            return r * columns + c
    free = 0
    for r in range(row, row + height):
        for c in range(col, col + width):
            free += is_free(state, r, c)
    if free > 0:
        left = randint(state, free)
        for r in range(row, row + height):
            for c in range(col, col + width):
                if is_free(state, r, c):
                    if left == 0:
                        return r * columns + c
                    left -= 1
    return -1


@kernel
def place(state, new, row, col, height, width):
    """Put a tile on a random free cell of a rectangle. Returns the cell's index, or -1 if no cell is free."""
    index = find_cell(state, row, col, height, width)
    if index >= 0:
        state.grid[index // state.grid.shape[1], index % state.grid.shape[1]] = cover(PLAIN_FLOOR, np.int64(new))
    return index


@kernel
def place_agent(state, i, row, col, height, width):
    """Put an agent on a random free cell of a rectangle, in a random direction, with an empty pocket."""
    index = find_cell(state, row, col, height, width)
    state.row[i], state.col[i] = index // state.grid.shape[1], index % state.grid.shape[1]
    state.direction[i] = randint(state, 4)
    state.pocket[i] = EMPTY
    state.grid[state.row[i], state.col[i]] |= (i + 1) << 12


@kernel
def visit(state, i):
    """Count the cell of an agent among those that it has been to."""
    index = np.int64(state.row[i]) * state.grid.shape[1] + np.int64(state.col[i])
    if not state.visits[index] >> i & 1:
        state.visits[index] |= 1 << i
        state.visited[i] += 1


@kernel
def push(state, event):
    """Note that something came to be in a cell or a pocket; a step has room for MAX_EVENTS of that."""
    if state.num_events < MAX_EVENTS:
        state.events[state.num_events] = event
        state.num_events += 1


@kernel
def aim(state, i):
    """Turn, or find the cell that the agent is about to change: `state.target`, -1 if its action has no effect."""
    action = state.action[i]
    state.target[i] = -1
    if action in (TURN_RIGHT, TURN_LEFT):
        state.direction[i] = (state.direction[i] + (1 if action == TURN_RIGHT else 3)) & 3
        state.moved = True
        return
    row = np.int64(state.row[i]) + row_step(state.direction[i])
    col = np.int64(state.col[i]) + col_step(state.direction[i])
    code = cell_at(state, row, col)
    if code >> 12 & 7:
        return
    kind, pocket = code & 15, np.int64(state.pocket[i])
    if action == FORWARD:
        effect = WALKABLE >> kind & 1 == 1
    elif action == PICK_UP:
        effect = pocket == EMPTY and PICKABLE >> kind & 1 == 1
    elif action == PUT_DOWN:
        effect = pocket != EMPTY and kind == FLOOR
    else:
        effect = kind in (OPEN, CLOSED) or (kind == LOCKED and pocket == tile(KEY, code >> 4 & 15))
    if effect:
        state.target[i] = row * state.grid.shape[1] + col


@kernel
def change(state, i):
    """Do what the agent has aimed at."""
    height, width = state.grid.shape
    index = np.int64(state.target[i])
    row, col = index // width, index % width
    code = np.int64(state.grid[row, col])
    action = state.action[i]
    state.moved = True
    if action == FORWARD:
        state.grid[state.row[i], state.col[i]] &= ~(7 << 12) & 0xFFFF
        state.grid[row, col] = code | (i + 1) << 12
        state.row[i], state.col[i] = row, col
        visit(state, i)
        push(state, index)
        return
    if action == PICK_UP:
        state.pocket[i] = code & 255
        state.grid[row, col] = cover(code, tile(FLOOR, BLACK))
        push(state, height * width + i)
    elif action == PUT_DOWN:
        state.grid[row, col] = cover(code, np.int64(state.pocket[i]))
        state.pocket[i] = EMPTY
        push(state, index)
    else:
        state.grid[row, col] = cover(code, tile(CLOSED if code & 15 == OPEN else OPEN, code >> 4 & 15))
    state.stirred = True


@kernel
def act(state):
    """All agents' actions at once, `state.action`."""
    agents = state.row.shape[0]
    for i in range(agents):
        aim(state, i)
    for i in range(agents):
        if state.target[i] >= 0:
            alone = True
            for j in range(agents):
                alone = alone and (j == i or state.target[j] != state.target[i])
            if alone:
                change(state, i)


@kernel
def encode(image, at, code):
    """Write a tile's kind and colour to image[at : at + 2]."""
    image[at] = code & 15
    image[at + 1] = code >> 4 & 15


@kernel
def look(params, state, i):
    """Write what agent i sees to `state.image`, uint8 (v, v, 2) flattened: [y, x] is y cells from the far end, x from the left.

    The agent stands in the middle of the near end, and sees there the tile that it stands on. Another agent has the kind
    AGENT, + 1 if it looks to the right as seen from here, + 2 if this way, + 3 if to the left, and its team's colour.
    Sight spreads as in `gridworlds.grid.look`: row by row, a row being a bit mask over its cells.
    """
    v = params.view_columns.shape[0]  # its length is part of the type: the compiler unrolls the loops
    half, full = v // 2, (1 << v) - 1
    grid, image = state.grid, state.image[i]
    height, width = grid.shape
    agents = state.row.shape[0]
    row, col, direction = np.int64(state.row[i]), np.int64(state.col[i]), np.int64(state.direction[i])
    down, east = row_step(direction), col_step(direction)  # one step ahead; a step to the right is (east, -down)
    ahead = (row, width - 1 - col, height - 1 - row, col)[direction]  # cells up to the grid's edge
    right = min(half, (width - 1 - col, height - 1 - row, col, row)[direction])
    left = min(half, (col, row, width - 1 - col, height - 1 - row)[direction])
    inside = ((1 << left + right + 1) - 1) << half - left  # columns within the grid
    lit = full if params.see_through_walls else 1 << half
    for distance in range(v):
        if distance > ahead:
            inside = 0
        r = row + min(distance, ahead) * down  # indices stay within the grid; what was read from elsewhere is masked out
        c = col + min(distance, ahead) * east
        opaque = 0
        at = 2 * v * (v - 1 - distance)
        for x in range(v):
            side = min(max(x - half, -left), right)
            code = np.int64(grid[np.uint64(r + side * east), np.uint64(c - side * down)])
            opaque |= code >> 15 << x
            encode(image, at + 2 * x, code)
            if agents > 1:
                other = code >> 12 & 7
                if other and other != i + 1:
                    image[at + 2 * x] = AGENT + (np.int64(state.direction[other - 1]) - direction & 3)
                    image[at + 2 * x + 1] = state.team[other - 1]
        clear_cells = inside & ~opaque
        source = lit & clear_cells
        source |= (clear_cells + source ^ clear_cells) & clear_cells  # a carry runs to the end of each run of clear cells
        run, shift = clear_cells, 1
        while shift < v:  # and back, in doubling steps
            source |= run & source >> shift
            run &= run >> shift
            shift <<= 1
        beyond = (source | source << 1 | source >> 1) & full
        lit |= beyond
        hidden, outside = ~lit & full, lit & ~inside
        if hidden | outside:
            for x in range(v):
                if hidden >> x & 1:
                    encode(image, at + 2 * x, HIDDEN)
                elif outside >> x & 1:
                    encode(image, at + 2 * x, OUTSIDE)
        lit = full if params.see_through_walls else beyond


@kernel
def sees(params, state, i, j):
    """Whether agent i sees agent j."""
    v = params.view_columns.shape[0]
    down, east = row_step(state.direction[i]), col_step(state.direction[i])
    rows, cols = np.int64(state.row[j]) - state.row[i], np.int64(state.col[j]) - state.col[i]
    ahead, side = rows * down + cols * east, rows * east - cols * down
    if ahead < 0 or ahead >= v or abs(side) > v // 2:
        return False
    return state.image[i, 2 * (v * (v - 1 - ahead) + side + v // 2)] >= AGENT
