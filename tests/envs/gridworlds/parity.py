"""Plays our gridworlds beside Minigrid's from the same layout, and compares how the layouts of both are distributed.

    events = play(FourRooms(), FourRoomsEnv(), num_steps=1000)        # asserts that both return the same; counts what happened
    ours, theirs = our_layouts(FourRoomsVector, 2000), minigrid_layouts(FourRoomsEnv(), 2000)
    assert_same_law(ours, theirs)                                     # chi-square tests of objects, colours, poses, missions

These assertions hold for any pair of environments; what one of Minigrid's keeps beside its grid is set by `prepare`.
"""

import collections
import zlib
from typing import NamedTuple

import numpy as np
from minigrid.core import world_object
from minigrid.core.constants import COLOR_TO_IDX
from minigrid.core.grid import Grid
from scipy import ndimage, stats

from explore_gym.envs.gridworlds import grid as core

WEIGHTS = (0.15, 0.15, 0.4, 0.1, 0.05, 0.1, 0.05)  # of Minigrid's actions, in its order
FIXED = {core.WALL, core.GOAL, core.LAVA, core.FLOOR}  # objects without a state, which cells can share
SHARED = {}  # code -> the object that they share
KINDS = {"wall": core.WALL, "door": core.DOOR, "key": core.KEY, "ball": core.BALL, "box": core.BOX, "goal": core.GOAL}
KINDS["lava"] = core.LAVA
RARE = 20  # categories with fewer layouts are pooled
BUCKETS = 64  # of a whole layout's checksum
WORDS = 20  # of a mission, the last ones


def as_object(code):
    """Minigrid's object of a cell code, None for an empty cell."""
    if code in SHARED:
        return SHARED[code]
    thing = world_object.WorldObj.decode(code & 15, code >> 4 & 7, code >> 7 & 3)
    if isinstance(thing, world_object.Box):
        thing.contains = as_object(int(core.unbox(code)))
    if code & 15 in FIXED:
        SHARED[code] = thing
    return thing


def as_code(thing):
    """The cell code of Minigrid's object."""
    if thing is None:
        return core.EMPTY
    if isinstance(thing, world_object.Box):
        return core.box(COLOR_TO_IDX[thing.color], as_code(thing.contains))
    kind, color, state = thing.encode()
    return core.cell(kind, color, state)


def codes(grid):
    """A Minigrid grid as cell codes, (height, width)."""
    return np.array([as_code(thing) for thing in grid.grid]).reshape(grid.height, grid.width)


def drawn(env, *rows, **legend):
    """A grid of env's shape full of walls, with rows of characters drawn from its upper left corner on.

    "." is empty, "#" a wall, "G" the goal, "~" lava; legend gives the codes of further characters.
    """
    legend = {".": core.EMPTY, "#": core.GREY_WALL, "G": core.GREEN_GOAL, "~": core.RED_LAVA, **legend}
    grid = np.full(env.state_dtype["grid"].shape, core.GREY_WALL, np.uint16)
    for row, line in enumerate(rows):
        grid[row, : len(line)] = [legend[char] for char in line]
    return grid


def load(minigrid, state, mission, prepare=None):
    """Start an episode of Minigrid's environment from a state of ours that was just reset. Returns its observation.

    prepare(minigrid, state), called last, sets what the environment keeps beside the grid, such as its target.
    """
    height, width = state["grid"].shape
    assert (minigrid.height, minigrid.width) == (height, width)
    assert minigrid.observation_space["mission"].contains(mission)
    minigrid.grid = Grid(width, height)
    minigrid.grid.grid = [as_object(code) for code in state["grid"].ravel().tolist()]
    minigrid.agent_pos, minigrid.agent_dir = (int(state["col"]), int(state["row"])), int(state["direction"])
    minigrid.carrying, minigrid.step_count, minigrid.mission = None, 0, mission
    if prepare is not None:
        prepare(minigrid, state)
    return minigrid.gen_obs()


def assert_same(obs, expected):
    np.testing.assert_array_equal(obs["image"], expected["image"])
    assert (obs["direction"], obs["mission"]) == (expected["direction"], expected["mission"])


def play(ours, minigrid, num_steps, seed=0, weights=WEIGHTS, prepare=None, follow=None):
    """Play both with the same random actions, episode after episode, and assert that they do the same.

    Observations, rewards and flags are compared after every step, the whole world after pick up, drop and toggle and at the end
    of an episode. Every other episode starts from a random free cell, so that the agent also gets where it rarely comes from
    the start. follow(minigrid, state), called before Minigrid's step with the state after ours, tells it what is
    drawn at random. Returns a Counter of "episodes", "success", "terminated", "truncated", "carried", "changed" (the grid).
    """
    rng = np.random.default_rng(seed)
    actions = rng.choice(len(weights), num_steps, p=weights).tolist()
    minigrid.reset(seed=seed)
    assert ours.time_limit == minigrid.max_steps
    events, done, before = collections.Counter(), True, None
    ours.reset(seed=seed)
    for action in actions:
        if done:
            obs, _ = ours.reset()
            events["episodes"] += 1
            if events["episodes"] % 2 == 0:
                row, col = rng.choice(free_cells(ours.get_state()))
                obs = ours.set_state(row=row, col=col, direction=rng.integers(4))
            assert_same(obs, load(minigrid, ours.get_state(), obs["mission"], prepare))
            before = codes(minigrid.grid)
        obs, reward, terminated, truncated, info = ours.step(action)
        if follow is not None:
            follow(minigrid, ours.get_state())
        expected, expected_reward, expected_terminated, expected_truncated, _ = minigrid.step(action)
        assert_same(obs, expected)
        assert (reward, terminated, truncated) == (expected_reward, expected_terminated, expected_truncated)
        assert info["success"] == (reward > 0)
        done = terminated or truncated
        if done or action in (core.PICKUP, core.DROP, core.TOGGLE):
            state, world = ours.get_state(), codes(minigrid.grid)
            np.testing.assert_array_equal(state["grid"], world)
            assert (state["col"], state["row"]) == tuple(minigrid.agent_pos)
            assert state["carrying"] == as_code(minigrid.carrying)
            events.update(carried=int(state["carrying"] != core.EMPTY), changed=not np.array_equal(before, world))
            before = world
        events.update(success=reward > 0, terminated=terminated, truncated=truncated)
    return events


def free_cells(state):
    """(n, 2) array of the (row, col) of empty cells that no wall shuts off from the agent."""
    areas, _ = ndimage.label(state["grid"] & 15 != core.WALL)
    return np.argwhere((state["grid"] == core.EMPTY) & (areas == areas[state["row"], state["col"]]))


class Layouts(NamedTuple):
    """The first states of many episodes: cell codes (n, height, width), poses (n,), missions (n,) as strings."""

    grid: np.ndarray
    row: np.ndarray
    col: np.ndarray
    direction: np.ndarray
    mission: np.ndarray


def our_layouts(vector_class, num, seed=0, **kwargs):
    """Layouts of that many lanes of our environment."""
    envs = vector_class(num_envs=num, **kwargs)
    obs, _ = envs.reset(seed=seed)
    state = envs.get_state()
    return Layouts(state["grid"].astype(int), state["row"], state["col"], state["direction"], np.array(obs["mission"]))


def minigrid_layouts(minigrid, num, seed=0):
    """Layouts of that many episodes of Minigrid's environment."""
    minigrid.reset(seed=seed)
    minigrid.gen_obs = lambda: None  # not needed, and the slowest part of a reset
    rows = []
    for _ in range(num):
        minigrid.reset()
        col, row = minigrid.agent_pos
        rows.append((codes(minigrid.grid), row, col, minigrid.agent_dir, minigrid.mission))
    return Layouts(*(np.array(column) for column in zip(*rows)))


def features(layouts):
    """What is compared of layouts, one category each: {name: (n,)}, -1 where there is no such object."""
    n, _, width = layouts.grid.shape
    flat, agent = layouts.grid.reshape(n, -1), layouts.row * width + layouts.col
    lanes = np.arange(n)
    found = dict(agent=agent, direction=layouts.direction, mission=layouts.mission)
    words = [mission.split()[::-1] + [""] * WORDS for mission in layouts.mission.tolist()]
    for i in range(WORDS):
        found[f"word {i + 1} of the mission from its end"] = np.array([line[i] for line in words])
    for name, kind in KINDS.items():
        present = (flat & 15) == kind
        some = present.any(1)
        first, last = np.argmax(present, 1), flat.shape[1] - 1 - np.argmax(present[:, ::-1], 1)
        found[f"number of {name}s"] = present.sum(1)
        for which, at in (("first", first), ("last", last)):
            found[f"place of the {which} {name}"] = np.where(some, at, -1)
            found[f"color and state of the {which} {name}"] = np.where(some, flat[lanes, at] >> 4, -1)
            named = [core.COLOR_NAMES[code >> 4 & 7] + " " + name for code in (flat[lanes, at] * some).tolist()]
            found[f"whether the mission names the {which} {name}"] = some * np.char.count(layouts.mission, named)
            found[f"the {which} {name} seen from the agent"] = np.where(some, at - agent, -flat.shape[1])
        found[f"colors of the first and the last {name}"] = np.where(some, flat[lanes, first] << 16 | flat[lanes, last], -1)
    whole = np.column_stack([flat, agent, layouts.direction]).astype(np.int32)
    found["checksum"] = np.array([zlib.crc32(row.tobytes() + m.encode()) % BUCKETS for row, m in zip(whole, layouts.mission)])
    return found


def pvalue(one, two):
    """Of the chi-square test that two samples of categories come from the same distribution."""
    values, index = np.unique(np.concatenate([one, two]), return_inverse=True)
    table = np.stack([np.bincount(part, minlength=len(values)) for part in np.split(index, [len(one)])])
    rare = table.sum(0) < RARE
    pooled = table[:, rare].sum(1)
    table = np.column_stack([table[:, ~rare], pooled] if pooled.sum() >= RARE else [table[:, ~rare]])
    return 1.0 if table.shape[1] == 1 else stats.chi2_contingency(table).pvalue


def assert_same_law(ours, theirs, level=1e-3):
    """Assert that no feature of the layouts tells the two samples apart."""
    one, two = features(ours), features(theirs)
    for name in one:
        assert pvalue(one[name], two[name]) > level, f"{name} is distributed differently"
