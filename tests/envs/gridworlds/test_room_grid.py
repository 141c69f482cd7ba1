"""Environments of rooms in a grid beside Minigrid's: the same from the same layout, and layouts with the same law."""

import sys

import gymnasium as gym
import numpy as np
import pytest
from minigrid import envs as minigrid_envs
from minigrid.envs.obstructedmaze_v1 import ObstructedMaze_Full_V1
from parity import as_code, assert_same_law, minigrid_layouts, our_layouts, play
from scipy import ndimage, stats

from explore_gym.envs import VARIANTS
from explore_gym.envs.gridworlds import blocked_unlock_pickup, key_corridor, obstructed_maze, unlock, unlock_pickup
from explore_gym.envs.gridworlds import grid as core


def door_to_open(minigrid, state):
    (minigrid.door,) = (thing for thing in minigrid.grid.grid if thing and thing.type == "door")


def object_to_take(minigrid, state):
    (minigrid.obj,) = (thing for thing in minigrid.grid.grid if as_code(thing) == state["target"])


EAST_QUARTER = dict(agent_room=(2, 1), num_quarters=1)
FULL, FULL_V1 = minigrid_envs.ObstructedMaze_Full, ObstructedMaze_Full_V1
CORRIDOR, MAZE = key_corridor.KeyCorridor, obstructed_maze.ObstructedMaze
# name -> (our class, its arguments, Minigrid's class, its arguments)
CASES = {
    "Unlock": (unlock.Unlock, {}, minigrid_envs.UnlockEnv, {}),
    "UnlockPickup": (unlock_pickup.UnlockPickup, {}, minigrid_envs.UnlockPickupEnv, {}),
    "BlockedUnlockPickup": (blocked_unlock_pickup.BlockedUnlockPickup, {}, minigrid_envs.BlockedUnlockPickupEnv, {}),
    **{
        f"KeyCorridor{kwargs}": (CORRIDOR, kwargs, minigrid_envs.KeyCorridorEnv, kwargs)
        for kwargs in ({}, dict(room_size=3, num_rows=1), dict(room_size=3), dict(room_size=4, num_rows=2, obj_type="box"))
    },
    **{
        f"ObstructedMaze-1D{kwargs}": (MAZE, dict(num_quarters=0, **kwargs), minigrid_envs.ObstructedMaze_1Dlhb, kwargs)
        for kwargs in ({}, dict(blocked=False), dict(key_in_box=False, blocked=False))
    },
    **{
        f"ObstructedMaze-2D-v{version}{kwargs}": (
            MAZE,
            dict(keys_last=version == 1, max_steps=576, **EAST_QUARTER, **kwargs),
            (FULL, FULL_V1)[version],
            dict(num_rooms_visited=4, **EAST_QUARTER, **kwargs),
        )
        for version, kwargs in ((0, {}), (1, {}), (0, dict(blocked=False)), (0, dict(key_in_box=False, blocked=False)))
    },
    "ObstructedMaze-1Q-v0": (MAZE, dict(num_quarters=1, keys_last=False), FULL, dict(num_quarters=1, num_rooms_visited=5)),
    "ObstructedMaze-1Q-v1": (MAZE, dict(num_quarters=1), FULL_V1, dict(num_quarters=1, num_rooms_visited=5)),
    **{
        f"ObstructedMaze-2Q-v{version}": (
            MAZE,
            dict(num_quarters=2, agent_room=(2, 1), keys_last=version == 1),
            (FULL, FULL_V1)[version],
            dict(num_quarters=2, agent_room=(2, 1), num_rooms_visited=11),
        )
        for version in (0, 1)
    },
    "ObstructedMaze-Full-v0": (MAZE, dict(keys_last=False), FULL, {}),
    "ObstructedMaze-Full-v1": (MAZE, {}, FULL_V1, {}),
}
# What random play must at least have done in 100,000 steps for their equality to say something; the rest takes it too long
EVENTS = {name: dict(carried=200, changed=200) for name in CASES}
for name, least in {"Unlock": 8, "UnlockPickup": 8, "BlockedUnlockPickup": 8, "-1D": 25, "-2D": 8, "-1Q": 6}.items():
    for case in CASES:
        if case == name or (name[0] == "-" and name in case):
            EVENTS[case]["success"] = least
cases = pytest.mark.parametrize("name", CASES)
# One for each environment and each way of drawing a layout; resets of Minigrid's are slow
IDS = ["Unlock", "UnlockPickup", "BlockedUnlockPickup", "KeyCorridor{}", "ObstructedMaze-Full-v1"]
LAWS = [*IDS, "ObstructedMaze-1D{}", "ObstructedMaze-2D-v0{}", "ObstructedMaze-2Q-v0"]


def vector_class(name):
    ours = CASES[name][0]
    return getattr(sys.modules[ours.__module__], f"{ours.__name__}Vector")


def play_case(name, **arguments):
    ours, kwargs, theirs, their_kwargs = CASES[name]
    return play(
        ours(**kwargs), theirs(**their_kwargs), prepare=door_to_open if name == "Unlock" else object_to_take, **arguments
    )


@cases
def test_random_steps_are_minigrids(name):
    assert play_case(name, num_steps=2000, seed=1)["changed"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", IDS)
def test_a_hundred_thousand_random_steps_are_minigrids(name):
    events = play_case(name, num_steps=100_000)
    for event, least in EVENTS[name].items():
        assert events[event] >= least, f"{events}"


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
def test_layouts_are_distributed_as_minigrids(name):
    _, kwargs, theirs, their_kwargs = CASES[name]
    layouts = our_layouts(vector_class(name), 3000, seed=0, **kwargs)
    assert_same_law(layouts, minigrid_layouts(theirs(**their_kwargs), 800))


@cases
def test_coverage_counts_the_cells_that_can_be_reached(name):
    _, kwargs, *_ = CASES[name]
    envs = vector_class(name)(num_envs=50, **kwargs)
    _, info = envs.reset(seed=2)
    for state, coverage in zip(envs.get_state(), info["coverage"], strict=True):
        areas, _ = ndimage.label(state["grid"] & 15 != core.WALL)
        reachable = np.sum(areas == areas[state["row"], state["col"]])
        assert state["walkable"] == reachable
        assert coverage == 1 / reachable


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


def test_every_id_of_minigrids_makes_the_same_environment():
    for name, (base, kwargs) in VARIANTS.items():
        if not name.startswith(("KeyCorridor", "ObstructedMaze")):
            continue
        ours = gym.make(f"Explore/{name}", disable_env_checker=True).unwrapped
        theirs = gym.make(f"MiniGrid-{name}", disable_env_checker=True).unwrapped
        shape = (theirs.height, theirs.width)
        assert (ours.state_dtype["grid"].shape, ours.time_limit) == (shape, theirs.max_steps), (name, base, kwargs)
