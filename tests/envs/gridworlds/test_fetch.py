import numpy as np
import pytest
from parity import drawn

from explore_gym.envs.gridworlds.fetch import MISSIONS, Fetch, FetchVector
from explore_gym.envs.gridworlds.grid import BALL, BLUE, COLOR_NAMES, KEY, PICKUP, RED, cell


def pick_up(code):
    """The result of picking up an object where a red key is asked for."""
    env = Fetch(max_steps=10)
    env.reset(seed=0)
    target = cell(KEY, RED)
    env.set_state(grid=drawn(env, "########", "#.X....#", X=code), row=1, col=1, direction=0, target=target)
    return env.step(PICKUP)[1:4]


def test_only_the_object_asked_for_is_rewarded():
    assert pick_up(cell(KEY, RED)) == (pytest.approx(1 - 0.9 / 10), True, False)
    assert pick_up(cell(KEY, BLUE)) == (0.0, True, False)
    assert pick_up(cell(BALL, RED)) == (0.0, True, False)


def test_missions_are_minigrids_sentences():
    assert len(set(MISSIONS)) == 5 * 6 * 2
    assert {"get a red key", "go get a grey ball", "fetch a blue key", "go fetch a green ball"} < set(MISSIONS)
    assert "you must fetch a purple ball" in MISSIONS


def test_the_mission_names_the_target_which_is_there():
    envs = FetchVector(num_envs=300)
    obs, _ = envs.reset(seed=0)
    for mission, state in zip(obs["mission"], envs.get_state(), strict=True):
        *_, color, kind = mission.split()
        assert state["target"] == cell(dict(key=KEY, ball=BALL)[kind], COLOR_NAMES.index(color))
        assert state["target"] in state["grid"]
        assert np.isin(state["grid"] & 15, [KEY, BALL]).sum() == 3


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(size=3), r"size must be an integer in \[4, 255\], got 3"),
        (dict(size=5, num_objects=9), r"num_objects must be an integer in \[1, 8\], got 9"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Fetch(**kwargs)
