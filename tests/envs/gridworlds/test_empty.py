import numpy as np
import pytest

from explore_gym.envs.gridworlds.empty import Empty, EmptyVector
from explore_gym.envs.gridworlds.grid import EAST, FORWARD, GREEN_GOAL, GREY_WALL, SOUTH, TURN_RIGHT


def test_the_goal_is_in_the_corner_opposite_to_the_start():
    env = Empty()
    obs, info = env.reset(seed=0)
    state = env.get_state()
    assert np.argwhere(state["grid"] == GREEN_GOAL).tolist() == [[6, 6]]
    assert (state["row"], state["col"], state["direction"]) == (1, 1, EAST)
    assert obs["mission"] == "get to the green goal square"
    assert (info["cell"], info["first_visit"], info["coverage"]) == (9, 0, 1 / 36)


def test_the_shortest_way_has_the_value_of_the_model():
    env = Empty(size=5)
    env.reset(seed=0)
    model = env.to_tabular()
    assert len(model.states) == 32  # (9 cells - the goal) x 4 directions
    assert model.optimal_values(horizon=5)[0] == pytest.approx(1 - 0.9 / 100)  # the model's clock stands still
    assert model.optimal_values(horizon=4)[0] == 0.0
    rewards = [env.step(action)[1] for action in (FORWARD, FORWARD, TURN_RIGHT, FORWARD, FORWARD)]
    assert rewards == [0.0, 0.0, 0.0, 0.0, pytest.approx(1 - 0.9 * 5 / 100)]


def test_start():
    env = Empty(agent_pos=[2, 5], agent_dir=SOUTH)
    env.reset(seed=0)
    state = env.get_state()
    assert (state["row"], state["col"], state["direction"]) == (5, 2, SOUTH)
    envs = EmptyVector(num_envs=500, agent_pos=None)
    envs.reset(seed=0)
    state = envs.get_state()
    assert len(set(zip(state["row"].tolist(), state["col"].tolist(), strict=True))) == 35
    assert set(state["direction"].tolist()) == {0, 1, 2, 3}


def test_time_limit():
    assert Empty().time_limit == 256
    assert Empty(max_steps=7).time_limit == 7


def test_walls_hide_nothing_unless_asked_to():
    seen = Empty(see_through_walls=True).reset(seed=0)[0]["image"]
    hidden = Empty(see_through_walls=False).reset(seed=0)[0]["image"]
    assert np.all(seen[0, :, 0] == GREY_WALL & 15)  # beyond the wall on the left hand
    assert np.all(hidden[0, :, 0] == 0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(size=3), r"size must be an integer in \[4, 255\], got 3"),
        (dict(agent_dir=4), r"agent_dir must be an integer in \[0, 3\], got 4"),
        (dict(agent_pos=(7, 1)), r"agent_pos must be None or \(column, row\) within the walls, 1..6 and 1..6, got \(7, 1\)"),
        (dict(agent_pos=5), "agent_pos must be None or .*, got 5"),
        (dict(agent_pos=[6, 6]), r"agent_pos must not be the goal's position, got \[6, 6\]"),
        (dict(max_steps=0), "max_steps must be an integer in .*, got 0"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Empty(**kwargs)
