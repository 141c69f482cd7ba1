import pytest

from explore_gym.envs.gridworlds.dist_shift import DistShift
from explore_gym.envs.gridworlds.grid import CHARS, FORWARD


def test_strips_of_lava():
    env = DistShift(strip2_row=5)
    _, info = env.reset(seed=0)
    rows = ["".join(CHARS[code & 15] for code in row) for row in env.get_state()["grid"].tolist()]
    assert rows == ["#########", "#..VVV.G#", *["#.......#"] * 3, "#..VVV..#", "#########"]
    assert info["coverage"] == 1 / (7 * 5 - 6)


def test_the_straight_way_leads_into_lava():
    env = DistShift()
    env.reset(seed=0)
    assert env.step(FORWARD)[1:4] == (0.0, False, False)
    assert env.step(FORWARD)[1:4] == (0.0, True, False)


def test_the_strip_decides_how_long_the_safe_way_is():
    lengths = {}
    for strip2_row in (2, 5):
        env = DistShift(strip2_row=strip2_row)
        env.reset(seed=0)
        model = env.to_tabular()
        lengths[strip2_row] = next(h for h in range(30) if model.optimal_values(horizon=h)[0] > 0)
    assert lengths == {2: 13, 5: 11}  # 6 columns, down and up again 2 or 1 rows, 3 turns: the goal is above its column


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(width=6), r"width must be an integer in \[7, 255\], got 6"),
        (dict(height=4), r"height must be an integer in \[5, 255\], got 4"),
        (dict(strip2_row=6), r"strip2_row must be an integer in \[1, 5\], got 6"),
        (dict(agent_pos=(4, 2)), r"agent_pos must not be in the lava, got \(4, 2\)"),
        (dict(agent_pos=(7, 1)), "agent_pos must not be the goal's position"),
        (dict(agent_pos=(1, 6)), r"agent_pos must be None or .* 1..7 and 1..5, got \(1, 6\)"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DistShift(**kwargs)
