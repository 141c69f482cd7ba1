"""Minigrid's environments on our grid core: from the same layout both do the same, and their layouts have the same law."""

import sys

import numpy as np
import pytest
from minigrid import envs as minigrid_envs
from parity import WEIGHTS, assert_same_law, minigrid_layouts, our_layouts, play
from scipy import ndimage, stats

from explore_gym.envs.gridworlds import (
    crossing,
    dist_shift,
    door_key,
    dynamic_obstacles,
    empty,
    fetch,
    go_to_door,
    go_to_object,
    lava_gap,
    locked_room,
    memory,
    multi_room,
    put_near,
    red_blue_doors,
)
from explore_gym.envs.gridworlds import grid as core


def find(minigrid, color, kind):
    """(column, row) of the only object of this colour and kind."""
    (index,) = (i for i, thing in enumerate(minigrid.grid.grid) if thing and (thing.color, thing.type) == (color, kind))
    return index % minigrid.width, index // minigrid.width


def at_first(minigrid, state):
    """The object that the mission names last is the target."""
    minigrid.target_pos = find(minigrid, *minigrid.mission.split()[-2:])


def in_memory(minigrid, state):
    minigrid.success_pos = int(state["end_col"]), int(state["success_row"])
    minigrid.failure_pos = int(state["end_col"]), int(state["failure_row"])


def two_doors(minigrid, state):
    minigrid.red_door = minigrid.grid.get(*find(minigrid, "red", "door"))
    minigrid.blue_door = minigrid.grid.get(*find(minigrid, "blue", "door"))


def to_fetch(minigrid, state):
    minigrid.targetColor, minigrid.targetType = minigrid.mission.split()[-2:]


def to_put_near(minigrid, state):
    at_first(minigrid, state)
    minigrid.moveColor, minigrid.move_type = minigrid.mission.split()[2:4]


def obstacles(minigrid, state):
    minigrid.obstacles = []
    for row, col in places(state):
        minigrid.obstacles.append(minigrid.grid.get(col, row))
        minigrid.obstacles[-1].cur_pos = col, row


def follow_obstacles(minigrid, state):
    minigrid.moves = dict(zip(map(id, minigrid.obstacles), places(state)))


def places(state):
    return [divmod(int(index), state["grid"].shape[1]) for index in state["obstacles"]]


class Following(minigrid_envs.DynamicObstaclesEnv):
    """Minigrid's environment with obstacles that move as ours have; moves that it would not make raise, and are not made."""

    moves = {}

    def place_obj(self, obj, top=None, size=None, reject_fn=None, max_tries=float("inf")):
        if id(obj) not in self.moves:
            return super().place_obj(obj, top, size, reject_fn, max_tries)
        row, col = self.moves[id(obj)]
        assert top[0] <= col < top[0] + size[0]
        assert top[1] <= row < top[1] + size[1]
        assert self.grid.get(col, row) is None
        assert (col, row) != tuple(self.agent_pos)
        self.put_obj(obj, col, row)
        return col, row


# name -> (our class and arguments, Minigrid's class and arguments, prepare, follow); sizes are the defaults
CASES = {
    "Empty": (empty.Empty, dict(agent_pos=None), minigrid_envs.EmptyEnv, dict(agent_start_pos=None)),
    "LavaCrossing": (crossing.Crossing, dict(num_crossings=4), minigrid_envs.CrossingEnv, dict(num_crossings=4)),
    "SimpleCrossing": (
        crossing.Crossing,
        dict(num_crossings=3, obstacle="wall"),
        minigrid_envs.CrossingEnv,
        dict(num_crossings=3, obstacle_type="wall"),
    ),
    "LavaGap": (lava_gap.LavaGap, {}, minigrid_envs.LavaGapEnv, dict(size=7)),
    "DistShift": (
        dist_shift.DistShift,
        dict(agent_pos=None, strip2_row=4),
        minigrid_envs.DistShiftEnv,
        dict(agent_start_pos=None, strip2_row=4),
    ),
    "DoorKey": (door_key.DoorKey, {}, minigrid_envs.DoorKeyEnv, {}),
    "MultiRoom": (
        multi_room.MultiRoom,
        dict(min_rooms=2, max_room_size=7),
        minigrid_envs.MultiRoomEnv,
        dict(minNumRooms=2, maxNumRooms=6, maxRoomSize=7),
    ),
    "RedBlueDoors": (red_blue_doors.RedBlueDoors, {}, minigrid_envs.RedBlueDoorEnv, {}, two_doors),
    "Memory": (memory.Memory, dict(random_length=True), minigrid_envs.MemoryEnv, dict(size=9, random_length=True), in_memory),
    "DynamicObstacles": (
        dynamic_obstacles.DynamicObstacles,
        dict(agent_pos=None),
        Following,
        dict(agent_start_pos=None),
        obstacles,
        follow_obstacles,
    ),
    "Fetch": (fetch.Fetch, dict(num_objects=6), minigrid_envs.FetchEnv, dict(numObjs=6), to_fetch),
    "GoToDoor": (go_to_door.GoToDoor, {}, minigrid_envs.GoToDoorEnv, {}, at_first),
    "GoToObject": (go_to_object.GoToObject, dict(num_objects=4), minigrid_envs.GoToObjectEnv, dict(numObjs=4), at_first),
    "PutNear": (put_near.PutNear, dict(max_steps=60), minigrid_envs.PutNearEnv, dict(max_steps=60), to_put_near),
    "LockedRoom": (locked_room.LockedRoom, {}, minigrid_envs.LockedRoomEnv, {}),
}
# What random play must at least have done in 100,000 steps for their equality to say something
EVENTS = {name: dict(success=100, terminated=100) for name in CASES}
EVENTS.update(
    DoorKey=dict(success=40, carried=1000, changed=500, truncated=50),
    MultiRoom=dict(success=40, changed=100, truncated=100),
    RedBlueDoors=dict(success=5, terminated=30, changed=50),
    PutNear=dict(success=20, terminated=300, carried=1000, truncated=300),
    LockedRoom=dict(success=10, carried=50, changed=100, truncated=100),
)
# Objects that can be passed or taken away in the course of an episode
PASSABLE = {name: {core.EMPTY, core.DOOR, core.KEY, core.BALL, core.BOX, core.GOAL} for name in CASES}
PASSABLE.update(Memory={core.EMPTY}, GoToDoor={core.EMPTY}, Fetch={core.EMPTY})

cases = pytest.mark.parametrize("name", CASES)


def ours_and_theirs(name, **kwargs):
    """Our environment, Minigrid's, and the further arguments of `play`."""
    ours, our_kwargs, theirs, their_kwargs, *hooks = CASES[name]
    env = ours(**our_kwargs, **kwargs)
    weights = np.array(WEIGHTS[: env.action_space.n])
    return env, theirs(**their_kwargs), dict(zip(("prepare", "follow"), hooks), weights=weights / weights.sum())


def vector_class(name):
    ours = CASES[name][0]
    return getattr(sys.modules[ours.__module__], f"{ours.__name__}Vector")


@cases
def test_random_steps_are_minigrids(name):
    ours, theirs, arguments = ours_and_theirs(name)
    assert play(ours, theirs, num_steps=1500, seed=1, **arguments)["episodes"] > 1


@pytest.mark.slow
@cases
def test_a_hundred_thousand_random_steps_are_minigrids(name):
    ours, theirs, arguments = ours_and_theirs(name)
    events = play(ours, theirs, num_steps=100_000, **arguments)
    for event, least in EVENTS[name].items():
        assert events[event] >= least, f"{events}"


@cases
def test_layouts_are_distributed_as_minigrids(name):
    _, kwargs, theirs, their_kwargs, *_ = CASES[name]
    layouts = our_layouts(vector_class(name), 3000, seed=0, **kwargs)
    assert_same_law(layouts, minigrid_layouts(theirs(**their_kwargs), 1500))


def test_another_distribution_is_told_apart():
    theirs = minigrid_layouts(minigrid_envs.DoorKeyEnv(), 1500)
    for changed in (
        theirs._replace(direction=np.where(np.arange(1500) % 5 == 0, 0, theirs.direction)),
        theirs._replace(grid=np.where(theirs.grid == core.KEY | core.YELLOW << 4, core.KEY, theirs.grid)),
        theirs._replace(mission=np.where(np.arange(1500) % 50 == 0, "get the key", theirs.mission)),
    ):
        with pytest.raises(AssertionError, match="is distributed differently"):
            assert_same_law(theirs, changed)


@cases
def test_coverage_counts_the_cells_that_can_be_reached(name):
    _, kwargs, *_ = CASES[name]
    envs = vector_class(name)(num_envs=50, **kwargs)
    _, info = envs.reset(seed=2)
    for state, coverage in zip(envs.get_state(), info["coverage"], strict=True):
        passable = np.isin(state["grid"] & 15, list(PASSABLE[name]))
        if name == "RedBlueDoors":
            passable[state["grid"] == core.cell(core.DOOR, core.BLUE, core.CLOSED)] = False
        if name == "PutNear":
            passable[~np.isin(state["grid"] & 15, [core.EMPTY, core.WALL, core.BOX]) & (state["grid"] != state["moved"])] = (
                False
            )
        areas, _ = ndimage.label(passable)
        reachable = (
            np.sum(areas == areas[state["row"], state["col"]]) if name != "Fetch" else passable.sum()
        )  # a corner is shut off
        assert state["walkable"] == reachable
        assert coverage == 1 / reachable
        assert state["grid"][state["row"], state["col"]] == core.EMPTY


@cases
def test_contexts_are_as_many_as_asked_for_and_leave_the_random_stream_alone(name):
    _, kwargs, *_ = CASES[name]
    envs = vector_class(name)(num_envs=300, num_contexts=3, **kwargs)
    obs, info = envs.reset(seed=3)
    found = {}
    for context, state, mission in zip(info["context"].tolist(), envs.get_state(), obs["mission"], strict=True):
        episode = (state["grid"].tobytes(), int(state["row"]), int(state["col"]), int(state["direction"]), mission)
        assert found.setdefault(context, episode) == episode
    assert sorted(found) == [0, 1, 2]
    assert len(set(found.values())) == 3
    assert stats.chisquare(np.bincount(info["context"])).pvalue > 1e-3
    assert len(set(envs.get_state()["rng"].tolist())) == 300
