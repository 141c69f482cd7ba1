"""References for coverage tasks: greedy walks, the best walk of small tasks, and an upper bound for all walks.

All of them start from the environment's present state and run its own kernels, by way of `fork`. Values are returns, F at the
end less F now, whatever the environment's `reward` is.
"""

import numpy as np

from explore_gym.envs.coverage.cover import CoverageGrid
from explore_gym.envs.coverage.grid import STAY

MAX_STATES = 1_000_000  # of one time, in `best_walk`
MAX_ENDS = 100_000  # of the look-ahead of a greedy walk


class Forks:
    """Copies of an environment in given states; those of one number are made once."""

    def __init__(self, env):
        if getattr(env, "slip", 0.0) > 0.0:
            raise ValueError(f"a reference needs moves that don't slip, got slip={env.slip}")
        self.env, self.forks = env, {}
        self.num_actions = int(env.action_space.n)

    def at(self, states):
        """A vector environment in these states."""
        if len(states) not in self.forks:
            self.forks[len(states)] = self.env.fork(len(states))
        self.forks[len(states)].set_state(states)
        return self.forks[len(states)]

    def after(self, states):
        """The states that each action leads to from each of these, (states * actions,)."""
        envs = self.at(np.repeat(states, self.num_actions))
        envs.step(np.tile(np.arange(self.num_actions), len(states)))
        return envs.get_state()


def greedy_walk(env, depth=1):
    """Go where the most is gained, step by step. Returns the value and the actions, a list.

    Each step is the first of the next `depth` steps that gain most together; of several the one with the highest number, so
    that staying comes last.

    Raises:
        ValueError: moves slip, or the look-ahead has more than MAX_ENDS ends.
    """
    forks = Forks(env)
    if not (depth >= 1 and forks.num_actions**depth <= MAX_ENDS):
        raise ValueError(f"depth must be >= 1 and give at most {MAX_ENDS} sequences of actions, got {depth!r}")
    state, actions = env.get_state(), []
    start = worth(state)
    while not state["done"]:
        nexts = forks.after(state[None])
        ends, first, reached = nexts, np.arange(forks.num_actions), worth(nexts).copy()
        for _ in range(depth - 1):
            ends, first = ends[~ends["done"]], first[~ends["done"]]
            if len(ends) == 0:
                break
            ends, first = forks.after(ends), np.repeat(first, forks.num_actions)
            np.maximum.at(reached, first, worth(ends))
        actions.append(forks.num_actions - 1 - int(reached[::-1].argmax()))
        state = nexts[actions[-1]]
    return float(worth(state) - start), actions


def best_walk(env):
    """The best walk on a grid, for small tasks. Returns its value and its actions, a list.

    Goes through all walks at once, step by step, and keeps one of those that are in the same cell and have visited the same
    ones, equally often where repeats pay: F is the same for them, and so is all that can follow.

    Raises:
        ValueError: moves slip, or there are more than MAX_STATES states at a time.
    """
    forks, states, parents = Forks(env), env.get_state()[None], []
    start = states["F"][0]
    while not states["done"][0]:
        if len(states) * forks.num_actions > MAX_STATES:
            raise ValueError(f"best_walk needs more than {MAX_STATES} states after {len(parents)} steps")
        after = forks.after(states)
        visits = after["visits"] if env.repeats_pay else after["visits"] > 0
        _, kept = np.unique(np.column_stack([after["cell"], visits]), axis=0, return_index=True)
        states = after[kept]
        parents.append(kept)
    best = int(states["F"].argmax())
    value, actions = float(states["F"][best] - start), []
    for kept in reversed(parents):
        best, action = divmod(int(kept[best]), forks.num_actions)
        actions.append(action)
    return value, actions[::-1]


def upper_bound(env):
    """What no walk on a grid gains more than: the least of several bounds.

    Adding a walk to a set A of visits gains at most what its visits gain one by one when added to A, and A with the walk is
    worth at least as much as the walk (Minoux, 1978, "Accelerated greedy algorithms for maximizing submodular set
    functions"). A runs through the beginnings of a greedy walk; a walk's visit at a time is to a cell within reach by then.
    Where visits cover cells, a step covers at most reach + 1 new ones, and no more than all can be covered.

    Raises:
        ValueError: moves slip.
    """
    forks, state = Forks(env), env.get_state()
    start, distances = worth(state), steps_to(env, int(state["cell"]))
    _, actions = greedy_walk(env)
    bounds = cover_bounds(env, state, distances, len(actions)) if isinstance(env, CoverageGrid) else []
    for action in actions:
        gains = single_gains(forks, state)
        bounds.append(worth(state) - start + best_visits(gains, distances, len(actions), again=env.repeats_pay))
        state = forks.after(state[None])[action]
    return float(min(bounds, default=0.0))


def cover_bounds(env, state, distances, num_steps):
    """Two bounds on what can still be covered: cell by cell, and in all."""
    room = np.maximum(env.quotas - state["filled"], 0.0)
    weights = env.weights[state["context"]] * (state["covered"] == 0)
    left = np.minimum(weights, room[:, None]).sum(0)
    rows, columns = env.free.shape
    seen = np.full((rows, columns), np.inf)  # steps until each cell can be covered
    for down in range(min(env.reach + 1, rows)):
        for right in range(min(env.reach + 1, columns)):
            from_here = distances.reshape(rows, columns)[: rows - down, : columns - right]
            seen[down:, right:] = np.minimum(seen[down:, right:], from_here)
    cellwise = best_visits(left, np.maximum(seen.ravel(), 1.0), num_steps, per_step=env.reach + 1)
    return [cellwise, np.minimum(weights.sum(1), room).sum()]


def best_visits(gains, distances, num_steps, per_step=1, again=False):
    """The most that the items taken at the times 1 to num_steps gain, each of them within reach by then.

    Args:
        gains, distances: float64 (items,).
        per_step: items taken at each time; again: whether one may be taken more than once.
    """
    available, total = np.full(len(gains), -np.inf), 0.0
    for time in range(1, num_steps + 1):
        within = distances == time if time > 1 else distances <= time
        available[within] = gains[within]
        for _ in range(per_step):
            item = int(available.argmax())
            total += max(available[item], 0.0)
            if not again:
                available[item] = -np.inf
    return total


def single_gains(forks, state):
    """What a visit of each cell gains, added to the visits of this state, wherever the walker is: float64 (cells,)."""
    cells = np.flatnonzero(forks.env.free)
    envs = forks.at(np.repeat(state[None], len(cells)))
    envs.set_state(cell=cells)
    envs.step(np.full(len(cells), STAY))
    gains = np.zeros(forks.env.free.size)
    gains[cells] = worth(envs.get_state()) - worth(state)
    return gains


def steps_to(env, start):
    """Steps from a cell to each cell, float64 (cells,), inf where there is no way."""
    distances, frontier = np.full(env.free.size, np.inf), np.array([start])
    distances[start] = steps = 0
    while len(frontier):
        steps += 1
        reached = np.unique(env.moves[frontier])
        frontier = reached[np.isinf(distances[reached])]
        distances[frontier] = steps
    return distances


def worth(states):
    """F in these states."""
    return states["F"] if "F" in states.dtype.names else states["seen"] / 10.0
