import numpy as np
import pytest
from parity import drawn
from scipy import stats

from explore_gym.envs.gridworlds.crossing import Crossing, CrossingVector
from explore_gym.envs.gridworlds.grid import EMPTY, FORWARD, GREEN_GOAL, GREY_WALL, RED_LAVA, TURN_RIGHT


@pytest.mark.parametrize(("obstacle", "code"), [("lava", RED_LAVA), ("wall", GREY_WALL)])
def test_two_rivers_in_the_smallest_room_leave_two_ways(obstacle, code):
    envs = CrossingVector(num_envs=400, size=5, num_crossings=2, obstacle=obstacle)
    envs.reset(seed=0)
    state = envs.get_state()
    right_first = state["grid"][:, 1, 2] == EMPTY
    for grid, right in zip(state["grid"], right_first, strict=True):
        ways = [[EMPTY, EMPTY, EMPTY], [code, code, EMPTY], [EMPTY, code, GREEN_GOAL]]
        assert grid[1:4, 1:4].tolist() == (ways if right else np.transpose(ways).tolist())
    assert stats.binomtest(int(right_first.sum()), 400).pvalue > 1e-3
    assert np.all(state["walkable"] == 5)  # the fourth room is shut off


def test_rivers_are_as_many_as_asked_for():
    for num_crossings in (0, 3, 6):
        env = Crossing(num_crossings=num_crossings)
        env.reset(seed=1)
        state = env.get_state()
        lava = state["grid"] == RED_LAVA
        rivers = (lava.sum(0) > 5).sum() + (lava.sum(1) > 5).sum()  # one has 6 cells or more besides its opening
        assert (rivers, state["rivers"].sum()) == (num_crossings, num_crossings)


def test_lava_ends_the_episode_and_walls_do_not():
    for obstacle, ends in (("lava", True), ("wall", False)):
        env = Crossing(obstacle=obstacle)
        obs, _ = env.reset(seed=0)
        env.set_state(grid=drawn(env, "#########", "#.~G#" if ends else "#.#G#"))
        assert obs["mission"].startswith("avoid the lava" if ends else "find the opening")
        _, reward, terminated, _, info = env.step(FORWARD)
        assert (reward, terminated, info["success"]) == (0.0, ends, False)


def test_reward_on_the_goal():
    env = Crossing(max_steps=50)
    env.reset(seed=0)
    env.set_state(grid=drawn(env, "#########", "#..######", "##G######"))
    rewards = [env.step(action)[1] for action in (FORWARD, TURN_RIGHT, FORWARD)]
    assert rewards == [0.0, 0.0, pytest.approx(1 - 0.9 * 3 / 50)]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(size=8), r"size must be an odd integer in \[5, 255\], got 8"),
        (dict(num_crossings=7), r"num_crossings must be an integer in \[0, 6\], got 7"),
        (dict(obstacle="water"), r"obstacle must be one of \['lava', 'wall'\], got 'water'"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Crossing(**kwargs)
