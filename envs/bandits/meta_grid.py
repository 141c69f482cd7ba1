"""MetaGrid: find the goal among a few possible places, then walk straight to it in all episodes that remain.

A task is one draw of the goal's place among the candidates. It lasts a block: `recurrence` episodes from the same start, with
the same goal. The end of an episode is only shown, and leads back to the start; the end of the block is the end of the task
and terminates.

Observation: dict of "cell", Discrete(rows * columns): the agent's own, row * columns + column; and "previous", float32 (7,):
             previous action one-hot (zeros before the first), previous reward (0 before the first action), 1 if the next
             action starts an episode, share of the block's episodes that are over (0 if geometric).
Action:      Discrete(4): right, down, left, up; what would leave the grid or enter a wall stays where it is.
Reward:      1 on reaching the goal; otherwise 0.
Terminates:  at the end of the block: after recurrence (10) episodes, or after each episode with probability
             1 / recurrence if length="geometric".  Truncates: never.
Episodes:    end at the goal, in a hole, or after episode_steps (20).
Layouts:     "open", a room of 7x7 with the start in the middle; "rooms", four rooms in 9x9; "comb", a corridor of 7 cells
             with four cross corridors of 5. Each has 8 candidates; holes, if there are traps, lie on other candidates.
Source:      written for this suite after Rentschler and Roberts, 2025, arXiv:2508.01287 (gridworlds that are met again); the
             observation is that of RL^2 (Duan et al., 2016, arXiv:1611.02779).

The info has what the agent must not see: `goal` (its cell), `candidates` (distinct ones visited before the first success of
the block, without the goal), `success` (this step reached the goal), `successes` in the block, `episode` (number of those that
are over), `regret` (1 where an episode ended without success: one who knows the goal always reaches it), `cumulative_regret`
over the block, `episode_end` and `task_end`.
"""

from itertools import combinations

import numpy as np
from gymnasium import spaces

from explore_gym.envs.engine import KernelEnv, bernoulli, kernel, randint, state_dtype, vectorize
from explore_gym.envs.engine.env import is_integer

LENGTHS = ("fixed", "geometric")
LAYOUTS = {  # S start, o candidate, # wall
    "open": ("o..o..o", ".......", ".......", "o..S..o", ".......", ".......", "o..o..o"),
    "rooms": (
        "o...#...o",
        "....#....",
        "....S....",
        ".o..#..o.",
        "##.###.##",
        "o...#...o",
        ".........",
        "....#....",
        "..o.#.o..",
    ),
    "comb": ("o#o#o#o", ".#.#.#.", "...S...", ".#.#.#.", "o#o#o#o"),
}
DOWN, RIGHT = (0, 1, 0, -1), (1, 0, -1, 0)  # of each action
OUT_OF_REACH = 2**31  # more moves than an episode can have
MAX_CANDIDATES = 12  # search_value goes through all sets of them

STATE = state_dtype(
    row=np.int32,
    col=np.int32,
    goal=np.int32,  # candidate
    holes=np.int64,  # bit mask of candidates
    moves=np.int32,  # within the episode
    episode=np.int32,  # within the block
    action=np.int32,  # previous one, -1 before the first
    reward=np.float64,
    visited=np.int64,  # bit mask of candidates, up to the first success
    candidates=np.int32,
    success=np.bool_,
    successes=np.int32,
    cumulative_regret=np.float64,
    episode_end=np.bool_,
    task_end=np.bool_,
)


@kernel
def go_to_start(params, state):
    state.row, state.col, state.moves = params.start[0], params.start[1], 0


@kernel
def reset(params, state):
    state.goal, state.holes = randint(state, params.num_candidates), 0
    remaining = params.traps
    while remaining > 0:
        hole = randint(state, params.num_candidates)
        if hole != state.goal and (state.holes >> hole) & 1 == 0:
            state.holes |= 1 << hole
            remaining -= 1
    go_to_start(params, state)
    state.episode, state.action, state.reward = 0, -1, 0.0
    state.visited, state.candidates = 0, 0
    state.success, state.successes, state.cumulative_regret = False, 0, 0.0
    state.episode_end, state.task_end = False, False


@kernel
def move(params, state, action):
    """Returns the candidate that the agent is on afterwards, -1 if on none."""
    rows, cols = params.free.shape
    row, col = state.row + DOWN[action], state.col + RIGHT[action]
    if 0 <= row < rows and 0 <= col < cols and params.free[row, col]:
        state.row, state.col = row, col
    state.moves += 1
    return np.int64(params.candidate[state.row, state.col])


@kernel
def step(params, state, action):
    here = move(params, state, action)
    state.success = here == state.goal
    fell = here >= 0 and (state.holes >> max(here, 0)) & 1 == 1
    if here >= 0 and not state.success and state.successes == 0 and (state.visited >> here) & 1 == 0:
        state.visited |= 1 << here
        state.candidates += 1
    state.episode_end, state.task_end = state.success or fell or state.moves == params.episode_steps, False
    state.action, state.reward = action, (1.0 if state.success else 0.0)
    if state.success:
        state.successes += 1
    if state.episode_end:
        state.cumulative_regret += 1.0 - state.reward
        state.episode += 1
        go_to_start(params, state)
        if params.geometric:
            state.task_end = bernoulli(state, 1.0 / params.recurrence)
        else:
            state.task_end = state.episode == params.recurrence
    return state.reward, state.task_end


@kernel
def observe(params, state, obs):
    obs.cell = state.row * params.free.shape[1] + state.col
    for action in range(4):
        obs.previous[action] = 1.0 if action == state.action else 0.0
    obs.previous[4] = state.reward
    obs.previous[5] = 1.0 if state.moves == 0 else 0.0
    obs.previous[6] = 0.0 if params.geometric else state.episode / params.recurrence


@kernel
def inform(params, state, info):
    info.goal = params.cells[state.goal]
    info.candidates = state.candidates
    info.success = state.success
    info.successes = state.successes
    info.episode = state.episode
    info.regret = 1.0 if state.episode_end and not state.success else 0.0
    info.cumulative_regret = state.cumulative_regret
    info.episode_end = state.episode_end
    info.task_end = state.task_end


def distances(free, cell):
    """Fewest moves from a cell to every other, int64 (rows, columns), OUT_OF_REACH where no way leads."""
    found = np.full(free.shape, OUT_OF_REACH)
    frontier, found[tuple(cell)] = [tuple(cell)], 0
    for row, col in frontier:
        for target in [(row + down, col + right) for down, right in zip(DOWN, RIGHT)]:
            inside = 0 <= target[0] < free.shape[0] and 0 <= target[1] < free.shape[1]
            if inside and free[target] and found[target] == OUT_OF_REACH:
                found[target] = found[row, col] + 1
                frontier.append(target)
    return found


class MetaGrid(KernelEnv):
    """A small grid that is met again and again, with the goal's place redrawn for each block.

    Args:
        layout: "open", "rooms" or "comb", or the rows of another grid: S the start, o a candidate, # a wall, . any other cell.
        traps: number of hidden holes, on candidates other than the goal; a step into one ends the episode.
        recurrence: episodes per block (1: a new task after every episode), or their mean if geometric.
        episode_steps: length of an episode that reaches nothing.
        length: "fixed" or "geometric" number of episodes per block.
    Raises:
        ValueError: the layout isn't a rectangle of these characters with one S and 2 to 12 candidates, a candidate can't be
            reached in episode_steps past the others, or an argument is out of range.
    """

    dynamics = (reset, step, observe, inform)
    untracked = ("visited", "candidates", "success", "successes", "cumulative_regret", "episode_end", "task_end")

    def __init__(
        self,
        layout="open",
        traps=0,
        recurrence=10,
        episode_steps=20,
        length="fixed",
        render_mode=None,
        max_episode_steps=None,
    ):
        rows = tuple(LAYOUTS.get(layout, ()) if isinstance(layout, str) else layout)
        if not (rows and all(isinstance(row, str) and len(row) == len(rows[0]) and not set(row) - set("So#.") for row in rows)):
            raise ValueError(f"layout must be one of {tuple(LAYOUTS)} or equally long rows of S, o, # and ., got {layout!r}")
        grid = np.array([list(row) for row in rows])
        starts, places = np.argwhere(grid == "S"), np.argwhere(grid == "o")
        if len(starts) != 1 or not 2 <= len(places) <= MAX_CANDIDATES:
            expected = f"one start and 2 to {MAX_CANDIDATES} candidates"
            raise ValueError(f"layout must have {expected}, got {len(starts)} and {len(places)}")
        if length not in LENGTHS:
            raise ValueError(f"length must be one of {LENGTHS}, got {length!r}")
        for name, value in (("recurrence", recurrence), ("episode_steps", episode_steps)):
            if not (is_integer(value) and value >= 1):
                raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
        if recurrence * episode_steps > 2**31 - 1:
            raise ValueError(f"a block has at most 2**31 - 1 steps, got {recurrence} * {episode_steps}")
        if not (is_integer(traps) and 0 <= traps < len(places)):
            raise ValueError(f"traps must be an integer in [0, {len(places) - 1}], one candidate is the goal, got {traps!r}")
        self.free, self.start, self.places = grid != "#", starts[0], places
        candidate = np.full(grid.shape, -1)
        candidate[tuple(places.T)] = range(len(places))
        for i, place in enumerate(places):
            past_the_others = distances(self.free & ((candidate < 0) | (candidate == i)), self.start)
            if past_the_others[tuple(place)] > episode_steps:
                raise ValueError(f"candidate {place.tolist()} is out of reach in episode_steps={episode_steps} past the others")
        self.traps, self.recurrence, self.episode_steps = traps, recurrence, episode_steps
        self.geometric = length == "geometric"
        super().__init__(
            state=STATE,
            params=dict(
                free=self.free,
                candidate=candidate,
                cells=places[:, 0] * grid.shape[1] + places[:, 1],
                start=self.start,
                num_candidates=len(places),
                traps=traps,
                recurrence=recurrence,
                episode_steps=episode_steps,
                geometric=self.geometric,
            ),
            observation_space=spaces.Dict(
                cell=spaces.Discrete(grid.size),
                previous=spaces.Box(0.0, 1.0, (7,), np.float32),
            ),
            action_space=spaces.Discrete(4),
            info=dict(
                goal=int,
                candidates=int,
                success=bool,
                successes=int,
                episode=int,
                regret=float,
                cumulative_regret=float,
                episode_end=bool,
                task_end=bool,
            ),
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
        )

    def optimal_value(self):
        """Expected return per block of an oracle that knows the goal and the holes: one success in every episode."""
        return float(self.recurrence)

    def random_value(self):
        """Expected return per block of uniformly random actions."""
        walk = np.zeros((self.free.size, self.free.size))  # probabilities of a random move
        for row, col in np.argwhere(self.free):
            for down, right in zip(DOWN, RIGHT):
                r, c = row + down, col + right
                inside = 0 <= r < self.free.shape[0] and 0 <= c < self.free.shape[1] and self.free[r, c]
                target = (r, c) if inside else (row, col)
                walk[row * self.free.shape[1] + col, target[0] * self.free.shape[1] + target[1]] += 0.25
        start, reached = int(self.params["start"][0] @ (self.free.shape[1], 1)), []
        for goal in self.params["cells"][0]:
            for holes in combinations([cell for cell in self.params["cells"][0] if cell != goal], self.traps):
                ends = walk.copy()
                ends[[goal, *holes]] = 0.0
                ends[[goal, *holes], [goal, *holes]] = 1.0
                reached.append(np.linalg.matrix_power(ends, self.episode_steps)[start, goal])
        return float(np.mean(reached) * self.recurrence)

    def tours(self):
        """Which sets of candidates can be visited in one episode, bool (2^G,) by bit mask (Held and Karp, 1962)."""
        between = [distances(self.free, place) for place in self.places]
        steps = np.array([[grid[tuple(place)] for place in self.places] for grid in between])
        sets = np.arange(2 ** len(self.places))
        shortest = np.full((len(sets), len(steps)), np.inf)  # over all ways through a set that end at one of it
        shortest[1 << np.arange(len(steps)), np.arange(len(steps))] = [grid[tuple(self.start)] for grid in between]
        for s in sets[1:].tolist():
            for last in range(len(steps)):
                further = (shortest[s] + steps[:, last]).min()
                if not s >> last & 1:
                    shortest[s | 1 << last, last] = min(shortest[s | 1 << last, last], further)
        return shortest.min(1) <= self.episode_steps

    def search_value(self):
        """Expected return per block of the best search without knowledge of the goal, an upper bound where there are traps.

        An episode that starts with the candidates U unvisited visits some set S of them: the goal is there with probability
        |S| / |U|, and is reached in all later episodes; otherwise the search goes on with U without S.
        """
        feasible = np.flatnonzero(self.tours())
        size = np.array([bin(s).count("1") for s in range(2 ** len(self.places))])
        goes_on = 1.0 - 1.0 / self.recurrence if self.geometric else 1.0
        value = np.zeros(len(size))  # by what is unvisited, at the start of an episode
        ahead = [self.recurrence] if self.geometric else range(1, self.recurrence + 1)  # episodes that are left
        for left in ahead:
            following = value if self.geometric else value.copy()  # a geometric block never nears its end
            for unvisited in range(1, len(size)):
                s = feasible[(feasible & ~unvisited) == 0]
                found = size[s] / size[unvisited]
                value[unvisited] = (found * left + (1.0 - found) * goes_on * following[unvisited & ~s]).max()
        return float(value[-1])

    def draw(self, canvas, state):
        """The grid from above: candidates pale, visited ones brown, the goal green, holes black, the agent a red disc."""
        rows, cols = self.free.shape
        canvas.size(cols, rows + 1)
        canvas.rect(0, 0, cols, rows, (60, 60, 66), "#")
        for row, col in np.argwhere(self.free).tolist():
            canvas.rect(col, row, 0.97, 0.97, (205, 213, 222), ".")
        for i, (row, col) in enumerate(self.places.tolist()):
            color = (190, 150, 110) if int(state.visited) >> i & 1 else (245, 238, 205)
            canvas.rect(col, row, 0.97, 0.97, color, "o")
            if i == state.goal:
                canvas.rect(col + 0.2, row + 0.2, 0.57, 0.57, (70, 170, 80), "$")
            elif int(state.holes) >> i & 1:
                canvas.circle(col + 0.48, row + 0.48, 0.3, (20, 20, 24), "x")
        canvas.circle(int(state.col) + 0.48, int(state.row) + 0.48, 0.3, (235, 90, 70), "@")
        canvas.text(0.1, rows + 0.2, f"episode {state.episode}  successes {state.successes}", (30, 30, 30), 0.5)


MetaGridVector = vectorize(MetaGrid)
