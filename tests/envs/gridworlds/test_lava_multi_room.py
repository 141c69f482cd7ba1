import itertools

import numpy as np
import pytest
from minigrid.envs.multiroom import MultiRoomEnv
from parity import assert_same_law, drawn, minigrid_layouts, our_layouts
from scipy import ndimage

from explore_gym.envs.gridworlds.grid import (
    BLUE,
    CLOSED,
    DONE,
    DOOR,
    EAST,
    EMPTY,
    FORWARD,
    GOAL,
    GREEN_GOAL,
    GREY_WALL,
    LAVA,
    OPEN,
    RED_LAVA,
    TOGGLE,
    TURN_LEFT,
    WALL,
    cell,
)
from explore_gym.envs.gridworlds.lava_multi_room import LavaMultiRoom, LavaMultiRoomVector

AROUND = np.ones((3, 3), bool)


@pytest.fixture(scope="module")
def layouts():
    envs = LavaMultiRoomVector(num_envs=300)
    envs.reset(seed=0)
    return envs.get_state()


def two_rooms():
    """An agent that looks at a closed door, two rooms of two cells and one: forward, toggle and three times forward."""
    env = LavaMultiRoom()
    env.reset(seed=0)
    env.set_state(grid=drawn(env, "~~~~~~", "~..D.G", "~~~~~~", D=cell(DOOR, BLUE, CLOSED)), row=1, col=1, direction=EAST)
    return env


def test_door_goal():
    env = two_rooms()
    results = [env.step(action) for action in (FORWARD, TOGGLE, FORWARD, FORWARD, FORWARD)]
    assert [(r[1], r[2]) for r in results] == [(0.0, False)] * 4 + [(1.0, True)]
    assert [r[4]["success"] for r in results] == [False] * 4 + [True]
    assert [r[4]["cell"] for r in results] == [25 + 2, 25 + 2, 25 + 3, 25 + 4, 25 + 5]


def test_a_late_success_pays_as_much():
    env = two_rooms()
    env.set_state(col=4, t=118)
    assert env.step(FORWARD)[1:4] == (1.0, True, False)  # the goal is beside (1, 4)


def test_closed_doors_stop():
    env = two_rooms()
    env.step(FORWARD)
    assert env.step(FORWARD)[4]["cell"] == 25 + 2


def test_lava_ends_the_episode_with_nothing():
    env = two_rooms()
    env.step(TURN_LEFT)
    _, reward, terminated, truncated, info = env.step(FORWARD)
    assert (reward, terminated, truncated, info["success"], info["cell"]) == (0.0, True, False, False, 1)


def test_the_horizon_is_20_steps_for_each_room():
    assert LavaMultiRoom().time_limit == 120
    assert LavaMultiRoom(num_rooms=10).time_limit == 200
    env = LavaMultiRoom(max_steps=3)
    env.reset(seed=0)
    assert [env.step(DONE)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


def test_rooms_are_lined_with_lava_and_the_rest_is_wall(layouts):
    for grid in layouts["grid"] & 15:
        floor = (grid == EMPTY) | (grid == GOAL)
        border = ndimage.binary_dilation(floor, AROUND) & ~floor
        assert set(np.unique(grid[border])) == {LAVA, DOOR}
        assert np.all(grid[~floor & ~border] == WALL)
        areas, count = ndimage.label(floor)
        assert count == 6
        for rows, cols in ndimage.find_objects(areas):
            assert 2 <= rows.stop - rows.start <= 4 and 2 <= cols.stop - cols.start <= 4
            assert floor[rows, cols].all()
    assert set(np.unique(layouts["grid"][(layouts["grid"] & 15) == LAVA])) == {RED_LAVA}


def test_doors_join_neighbours_in_the_chain_and_change_colour(layouts):
    for state in layouts:
        areas, _ = ndimage.label(np.isin(state["grid"], (EMPTY, GREEN_GOAL)))
        here, colors = areas[state["row"], state["col"]], []
        for row, col in state["rooms"][1:, 4:].tolist():
            code = state["grid"][row, col]
            assert code == cell(DOOR, code >> 4 & 7, CLOSED)
            colors.append(code >> 4 & 7)
            joined = {areas[row - 1, col], areas[row + 1, col], areas[row, col - 1], areas[row, col + 1]} - {0}
            assert here in joined and len(joined) == 2
            (here,) = joined - {here}
        goal = tuple(np.argwhere(state["grid"] == GREEN_GOAL)[0])
        assert here == areas[goal]  # in the last room; the agent was in the first
        assert all(a != b for a, b in itertools.pairwise(colors))


def test_the_chain_is_distributed_like_minigrids():
    ours = our_layouts(LavaMultiRoomVector, 500)
    kept = ours.grid == GREEN_GOAL
    kept |= ours.grid & 15 == DOOR
    theirs = minigrid_layouts(MultiRoomEnv(6, 6, 6), 500)
    grid = np.where(np.isin(theirs.grid & 15, (DOOR, GOAL)), theirs.grid, EMPTY)
    mission = np.full(500, "")
    assert_same_law(
        ours._replace(grid=np.where(kept, ours.grid, EMPTY), mission=mission), theirs._replace(grid=grid, mission=mission)
    )


def test_coverage_counts_floor_and_doors(layouts):
    count = np.isin(layouts["grid"] & 15, (EMPTY, GOAL, DOOR)).sum((1, 2))
    np.testing.assert_array_equal(layouts["walkable"], count)
    env = two_rooms()
    env.set_state(walkable=5, visited=1)
    assert env.step(FORWARD)[4]["coverage"] == 2 / 5


def test_every_layout_can_be_solved_in_time():
    env = LavaMultiRoom(num_contexts=15)
    lengths = {}
    for seed in range(30):
        _, info = env.reset(seed=seed)
        if info["context"] not in lengths:
            lengths[info["context"]] = len(env.shortest_path())
    assert len(lengths) > 10
    assert min(lengths.values()) > 5 * 3  # toggle, onto the door and on
    assert max(lengths.values()) < 120


def test_contexts_fix_rooms_goal_and_start():
    def start(num_contexts, layout_seed, seed):
        envs = LavaMultiRoomVector(num_envs=60, num_contexts=num_contexts, layout_seed=layout_seed)
        _, info = envs.reset(seed=seed)
        s = envs.get_state()
        return [(c, g.tobytes(), *pose) for c, g, *pose in zip(info["context"], s["grid"], s["row"], s["col"], s["direction"])]

    three = set(start(3, 7, seed=0))
    assert sorted(episode[0] for episode in three) == [0, 1, 2]
    assert set(start(3, 7, seed=100)) == three
    assert not {episode[1:] for episode in three} & {episode[1:] for episode in start(3, 8, seed=0)}
    assert len(set(start(None, 0, seed=0))) == 60


def test_open_doors_and_more_rooms():
    envs = LavaMultiRoomVector(num_envs=30, num_rooms=10, open_doors=True)
    envs.reset(seed=0)
    for grid in envs.get_state()["grid"]:
        doors = grid[grid & 15 == DOOR]
        assert len(doors) == 9
        assert np.all(doors >> 7 & 3 == OPEN)
        assert GREY_WALL in grid


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(num_rooms=0), r"num_rooms must be an integer in \[1, 12\], got 0"),
        (dict(num_rooms=13), r"num_rooms must be an integer in \[1, 12\], got 13"),
        (dict(max_room_size=3), r"max_room_size must be an integer in \[4, 23\], got 3"),
        (dict(size=8), r"size must be an integer in \[9, 255\], got 8"),
        (dict(num_contexts=0), "num_contexts must be an integer in .*, got 0"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LavaMultiRoom(**kwargs)
