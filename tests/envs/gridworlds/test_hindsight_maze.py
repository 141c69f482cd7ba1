import numpy as np
import pytest
from scipy import ndimage, stats

from explore_gym.envs.gridworlds.hindsight_maze import (
    ARM,
    EAST,
    NOOP,
    NORTH,
    SOUTH,
    WEST,
    HindsightMaze,
    HindsightMazeVector,
)

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
CENTRE, INNER, GUARD = (9, 9), (7, 9), (6, 9)  # the centre of the hub, the cell before the northern guard, the guard's
BEYOND = (5, 9)


def distances(walls, start):
    """Steps from a cell to each cell, -1 where there is no way."""
    steps, frontier = np.full(walls.shape, -1), [start]
    steps[start] = 0
    for row, col in frontier:
        for down, right in MOVES:
            cell = row + down, col + right
            if not walls[cell] and steps[cell] < 0:
                steps[cell] = steps[row, col] + 1
                frontier.append(cell)
    return steps


def walk(env, targets, limit=500):
    """Walk from the centre to each of the cells in turn, trying again where a guard is. Returns the infos, one a step."""
    infos, here = [], CENTRE
    for target in targets:
        to_target = distances(env.walls, tuple(target))
        while to_target[here] > 0:
            action = next(a for a, (r, c) in enumerate(MOVES) if to_target[here[0] + r, here[1] + c] == to_target[here] - 1)
            infos.append(env.step(action)[4])
            here = divmod(infos[-1]["cell"], 19)
            assert len(infos) < limit
    return infos


def lanes(num, **kwargs):
    envs = HindsightMazeVector(num_envs=num, **kwargs)
    envs.reset(seed=0)
    return envs


def screens(obs):
    """The last layer: (num_envs, 25)."""
    return obs[:, 100:]


def placed(t, cell, **kwargs):
    """An environment in which t steps have passed, the agent on a cell."""
    env = HindsightMaze(**kwargs)
    env.reset(seed=0)
    for _ in range(t):
        env.step(NOOP)
    env.set_state(row=cell[0], col=cell[1])
    return env


def where(info):
    return divmod(info["cell"], 19)


def test_four_equal_arms_around_a_hub():
    env = HindsightMaze()
    np.testing.assert_array_equal(env.walls, np.rot90(env.walls))
    assert env.walls[[0, -1]].all() and env.walls[:, [0, -1]].all()
    assert not env.walls[8:11, 8:11].any()
    assert (~env.walls).sum() == 165 == 9 + 4 * 39
    arms = ~env.walls
    arms[8:11, 8:11] = False
    areas, count = ndimage.label(arms)
    assert count == 4
    assert sorted(areas[tuple(env.trackers.T)].tolist()) == [1, 2, 3, 4]
    for arm in range(4):
        cells = areas == areas[tuple(env.trackers[arm])]
        links = (cells[1:] & cells[:-1]).sum() + (cells[:, 1:] & cells[:, :-1]).sum()
        assert (cells.sum(), links) == (39, 38)  # a tree
        assert cells[tuple(env.guards[arm])]
    steps = distances(env.walls, CENTRE)
    assert steps[tuple(env.trackers.T)].tolist() == [30] * 4 == [steps.max()] * 4
    assert steps[tuple(env.guards.T)].tolist() == [3] * 4
    assert env.guards.tolist() == [[6, 9], [9, 12], [12, 9], [9, 6]]
    assert sum(line.count("T") for line in ARM) == 1


def test_guards_have_period_four_each_a_step_ahead():
    env = HindsightMaze()
    env.reset(seed=0)
    tracks = [env.get_state()["blocks"].tolist()]
    for _ in range(7):
        env.step(NOOP)
        tracks.append(env.get_state()["blocks"].tolist())
    assert [t[0] for t in tracks] == [0, 1, 2, 1, 0, 1, 2, 1]
    assert [t[1] for t in tracks] == [1, 2, 1, 0, 1, 2, 1, 0]
    assert [t[2] for t in tracks] == [2, 1, 0, 1, 2, 1, 0, 1]
    assert [t[3] for t in tracks] == [1, 0, 1, 2, 1, 0, 1, 2]


@pytest.mark.parametrize(
    ("t", "cells"), [(0, (INNER, GUARD, BEYOND)), (1, (GUARD, BEYOND)), (2, (INNER, GUARD)), (3, (GUARD, BEYOND))]
)
def test_passing_takes_timing(t, cells):
    env = placed(t, INNER)
    assert [where(env.step(NORTH)[4]) for _ in cells] == list(cells)


def test_who_hesitates_is_pushed_back_to_the_hub():
    env = placed(1, INNER)
    assert where(env.step(NORTH)[4]) == GUARD
    assert where(env.step(NOOP)[4]) == INNER
    env = placed(1, BEYOND)
    assert where(env.step(SOUTH)[4]) == GUARD
    assert where(env.step(WEST)[4]) == INNER  # a wall is no escape
    env = placed(1, BEYOND)
    env.step(SOUTH)
    assert where(env.step(SOUTH)[4]) == INNER


def test_walls_and_noop_stay():
    env = placed(0, (8, 8))
    for action in (NORTH, WEST, NOOP):
        assert where(env.step(action)[4]) == (8, 8)
    assert [where(env.step(action)[4]) for action in (EAST, SOUTH, WEST, NORTH)] == [(8, 9), (9, 9), (9, 8), (8, 8)]


def test_a_walk_to_the_northern_tracker():
    env = HindsightMaze()
    env.reset(seed=0)
    infos = walk(env, env.trackers[:1])
    assert len(infos) == 31  # one wait: the third step finds the guard in the corridor
    assert [info["trackers"] for info in infos] == [0] * 30 + [1]
    assert infos[-1]["visited"] == 31
    assert infos[-1]["coverage"] == 31 / 165
    assert infos[-1]["first_visit"] == 31
    assert infos[2]["cell"] == infos[1]["cell"] and infos[2]["first_visit"] == 2


def test_trackers_count_once_and_all_four_are_the_success():
    env = HindsightMaze()
    env.reset(seed=0)
    first = env.trackers[0]
    for _ in range(2):
        env.set_state(row=first[0] - 1, col=first[1])
        assert env.step(SOUTH)[4]["trackers"] == 1
        assert env.step(NOOP)[4]["trackers"] == 1
    env.reset()
    infos = walk(env, [cell for tracker in env.trackers for cell in (tracker, CENTRE)][:-1])
    reached = [info["trackers"] for info in infos]
    assert sorted(set(reached)) == [0, 1, 2, 3, 4] and reached == sorted(reached)
    assert [info["success"] for info in infos] == [count == 4 for count in reached]
    assert env.reset()[1]["trackers"] == 0


def test_five_hundred_steps_without_a_reward():
    env = HindsightMaze()
    env.reset(seed=0)
    results = [env.step(a) for a in np.random.default_rng(0).integers(0, 5, 500)]
    assert [r[1:4] for r in results] == [(0.0, False, False)] * 499 + [(0.0, False, True)]


def test_the_layers_of_the_observation():
    env = HindsightMaze()
    obs, _ = env.reset(seed=0)
    hub = [".#.#.", "#...#", ".....", "#...#", ".#.#."]
    layers = obs.reshape(5, 5, 5)
    assert layers[0].tolist() == [[float(char == "#") for char in row] for row in hub]
    assert np.argwhere(layers[3]).tolist() == [[2, 2]]
    assert not layers[[1, 2, 4]].any()  # guards and trackers are further away
    for t, col in enumerate((10, 9, 8, 9)):  # the northern guard's way
        layers = placed(t, INNER).set_state(row=7, col=9).reshape(5, 5, 5)
        assert np.argwhere(layers[1]).tolist() == [[1, col - 7]]
    row, col = env.trackers[0]
    layers = env.set_state(row=row - 2, col=col).reshape(5, 5, 5)
    assert np.argwhere(layers[2]).tolist() == [[4, 2]]
    assert layers[0, :, 3:].all()  # the border, and beyond it


def test_without_noise_the_screen_is_dark_and_nothing_is_drawn():
    envs = lanes(20)
    before = envs.get_state()["rng"]
    for actions in np.random.default_rng(0).integers(0, 5, (50, 20)):
        obs, *_ = envs.step(actions)
        assert not screens(obs).any()
    np.testing.assert_array_equal(envs.get_state()["rng"], before)


def test_brownian_guards_do_random_walks():
    envs = lanes(2000, noise="brownian")
    assert np.all(envs.get_state()["blocks"] == 1)
    transitions = np.zeros((3, 3), int)
    for t in range(5):
        before = envs.get_state()["blocks"]
        obs, *_ = envs.step(np.full(2000, NOOP))
        after = envs.get_state()["blocks"]
        if t == 4:
            np.add.at(transitions, (before, after), 1)
    assert not screens(obs).any()
    assert transitions[0, 2] == transitions[1, 1] == transitions[2, 0] == 0
    for pair in (transitions[0, [0, 1]], transitions[1, [0, 2]], transitions[2, [1, 2]]):
        assert stats.binomtest(int(pair[0]), int(pair.sum()), 0.5).pvalue > 1e-3
    assert abs(np.corrcoef(after.T) - np.eye(4)).max() < 0.1


def test_pixel_noise_in_a_quarter_of_the_steps():
    envs = lanes(4000, noise="pixel")
    for action in (NOOP, NORTH):
        obs, *_ = envs.step(np.full(4000, action))
        screen = screens(obs)
        noisy = screen.any(1)
        assert set(np.unique(screen)) == {0.0, 1.0}
        assert stats.binomtest(int(noisy.sum()), 4000, 0.25).pvalue > 1e-3
        fair = [stats.binomtest(int(n), int(noisy.sum()), 0.5).pvalue for n in screen[noisy].sum(0)]
        assert min(fair) > 1e-4
        assert abs(np.corrcoef(screen[noisy].T) - np.eye(25)).max() < 0.15


def test_noise_on_demand_comes_with_the_noop_alone():
    envs = lanes(2000, noise="on_demand")
    for action in (NORTH, NOOP, EAST, NOOP, SOUTH, WEST):
        obs, *_ = envs.step(np.full(2000, action))
        screen = screens(obs)
        assert screen.any() == (action == NOOP)
    obs, *_ = envs.step(np.full(2000, NOOP))
    fair = [stats.binomtest(int(n), 2000, 0.5).pvalue for n in screens(obs).sum(0)]
    assert min(fair) > 1e-4
    assert len(np.unique(screens(obs), axis=0)) > 1990


def test_persistent_noise_walks_in_steps_of_the_actions_parity():
    envs = lanes(1000, noise="persistent")
    screen = envs.get_state()["screen"].astype(int)
    assert stats.chisquare(np.bincount(screen.ravel(), minlength=50)).pvalue > 1e-3
    for action, size in ((NORTH, 1), (EAST, 11), (SOUTH, 1), (WEST, 11), (NOOP, 1)):
        obs, *_ = envs.step(np.full(1000, action))
        after = envs.get_state()["screen"].astype(int)
        np.testing.assert_array_equal(screens(obs), (after / 49).astype(np.float32))
        up, down = (after - screen) % 50 == size, (screen - after) % 50 == size
        assert np.all(up ^ down)
        assert stats.binomtest(int(up.sum()), up.size, 0.5).pvalue > 1e-3
        assert abs(np.corrcoef(up.T) - np.eye(25)).max() < 0.2
        screen = after
    assert envs.single_observation_space.contains(obs[0])


def test_sticky_actions_repeat_what_was_done():
    envs = lanes(4000, sticky_probability=0.25)
    *_, info = envs.step(np.full(4000, EAST))  # the no-op stands before the first
    stuck = info["action_taken"] == NOOP
    assert np.all(info["action_taken"][~stuck] == EAST)
    assert stats.binomtest(int(stuck.sum()), 4000, 0.25).pvalue > 1e-3
    np.testing.assert_array_equal(info["cell"] == 9 * 19 + 10, ~stuck)
    *_, info = envs.step(np.full(4000, WEST))
    again = info["action_taken"] != WEST
    np.testing.assert_array_equal(info["action_taken"][again], np.where(stuck, NOOP, EAST)[again])
    assert stats.binomtest(int(again.sum()), 4000, 0.25).pvalue > 1e-3


def test_sticky_noops_show_noise_on_demand():
    envs = lanes(500, noise="on_demand", sticky_probability=0.5)
    obs, _, _, _, info = envs.step(np.full(500, NORTH))
    np.testing.assert_array_equal(screens(obs).any(1), info["action_taken"] == NOOP)


def test_a_drawing_shows_walls_trackers_guards_and_screen():
    env = HindsightMaze(render_mode="ansi")
    env.reset(seed=0)
    rows = env.render().split("\n")
    assert rows[9][9] == "A"
    assert [rows[row][col] for row, col in env.trackers] == ["T"] * 4
    assert rows[6][10] == "B" and rows[9][12] == "B"
    assert rows[0][:19] == "#" * 19 and rows[0][20:25] == "-" * 5


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(noise="white"), "noise must be one of none, brownian, pixel, on_demand, persistent, got 'white'"),
        (dict(sticky_probability=1.0), r"sticky_probability must lie in \[0, 1\), got 1.0"),
        (dict(max_steps=0), "max_steps must be an integer in .*, got 0"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        HindsightMaze(**kwargs)
