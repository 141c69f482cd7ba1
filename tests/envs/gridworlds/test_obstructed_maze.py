import numpy as np
import pytest

from explore_gym.envs.gridworlds.grid import (
    BALL,
    BLUE,
    BOX,
    DOOR,
    EAST,
    EMPTY,
    GREEN,
    KEY,
    LOCKED,
    PICKUP,
    TOGGLE,
    unbox,
)
from explore_gym.envs.gridworlds.obstructed_maze import ObstructedMaze, ObstructedMazeVector


def layouts(num=100, **kwargs):
    envs = ObstructedMazeVector(num_envs=num, **kwargs)
    _, info = envs.reset(seed=0)
    return envs.get_state(), info


def locked_doors(grid):
    """(row, col, colour) of each."""
    places = np.argwhere((grid & 15 == DOOR) & (grid >> 7 & 3 == LOCKED))
    return [(row, col, int(grid[row, col]) >> 4 & 7) for row, col in places.tolist()]


@pytest.mark.parametrize("quarters", [1, 2, 3, 4])
def test_each_quarter_has_two_locked_doors_with_keys_and_balls(quarters):
    states, _ = layouts(num_quarters=quarters)
    corners = set()
    for state in states:
        grid = state["grid"]
        doors = locked_doors(grid)
        assert len(doors) == 2 * quarters
        keys = sorted(int(unbox(code)) >> 4 & 7 for code in grid[grid & 15 == BOX])
        assert keys == sorted(color for *_, color in doors)
        assert np.sum(grid == BALL | GREEN << 4) == 2 * quarters
        for row, col, _ in doors:
            beside = [grid[row - 1, col], grid[row + 1, col], grid[row, col - 1], grid[row, col + 1]]
            assert BALL | GREEN << 4 in beside
        ((row, col),) = np.argwhere(grid == BALL | BLUE << 4).tolist()
        corners.add((col // 5, row // 5))
        assert 5 < state["row"] < 10 and 5 < state["col"] < 10  # the middle room
    assert corners == set([(2, 0), (2, 2), (0, 2), (0, 0)][:quarters])


def test_reachable_cells():
    two_rooms, _ = layouts(1, num_quarters=0)
    assert two_rooms["walkable"][0] == 2 * 16 + 1
    quarter, _ = layouts(1, num_quarters=1)
    assert quarter["walkable"][0] == 4 * 16 + 3  # the middle, the side, two corners and three doors
    full, _ = layouts(1)
    assert full["walkable"][0] == 9 * 16 + 12


def test_keys_without_boxes_and_doors_without_balls():
    (state,), _ = layouts(1, key_in_box=False, blocked=False)
    kind = state["grid"] & 15
    assert ((kind == KEY).sum(), (kind == BOX).sum(), (kind == BALL).sum()) == (8, 0, 1)


def test_balls_can_take_the_place_of_keys_unless_keys_come_last():
    def keys(**kwargs):
        states, _ = layouts(400, num_quarters=1, **kwargs)
        return {int(n) for n in (states["grid"] & 15 == BOX).sum((1, 2))}

    assert keys() == {2}
    assert keys(keys_last=False) == {1, 2}


def test_the_key_is_in_the_box_and_the_blue_ball_is_the_success():
    env = ObstructedMaze(num_quarters=0)
    env.reset(seed=0)
    grid = env.get_state()["grid"]
    ((row, col),) = np.argwhere(grid & 15 == BOX).tolist()
    ((_, _, color),) = locked_doors(grid)
    box = grid[row, col]
    grid[1:5, 1:5] = EMPTY
    grid[2, 3] = box
    env.set_state(grid=grid, row=2, col=2, direction=EAST)
    env.step(TOGGLE)
    assert env.get_state()["grid"][2, 3] == KEY | color << 4
    grid[2, 3] = BALL | GREEN << 4
    env.set_state(grid=grid)
    assert env.step(PICKUP)[1:3] == (0.0, False)
    grid[2, 3] = BALL | BLUE << 4
    env.set_state(grid=grid, carrying=EMPTY)
    assert env.step(PICKUP)[1:3] == (pytest.approx(1 - 0.9 * 3 / 288), True)


@pytest.mark.parametrize(("agent_room", "first"), [((2, 1), (2, 1)), ([1, 2], (1, 2)), (None, (1, 1))])
def test_the_agents_room(agent_room, first):
    states, _ = layouts(20, num_quarters=2, agent_room=agent_room)
    assert {(int(s["col"]) // 5, int(s["row"]) // 5) for s in states} == {first}


def test_small_ones_can_be_solved():
    env = ObstructedMaze(num_quarters=0, key_in_box=False, blocked=False)
    for seed in range(3):
        env.reset(seed=seed)
        assert len(env.shortest_path()) < env.time_limit


def test_time_limits():
    assert [ObstructedMaze(num_quarters=n).time_limit for n in range(5)] == [288, 720, 1584, 2592, 3600]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(num_quarters=5), r"num_quarters must be an integer in \[0, 4\], got 5"),
        (dict(agent_room=(2, 2)), r"agent_room must be one of \(1, 1\), \(2, 1\), .* here, got \(2, 2\)"),
        (dict(num_quarters=1, agent_room=(1, 2)), r"agent_room must be one of \(1, 1\), \(2, 1\) here, got \(1, 2\)"),
        (dict(num_quarters=0, agent_room=(1, 1)), r"agent_room must be one of \(0, 0\) here, got \(1, 1\)"),
        (dict(agent_room=3), "agent_room must be one of .*, got 3"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ObstructedMaze(**kwargs)
