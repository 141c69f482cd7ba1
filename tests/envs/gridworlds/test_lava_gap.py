import numpy as np
import pytest
from scipy import stats

from explore_gym.envs.gridworlds.grid import EMPTY, FORWARD, GREY_WALL, RED_LAVA
from explore_gym.envs.gridworlds.lava_gap import LavaGap, LavaGapVector


@pytest.mark.parametrize(("obstacle", "code"), [("lava", RED_LAVA), ("wall", GREY_WALL)])
def test_one_gap_in_one_strip_all_equally_likely(obstacle, code):
    envs = LavaGapVector(num_envs=3000, obstacle=obstacle)
    obs, _ = envs.reset(seed=0)
    inner = envs.get_state()["grid"][:, 1:6, 1:6]
    cols, rows = np.argmax((inner == code).sum(1), 1), np.argmax((inner == code).any(2), 1)
    strips = inner[np.arange(3000), :, cols]
    assert np.all((strips == code).sum(1) == 4)
    assert np.all((inner == code).sum((1, 2)) == 4)
    gaps = np.argmax(strips == EMPTY, 1)
    assert stats.chisquare(np.bincount(5 * (cols - 1) + gaps, minlength=15)).pvalue > 1e-3
    assert rows.max() <= 1
    expected = dict(lava="avoid the lava and get to the green goal square")
    assert obs["mission"][0] == expected.get(obstacle, "find the opening and get to the green goal square")


def test_lava_ends_the_episode():
    env = LavaGap()
    env.reset(seed=0)
    grid = env.get_state()["grid"].copy()
    grid[1, 2] = RED_LAVA
    env.set_state(grid=grid)
    assert env.step(FORWARD)[1:4] == (0.0, True, False)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(size=4), r"size must be an integer in \[5, 255\], got 4"),
        (dict(obstacle=9), r"obstacle must be one of \['lava', 'wall'\], got 9"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LavaGap(**kwargs)
