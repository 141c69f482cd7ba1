"""The grid core: Minigrid's world as a vocabulary of kernels, in which the gridworlds are written.

A cell is one uint16: object (bits 0-3), colour (4-6) and state (7-8) with Minigrid's numbers, a box's contents (object 9-10,
colour 11-13), and whether it blocks the sight (15). Positions are (row, col), Minigrid's (y, x). A layout is drawn like this:

    word = begin(params, state)                        # an empty grid; the random stream of the context, if there are any
    room(state, 0, 0, 9, 9)                            # walls around
    vertical_wall(state, 0, 4, 9)
    state.grid[3, 4] = cell(DOOR, YELLOW, LOCKED)
    place(state, cell(KEY, YELLOW), 0, 0, 9, 4)        # at random, to the left of the wall
    place_agent(state, 0, 0, 9, 4)
    finish(state, word)

Source: Chevalier-Boisvert et al., "Minigrid & Miniworld" (NeurIPS 2023), whose package is the reference in our tests.
"""

import functools

import numpy as np
from gymnasium import spaces

from explore_gym.envs.engine import KernelEnv, kernel, randint, seed_stream, state_dtype
from explore_gym.envs.engine.random import GAMMA, mix

UNSEEN, EMPTY, WALL, FLOOR, DOOR, KEY, BALL, BOX, GOAL, LAVA, AGENT = range(11)
RED, GREEN, BLUE, PURPLE, YELLOW, GREY = range(6)
OPEN, CLOSED, LOCKED = range(3)  # states of a door
TURN_LEFT, TURN_RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(7)  # actions
EAST, SOUTH, WEST, NORTH = range(4)  # directions; + 1 is a turn to the right

OPAQUE = 1 << 15
GREY_WALL = WALL | GREY << 4 | OPAQUE
GREEN_GOAL = GOAL | GREEN << 4
RED_LAVA = LAVA | RED << 4
ENTERABLE = 1 << EMPTY | 1 << FLOOR | 1 << DOOR | 1 << GOAL | 1 << LAVA  # objects one can stand on, a door unless OPAQUE
U40 = np.uint64(40)
PLACE_TRIES = 64  # random cells that `free_cell` tries before it counts the free ones
MAX_SIZE, MAX_VIEW = 255, 31  # cells


def grid_state(height, width, view_size, **fields):
    """The dtype of a gridworld's state: grid, pose, what is carried, the mission's index, metrics, and further fields.

    `image` is what the agent saw last, kept because many actions change nothing. Whoever writes into `grid` or changes the
    pose sets `stale`, as the kernels below do, and the engine where a state is assigned by name.
    """
    return state_dtype(
        grid=(np.uint16, (height, width)),
        image=(np.uint8, (3 * view_size**2,)),
        stale=np.bool_,
        row=np.int32,
        col=np.int32,
        direction=np.int32,
        carrying=np.uint16,  # the cell code of the object carried, EMPTY if there is none
        mission=np.int32,
        success=np.bool_,
        visited=np.int32,  # distinct cells in this episode
        walkable=np.int32,  # cells one can stand on
        first_visits=(np.int32, (height * width,)),  # the step of this episode that reached each cell first, -1 if none did
        context=np.int32,  # index of the layout, -1 if it was drawn afresh
        **fields,
    )


@kernel
def cell(kind, color=0, state=0):
    """The code of an object."""
    code = kind | color << 4 | state << 7
    if kind == WALL or (kind == DOOR and state != OPEN):
        code |= OPAQUE
    return code


@kernel
def box(color, contents):
    """The code of a box around a key, a ball or an empty box, given by its code, or around nothing (EMPTY)."""
    kind = contents & 15
    inside = 0 if kind == EMPTY else (kind - KEY + 1) << 9 | (contents >> 4 & 7) << 11
    return BOX | color << 4 | inside


@kernel
def unbox(code):
    """The code of what a box holds."""
    inside = code >> 9 & 3
    return EMPTY if inside == 0 else (inside + KEY - 1) | (code >> 11 & 7) << 4


@kernel
def clear(state):
    """An empty grid without an agent, nothing carried, nothing visited, mission 0."""
    height, width = state.grid.shape
    for row in range(height):
        for col in range(width):
            state.grid[row, col] = EMPTY
    for index in range(state.first_visits.shape[0]):
        state.first_visits[index] = -1
    state.row, state.col, state.direction = -1, -1, EAST
    state.carrying, state.mission, state.visited, state.success = EMPTY, 0, 0, False
    state.stale = True


@kernel
def begin(params, state):
    """An empty grid. Where there are contexts, the layout's draws come from the stream of one picked at random.

    Returns the random word for `finish`.
    """
    clear(state)
    state.context = -1
    if params.num_contexts > 0:
        state.context = randint(state, params.num_contexts)
    word = state.rng
    if params.num_contexts > 0:
        seed_stream(state, params.layout_seed, state.context)
    return word


@kernel
def finish(state, word):
    """Leaves the context's stream, counts the cells one can stand on (neither wall nor lava) and the first visit."""
    if state.context >= 0:
        state.rng = word
    count = 0
    height, width = state.grid.shape
    for row in range(height):
        for col in range(width):
            kind = state.grid[row, col] & 15
            count += kind != WALL and kind != LAVA
    state.walkable = count
    visit(state)


@kernel
def fill(state, row, col, height, width, code):
    """Fill a rectangle."""
    state.stale = True
    for r in range(row, row + height):
        for c in range(col, col + width):
            state.grid[r, c] = code


@kernel
def horizontal_wall(state, row, col, length):
    """A wall from (row, col) to the right."""
    fill(state, row, col, 1, length, GREY_WALL)


@kernel
def vertical_wall(state, row, col, length):
    """A wall from (row, col) downwards."""
    fill(state, row, col, length, 1, GREY_WALL)


@kernel
def room(state, row, col, height, width):
    """Walls along the inside of a rectangle's border."""
    horizontal_wall(state, row, col, width)
    horizontal_wall(state, row + height - 1, col, width)
    vertical_wall(state, row, col, height)
    vertical_wall(state, row, col + width - 1, height)


@kernel
def choose(state, n, excluded):
    """A random one of 0..n-1 whose bit isn't set in `excluded`, all equally likely; -1 if there is none."""
    left = 0
    for i in range(n):
        left += 1 - (excluded >> i & 1)
    if left > 0:
        left = randint(state, left)
        for i in range(n):
            if not excluded >> i & 1:
                if left == 0:
                    return i
                left -= 1
    return -1


@kernel
def is_free(state, row, col):
    """Whether a cell is empty and not the agent's."""
    return state.grid[row, col] == EMPTY and not (row == state.row and col == state.col)


@kernel
def free_cell(state, row, col, height, width):
    """The index row * width of the grid + col of a random free cell in a rectangle, all equally likely; -1 if there is none."""
    columns = state.grid.shape[1]
    for _ in range(PLACE_TRIES):
        c = col + randint(state, width)
        r = row + randint(state, height)
        if is_free(state, r, c):
            return r * columns + c
    return counted_cell(state, row, col, height, width)


@kernel
def counted_cell(state, row, col, height, width):
    """As `free_cell`, by counting: a single draw, for small rectangles and where `to_tabular` enumerates the outcomes."""
    columns = state.grid.shape[1]
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
def place(state, code, row, col, height, width):
    """Put an object on a random free cell of a rectangle. Returns the cell's index, or -1 if no cell is free."""
    index = free_cell(state, row, col, height, width)
    if index >= 0:
        state.grid[index // state.grid.shape[1], index % state.grid.shape[1]] = code
        state.stale = True
    return index


@kernel
def place_agent(state, row, col, height, width):
    """Put the agent on a random free cell of a rectangle, in a random direction. Returns the cell's index, or -1."""
    index = free_cell(state, row, col, height, width)
    if index >= 0:
        state.row, state.col = index // state.grid.shape[1], index % state.grid.shape[1]
        state.direction = randint(state, 4)
        state.stale = True
    return index


@kernel
def start_agent(params, state):
    """Put the agent at the start of `fixed_start`, or on a random free cell in a random direction."""
    if params.agent_row > 0:
        state.row, state.col, state.direction = params.agent_row, params.agent_col, params.agent_dir
        state.stale = True
    else:
        height, width = state.grid.shape
        place_agent(state, 0, 0, height, width)


@kernel
def count_visit(state, index):
    """Count a cell, given by its index, among those visited in this episode."""
    if state.first_visits[index] < 0:
        state.first_visits[index] = state.t
        state.visited += 1


@kernel
def visit(state):
    """Count the agent's cell."""
    count_visit(state, np.int64(state.row) * state.grid.shape[1] + np.int64(state.col))


@kernel
def front(state):
    """(row, col, code) of the cell ahead; beyond the grid's edge there is wall."""
    direction = state.direction
    row = np.int64(state.row) + np.int64(direction == SOUTH) - np.int64(direction == NORTH)
    col = np.int64(state.col) + np.int64(direction == EAST) - np.int64(direction == WEST)
    if row < 0 or col < 0 or row >= state.grid.shape[0] or col >= state.grid.shape[1]:
        return row, col, GREY_WALL
    return row, col, np.int64(state.grid[row, col])


@kernel
def beside(state, row, col):
    """Whether the agent stands right above, below, to the left or to the right of a cell."""
    return abs(state.row - row) + abs(state.col - col) == 1


@kernel
def forward(state):
    """Move ahead if the cell there can be entered. Returns the object entered, UNSEEN if the agent stays."""
    row, col, code = front(state)
    kind = code & 15
    if code & OPAQUE or not ENTERABLE >> kind & 1:
        return UNSEEN
    state.row, state.col = row, col
    state.stale = True
    visit(state)
    return kind


@kernel
def pickup(state):
    """Take the key, ball or box ahead, if the hands are free."""
    row, col, code = front(state)
    if KEY <= code & 15 <= BOX and state.carrying == EMPTY:
        state.carrying = code
        state.grid[row, col] = EMPTY
        state.stale = True


@kernel
def drop(state):
    """Put the object carried on the cell ahead, if that is empty."""
    row, col, code = front(state)
    if code == EMPTY:
        state.grid[row, col] = state.carrying
        state.carrying = EMPTY
        state.stale = True


@kernel
def toggle(state):
    """Open or close the door ahead, a locked one with a key of its colour, or replace the box ahead by its contents."""
    row, col, code = front(state)
    kind, color = code & 15, code >> 4 & 7
    if kind in (BOX, DOOR):
        state.stale = True
    if kind == BOX:
        state.grid[row, col] = unbox(code)
    elif kind == DOOR:
        door = code >> 7 & 3
        if door != LOCKED:
            state.grid[row, col] = cell(DOOR, color, CLOSED if door == OPEN else OPEN)
        elif state.carrying == KEY | color << 4:
            state.grid[row, col] = cell(DOOR, color, OPEN)


@kernel
def act(state, action):
    """Minigrid's seven actions. Returns the object on the cell that the agent moves to, UNSEEN if it doesn't move."""
    if action == FORWARD:
        return forward(state)
    if action == TURN_LEFT:
        state.direction = (state.direction + 3) & 3
        state.stale = True
    elif action == TURN_RIGHT:
        state.direction = (state.direction + 1) & 3
        state.stale = True
    elif action == PICKUP:
        pickup(state)
    elif action == DROP:
        drop(state)
    elif action == TOGGLE:
        toggle(state)
    return UNSEEN


@kernel
def time_reward(params, state):
    """Minigrid's reward for success, 1 - 0.9 t / max_steps."""
    return 1.0 - 0.9 * (state.t / params.max_steps)


@kernel
def arrive(params, state, entered):
    """(reward, terminated) after `act`: the goal is the success, lava the end."""
    state.success = entered == GOAL
    return (time_reward(params, state) if entered == GOAL else 0.0), entered in (GOAL, LAVA)


@kernel
def encode(image, at, code):
    """Write a cell's object, colour and state to image[at : at + 3]."""
    image[at] = code & 15
    image[at + 1] = code >> 4 & 7
    image[at + 2] = code >> 7 & 3


@kernel
def view(params, state, image):
    """Write what the agent sees, uint8 (v, v, 3) flattened: [i, j] is i cells from the left, j from the far end of the view."""
    if state.stale:
        look(params, state)
        state.stale = False
    source = state.image
    for i in range(3 * params.view_columns.shape[0] ** 2):
        image[i] = source[i]


@kernel
def look(params, state):
    """Compute `state.image`.

    Light enters at the agent's cell and moves away from it row by row. Within a row it spreads to both sides through cells
    that are not opaque; these light their neighbours to the left and right, and the three cells beyond in the next row. (So
    does Minigrid's `process_vis`.) A row is a bit mask over its cells: the spreading is a carry or a few shifts.
    """
    v = params.view_columns.shape[0]  # its length is part of the type: the compiler unrolls the loops
    half, full = v // 2, (1 << v) - 1
    grid, image = state.grid, state.image
    height, width = grid.shape
    row, col, direction = np.int64(state.row), np.int64(state.col), np.int64(state.direction)
    down = np.int64(direction == SOUTH) - np.int64(direction == NORTH)  # one step ahead; a step to the right is (east, -down)
    east = np.int64(direction == EAST) - np.int64(direction == WEST)
    ahead = (width - 1 - col, height - 1 - row, col, row)[direction]  # cells up to the grid's edge
    right = min(half, (height - 1 - row, col, row, width - 1 - col)[direction])
    left = min(half, (row, width - 1 - col, height - 1 - row, col)[direction])
    inside = ((1 << left + right + 1) - 1) << half - left  # columns within the grid
    lit = full if params.see_through_walls else 1 << half
    carried = np.int64(state.carrying)
    for distance in range(v):
        if distance > ahead:
            inside = 0
        r = row + min(distance, ahead) * down  # indices stay within the grid; what was read from elsewhere is masked out
        c = col + min(distance, ahead) * east
        opaque = 0
        for i in range(v):
            side = min(max(i - half, -left), right)
            code = np.int64(grid[np.uint64(r + side * east), np.uint64(c - side * down)])
            opaque |= code >> 15 << i
            encode(image, 3 * (v * i + v - 1 - distance), code)
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
            for i in range(v):
                if hidden >> i & 1:
                    encode(image, 3 * (v * i + v - 1 - distance), 0)
                elif outside >> i & 1:
                    encode(image, 3 * (v * i + v - 1 - distance), GREY_WALL)
        lit = full if params.see_through_walls else beyond
    encode(image, 3 * (v * half + v - 1), carried)


@kernel
def observe(params, state, obs):
    view(params, state, obs.image)
    obs.direction = state.direction
    obs.mission = state.mission


@kernel
def observe_image(params, state, obs):
    view(params, state, obs)


@kernel
def observe_position(params, state, obs):
    obs.position[0], obs.position[1] = state.col, state.row


@kernel
def observe_step(params, state, obs):
    obs.step[0] = state.t / params.max_steps


@kernel
def observe_noise(params, state, obs):
    """Uniform numbers, a hash of the random word and the clock: looking takes nothing from the stream of the dynamics."""
    count = obs.noise.shape[0]
    for i in range(count):
        word = mix(mix(state.rng) + np.uint64(np.int64(state.t) * count + i) * GAMMA)
        obs.noise[i] = np.float64(word >> U40) * 2.0**-24


def both(first, second):
    """A kernel of `params`, `state` and a third argument that calls two kernels in turn."""

    @kernel
    def call_both(params, state, target):
        first(params, state, target)
        second(params, state, target)

    return call_both


@kernel
def inform(params, state, info):
    """The metrics of every gridworld, METRICS."""
    info.cell = state.row * state.grid.shape[1] + state.col
    info.visited = state.visited
    info.first_visit = state.first_visits[info.cell]
    info.coverage = state.visited / state.walkable
    info.success = state.success
    info.context = state.context


METRICS = dict(cell=int, visited=int, first_visit=int, coverage=float, success=bool, context=int)


class GridEnv(KernelEnv):
    """A gridworld with Minigrid's observations and actions; `dynamics` holds `observe`, a state comes from `grid_state`.

    Args:
        num_contexts: number of distinct layouts, each drawn like an episode of its own; None draws every episode afresh.
        layout_seed: selects the set of contexts; only with num_contexts.
        missions: the sentences that state.mission picks from.
        agent_view_size: cells along each side of the view, odd, in [3, 31].
        see_through_walls: whether the view is without occlusion.
        observation: "dict" for Minigrid's {"image", "direction", "mission"}, "image" for the image alone.
        info: metrics beside METRICS.
        num_actions: how many of Minigrid's seven actions there are.
        position: whether the dict observation has "position", MultiDiscrete (column, row).
        step_counter: whether it has "step", float32 (1,), t / max_steps.
        noise_channels: if positive, it has "noise", float32 (noise_channels,), uniform in [0, 1) and new in every step.
        components: further parts of the dict observation, name -> (space, the kernel that writes it into `obs`).
        state, params, max_steps, render_mode, max_episode_steps: as in `KernelEnv`.

    Raises:
        ValueError: an argument is out of range.
    """

    untracked: tuple[str, ...] = ("success", "visited", "walkable", "first_visits", "context", "image", "stale")
    keys = {
        "left": TURN_LEFT,
        "right": TURN_RIGHT,
        "up": FORWARD,
        "page up": PICKUP,
        "page down": DROP,
        "space": TOGGLE,
        "return": DONE,
    }

    def __init__(
        self, *, state, params, num_contexts, layout_seed, missions, max_steps, agent_view_size, see_through_walls, observation,
        render_mode, max_episode_steps, info=None, num_actions=7, position=False, step_counter=False, noise_channels=0,
        components=None,
    ):  # fmt: skip
        check_integer("layout_seed", layout_seed, 0, 2**63 - 1)
        if num_contexts is not None:
            check_integer("num_contexts", num_contexts, 1, 2**31 - 1)
        check_integer("agent_view_size", agent_view_size, 3, MAX_VIEW, odd=True)
        check_integer("max_steps", max_steps, 1, 2**31 - 1)
        if observation not in ("dict", "image"):
            raise ValueError(f"observation must be 'dict' or 'image', got {observation!r}")
        v = agent_view_size
        image = spaces.Box(0, 255, (v, v, 3), np.uint8)
        check_integer("noise_channels", noise_channels, 0, 4096)
        parts = dict(components or {})
        if position:
            parts["position"] = spaces.MultiDiscrete(state["grid"].shape[::-1]), observe_position
        if step_counter:
            parts["step"] = spaces.Box(0.0, 1.0, (1,), np.float32), observe_step
        if noise_channels:
            parts["noise"] = spaces.Box(0.0, 1.0, (noise_channels,), np.float32), observe_noise
        if observation == "image":
            if parts:
                raise ValueError(f"observation must be 'dict' to hold {', '.join(parts)}, got 'image'")
            space, write = image, observe_image
        else:
            text = spaces.Text(max(map(len, missions)), charset=frozenset("".join(missions)))
            more = {name: part for name, (part, _) in parts.items()}
            space = spaces.Dict(image=image, direction=spaces.Discrete(4), mission=text, **more)
            write = functools.reduce(both, (writer for _, writer in parts.values()), observe)
        self.dynamics = tuple(write if f is observe else f for f in self.dynamics)
        super().__init__(
            state=state,
            params=dict(
                num_contexts=num_contexts or 0,
                layout_seed=layout_seed,
                max_steps=max_steps,
                view_columns=np.arange(v),
                see_through_walls=bool(see_through_walls),
                **params,
            ),
            observation_space=space,
            action_space=spaces.Discrete(num_actions),
            info={**METRICS, **(info or {})},
            texts=dict(mission=missions),
            flat=True,
            max_steps=max_steps,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def draw(self, canvas, state):
        draw_grid(canvas, state.grid)
        draw_agent(canvas, int(state.row), int(state.col), int(state.direction))
        for row, col in np.argwhere(self.visible(state)).tolist():
            canvas.rect(col, row, 1, 1, (255, 255, 255, 76))
        if state.carrying != EMPTY:
            draw_cell(canvas, int(state.col), int(state.row), int(state.carrying), scale=0.45, char=None)

    def visible(self, state):
        """The cells that the agent sees, bool (height, width)."""
        v = self.params["view_columns"].size
        i, j = np.nonzero(state.image[::3].reshape(v, v))
        aside, ahead = i - v // 2, v - 1 - j
        down, east = ((0, 1), (1, 0), (0, -1), (-1, 0))[state.direction]
        rows, cols = state.row + ahead * down + aside * east, state.col + ahead * east - aside * down
        seen = np.zeros(state.grid.shape, bool)
        inside = (rows >= 0) & (rows < seen.shape[0]) & (cols >= 0) & (cols < seen.shape[1])
        seen[rows[inside], cols[inside]] = True
        return seen


def check_integer(name, value, low, high, odd=False):
    """Raise a ValueError unless value is an (odd) integer in [low, high]."""
    integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not integer or not low <= value <= high or (odd and value % 2 == 0):
        raise ValueError(f"{name} must be an {'odd ' * odd}integer in [{low}, {high}], got {value!r}")


def fixed_start(agent_pos, agent_dir, height, width, goal):
    """The parameters of `start_agent`: agent_pos is (column, row), as `goal` is, or None for anywhere.

    Raises:
        ValueError: the position is not within the walls, or it is the goal's, or the direction doesn't exist.
    """
    check_integer("agent_dir", agent_dir, 0, 3)
    if agent_pos is None:
        return dict(agent_row=0, agent_col=0, agent_dir=agent_dir)
    pair = isinstance(agent_pos, (tuple, list)) and len(agent_pos) == 2
    if not pair or agent_pos[0] not in range(1, width - 1) or agent_pos[1] not in range(1, height - 1):
        raise ValueError(
            f"agent_pos must be None or (column, row) within the walls, 1..{width - 2} and 1..{height - 2}, got {agent_pos!r}"
        )
    if tuple(agent_pos) == goal:
        raise ValueError(f"agent_pos must not be the goal's position, got {agent_pos!r}")
    return dict(agent_row=int(agent_pos[1]), agent_col=int(agent_pos[0]), agent_dir=agent_dir)


COLOR_NAMES = ("red", "green", "blue", "purple", "yellow", "grey")  # by colour
RGB = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (112, 39, 195), (255, 255, 0), (100, 100, 100))  # by colour, as in Minigrid
BLACK = (0, 0, 0)
CHARS = " .#:DKABGV"  # by object


def draw_grid(canvas, grid):
    """Draw all cells of a grid, uint16 (height, width), in Minigrid's look."""
    height, width = grid.shape
    canvas.size(width, height, BLACK)
    for row in range(height):
        canvas.rect(0, row, width, 0.031, RGB[GREY])
    for col in range(width):
        canvas.rect(col, 0, 0.031, height, RGB[GREY])
    for row in range(height):
        for col in range(width):
            draw_cell(canvas, col, row, int(grid[row, col]))


def draw_agent(canvas, row, col, direction):
    """Draw the agent as a red triangle that points ahead."""
    corners = []
    for x, y in ((-0.38, -0.31), (0.37, 0.0), (-0.38, 0.31)):
        for _ in range(direction):
            x, y = -y, x
        corners.append((col + 0.5 + x, row + 0.5 + y))
    canvas.polygon(corners, RGB[RED], ">v<^"[direction])


def draw_cell(canvas, x, y, code, scale=1.0, char=""):
    """Draw the object of a cell with its upper left corner at (x, y); char replaces its character, None leaves it out."""
    kind, color, door = code & 15, RGB[code >> 4 & 7], code >> 7 & 3
    char = CHARS[kind] if char == "" else char

    def rect(left, right, top, bottom, rgb):
        canvas.rect(x + left * scale, y + top * scale, (right - left) * scale, (bottom - top) * scale, rgb, char)

    def circle(cx, cy, radius, rgb):
        canvas.circle(x + cx * scale, y + cy * scale, radius * scale, rgb, char)

    if kind in (WALL, GOAL):
        rect(0.0, 1.0, 0.0, 1.0, color)
    elif kind == FLOOR:
        rect(0.031, 1.0, 0.031, 1.0, tuple(c // 2 for c in color))
    elif kind == LAVA:
        rect(0.0, 1.0, 0.0, 1.0, (255, 128, 0))
        for wave in range(3):
            low, high = y + (0.3 + 0.2 * wave) * scale, y + (0.4 + 0.2 * wave) * scale
            ends = [x + (0.1 + 0.2 * k) * scale for k in range(5)]
            for k in range(4):
                canvas.line(ends[k], (low, high)[k % 2], ends[k + 1], (high, low)[k % 2], BLACK, 0.06 * scale)
    elif kind == DOOR and door == OPEN:
        char = "_"
        rect(0.88, 1.0, 0.0, 1.0, color)
        rect(0.92, 0.96, 0.04, 0.96, BLACK)
    elif kind == DOOR and door == LOCKED:
        char = "L"
        rect(0.0, 1.0, 0.0, 1.0, color)
        rect(0.06, 0.94, 0.06, 0.94, tuple(int(0.45 * c) for c in color))
        rect(0.52, 0.75, 0.50, 0.56, color)
    elif kind == DOOR:
        for k, rgb in enumerate((color, BLACK, color, BLACK)):
            rect(0.04 * k, 1.0 - 0.04 * k, 0.04 * k, 1.0 - 0.04 * k, rgb)
        circle(0.75, 0.50, 0.08, color)
    elif kind == KEY:
        rect(0.50, 0.63, 0.31, 0.88, color)
        rect(0.38, 0.50, 0.59, 0.66, color)
        rect(0.38, 0.50, 0.81, 0.88, color)
        circle(0.56, 0.28, 0.19, color)
        circle(0.56, 0.28, 0.064, BLACK)
    elif kind == BALL:
        circle(0.5, 0.5, 0.31, color)
    elif kind == BOX:
        rect(0.12, 0.88, 0.12, 0.88, color)
        rect(0.18, 0.82, 0.18, 0.82, BLACK)
        rect(0.16, 0.84, 0.47, 0.53, color)
