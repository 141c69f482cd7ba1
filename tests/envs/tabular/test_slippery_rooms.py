import numpy as np
import pytest

from explore_gym.envs.tabular import solvers
from explore_gym.envs.tabular.slippery_rooms import SlipperyRooms, SlipperyRoomsVector, floor_plan

RIGHT, DOWN, LEFT, UP = range(4)


def state_at(env, row, column):
    return env.cells.tolist().index([row, column])


def test_the_house_has_four_rooms_and_four_doors():
    picture = ["".join(".#"[not free] for free in row) for row in floor_plan(7)]
    assert picture == ["...#...", ".......", "...#...", "#.###.#", "...#...", ".......", "...#..."]
    assert floor_plan(7).sum() == 40
    for size in (5, 9, 31):
        assert floor_plan(size).sum() == size * size - 2 * size + 5
    assert solvers.diameter(SlipperyRooms(size=5).P) < solvers.diameter(SlipperyRooms(size=9).P) < np.inf


def test_a_move_slips_into_the_other_directions_and_walls_hold():
    env = SlipperyRooms()
    corner = state_at(env, 0, 0)
    right, down = state_at(env, 0, 1), state_at(env, 1, 0)
    # 0.9 to the right; down, and left and up against the outer wall, 1/30 each
    assert env.P[corner, RIGHT, right] == pytest.approx(0.9)
    assert env.P[corner, RIGHT, down] == pytest.approx(0.1 / 3)
    assert env.P[corner, RIGHT, corner] == pytest.approx(0.2 / 3)
    assert env.P[corner, UP, corner] == pytest.approx(0.9 + 0.1 / 3)
    before_wall = state_at(env, 0, 2)
    assert env.P[before_wall, RIGHT, before_wall] == pytest.approx(0.9 + 0.1 / 3)
    door = state_at(env, 1, 3)
    assert env.P[door, LEFT, state_at(env, 1, 2)] == pytest.approx(0.9)
    assert env.P[door, DOWN, door] == pytest.approx(0.9 + 0.1 / 3)


def test_slip_and_size_are_arguments():
    env = SlipperyRooms(size=5, slip=0.6)
    assert len(env.R) == 20
    corner = state_at(env, 0, 0)
    assert env.P[corner, DOWN, state_at(env, 1, 0)] == pytest.approx(0.4)
    assert env.P[corner, DOWN, state_at(env, 0, 1)] == pytest.approx(0.2)


def test_sampled_moves_have_the_model_s_frequencies():
    envs = SlipperyRoomsVector(num_envs=20_000, size=5, slip=0.3)
    envs.reset(seed=0)
    for s in (0, 10, 19):
        for action in range(4):
            envs.set_state(s=s)
            obs, reward, *_ = envs.step(np.full(20_000, action))
            p = envs.env.P[s, action]
            share = np.bincount(obs, minlength=20) / 20_000
            assert (np.abs(share - p) <= 4 * np.sqrt(p * (1 - p) / 20_000)).all()
            assert (reward == (s == 19)).all()


def test_without_slips_the_goal_is_the_manhattan_distance_away():
    env = SlipperyRooms(slip=0.0, max_steps=20)
    goal = state_at(env, 6, 6)
    assert goal == 39
    steps = solvers.shortest_path(env.P, [goal])[0]
    assert steps[state_at(env, 0, 0)] == 12.0
    assert steps[state_at(env, 0, 6)] == 8.0  # the door is one column aside: there and back
    assert env.optimal_value() == pytest.approx(8.0)  # 12 of 20 steps to get there, then 1 a step
    assert SlipperyRooms(slip=0.0, max_steps=None).optimal_gain() == pytest.approx(1.0)


def test_slips_make_the_way_longer():
    steps = [solvers.shortest_path(SlipperyRooms(slip=slip).P, [39])[0][0] for slip in (0.0, 0.1, 0.3)]
    assert 12.0 == steps[0] < steps[1] < steps[2]


def test_it_is_episodic_or_continuing_and_reports_coverage():
    env = SlipperyRooms(slip=0.0, max_steps=3)
    assert env.reset(seed=0)[1] == {"coverage": 1 / 40}
    steps = [env.step(action) for action in (DOWN, RIGHT, UP)]
    assert [env.cells[step[0]].tolist() for step in steps] == [[1, 0], [1, 1], [0, 1]]
    assert steps[-1][4]["coverage"] == pytest.approx(4 / 40)
    assert [step[2:4] for step in steps] == [(False, False), (False, False), (False, True)]
    envs = SlipperyRoomsVector(num_envs=2, max_steps=None)
    envs.reset(seed=0)
    assert not any((envs.step(np.zeros(2, int))[3]).any() for _ in range(500))


def test_the_tabular_export_is_the_model_itself():
    env = SlipperyRooms(size=5)
    env.reset(seed=1)
    model = env.to_tabular()
    s = model.states["s"]
    assert sorted(s) == list(range(20))
    np.testing.assert_allclose(model.P, env.P[np.ix_(s, range(4), s)], atol=1e-12)
    np.testing.assert_allclose(model.R, env.R[s], atol=1e-12)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(size=8), r"size must be an odd integer in \[5, 31\], got 8"),
        (dict(size=33), "got 33"),
        (dict(slip=-0.1), r"slip must lie in \[0, 1\), got -0\.1"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SlipperyRooms(**kwargs)


def test_the_drawing_is_the_floor_plan():
    env = SlipperyRooms(size=5, render_mode="ansi")
    env.reset(seed=0)
    assert env.render().splitlines() == ["@.#..", ".....", "#.#.#", ".....", "..#.$"]
