"""`StepCounter`: counts and fractions, in every autoreset mode."""

import numpy as np
import pytest

from explore_gym.wrappers import StepCounter


@pytest.mark.parametrize(("mode", "expected"), [("NextStep", [1, 2, 0, 1]), ("SameStep", [1, 0, 1, 0])])
def test_counts_steps_of_the_episode(line, mode, expected):
    envs = StepCounter(line(mode=mode))
    assert envs.reset(seed=0)[0][0, 2] == 0
    steps = [envs.step([3]) for _ in range(4)]  # an episode ends at its second step
    assert [obs[0, 2] for obs, *_ in steps] == expected
    if mode == "SameStep":
        assert [info["final_obs"][0][2] for *_, info in steps[1::2]] == [2, 2]


def test_a_fraction_of_the_horizon_stays_at_one(line):
    envs = StepCounter(line(), horizon=2)
    envs.reset(seed=0)
    assert [envs.step([1])[0][0, 2] for _ in range(4)] == [0.5, 1.0, 1.0, 1.0]
    assert envs.reset(options={"reset_mask": np.array([True])})[0][0, 2] == 0
    assert envs.single_observation_space.high[2] == 1


@pytest.mark.parametrize("horizon", [0, 1.5, "long", True])
def test_the_horizon_is_a_positive_integer(line, horizon):
    with pytest.raises(ValueError, match="horizon must be a positive integer or None, got"):
        StepCounter(line(), horizon)
