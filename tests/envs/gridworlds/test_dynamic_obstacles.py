import numpy as np
import pytest
from scipy import stats

from explore_gym.envs.gridworlds.dynamic_obstacles import DynamicObstacles
from explore_gym.envs.gridworlds.grid import BALL, BLUE, EAST, EMPTY, FORWARD, GREEN_GOAL, SOUTH, TURN_LEFT, cell

SIZE = 8
COLLISION = (-1.0, True, False)


def with_obstacles(*places, row=1, col=1, direction=EAST):
    """A room of SIZE with obstacles at these (row, col)."""
    env = DynamicObstacles()
    env.reset(seed=0)
    grid = env.get_state()["grid"].copy()
    grid[1:-1, 1:-1] = EMPTY
    grid[SIZE - 2, SIZE - 2] = GREEN_GOAL
    for place in places:
        grid[place] = cell(BALL, BLUE)
    obstacles = [r * SIZE + c for r, c in places]
    env.set_state(grid=grid, obstacles=obstacles, row=row, col=col, direction=direction)
    return env


def test_obstacles_move_to_one_of_the_free_cells_around_them():
    around = {  # place -> where it can go; the agent is at (6, 2)
        (3, 3): {(2, 2), (2, 3), (2, 4), (3, 2), (3, 4), (4, 2), (4, 3), (4, 4)},
        (1, 6): {(1, 5), (2, 5), (2, 6)},
        (5, 6): {(4, 5), (4, 6), (5, 5), (6, 5)},  # not onto the goal
        (6, 1): {(5, 1), (5, 2)},  # not onto the agent
    }
    envs = with_obstacles(*around, row=6, col=2).fork(4000, seed=0)
    envs.step(np.full(4000, TURN_LEFT))
    state = envs.get_state()
    for i, cells in enumerate(around.values()):
        index, counts = np.unique(state["obstacles"][:, i], return_counts=True)
        assert {divmod(at, SIZE) for at in index.tolist()} == cells
        assert stats.chisquare(counts).pvalue > 1e-3
    assert np.all((state["grid"] == cell(BALL, BLUE)).sum((1, 2)) == 4)


def test_an_obstacle_without_a_free_cell_stays():
    env = with_obstacles((6, 1), (5, 1), (5, 2), (6, 2))
    env.step(TURN_LEFT)
    first, second, *_ = env.get_state()["obstacles"].tolist()
    assert first == 6 * SIZE + 1  # the others move after it
    assert second in (4 * SIZE + 1, 4 * SIZE + 2)


def test_forward_into_an_obstacle_or_a_wall_is_the_end_even_if_the_obstacle_moves_away():
    for seed in range(5):
        env = with_obstacles((1, 2), (5, 5), (5, 3), (3, 5))
        env.set_state(rng=seed)
        *_, info = result = env.step(FORWARD)
        assert result[1:4] == COLLISION and not info["success"]
    env = with_obstacles((5, 5), (5, 3), (3, 5), (3, 3), direction=3)
    assert env.step(FORWARD)[1:4] == COLLISION


def test_turning_beside_obstacles_and_walls_is_safe():
    env = with_obstacles((1, 2), (5, 5), (5, 3), (3, 5))
    assert env.step(TURN_LEFT)[1:4] == (0.0, False, False)


def test_the_goal():
    env = with_obstacles((1, 1), (1, 3), (1, 5), (3, 1), row=5, col=6, direction=SOUTH)
    assert env.step(FORWARD)[1:4] == (pytest.approx(1 - 0.9 / 256), True, False)


def test_the_model_of_a_small_room():
    env = DynamicObstacles(size=5, num_obstacles=1)
    env.reset(seed=0)
    model = env.to_tabular()
    np.testing.assert_allclose(model.P.sum(2) + model.terminated, 1.0)
    assert len(model.states) <= 8 * 4 * 7  # the agent's cell and direction, the obstacle's cell
    assert np.unique(np.round(model.P[model.P > 0], 6)).max() <= 1.0
    assert model.R.min() == -1.0


def test_actions():
    assert DynamicObstacles().action_space.n == 3


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(size=4), r"size must be an integer in \[5, 255\], got 4"),
        (dict(num_obstacles=6), r"num_obstacles must be an integer in \[1, 5\], got 6"),
        (dict(num_obstacles=0), "got 0"),
        (dict(agent_pos=(6, 6)), "agent_pos must not be the goal's position"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DynamicObstacles(**kwargs)
