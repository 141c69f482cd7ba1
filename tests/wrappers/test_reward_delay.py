"""`DelayReward` and `SparseReward`: what is paid when, and that sums stay as they are."""

import numpy as np
import pytest

from explore_gym.wrappers import DelayReward, SparseReward


def rewards(envs, actions):
    envs.reset(seed=0)
    return [envs.step([action])[1].item() for action in actions]


@pytest.mark.parametrize(
    ("every", "actions", "expected"),
    [
        (3, (1, 2, 0, 1), [0, 0, 3, 1]),  # truncated at step 4
        (3, (3, 3), [0, 6]),  # terminated at step 2
        (1, (1, 2, 0, 1), [1, 2, 0, 1]),
        (None, (1, 2, 0, 1), [0, 0, 0, 4]),
    ],
)
def test_rewards_are_paid_later_and_none_is_lost(line, every, actions, expected):
    assert rewards(DelayReward(line(), every), actions) == expected


@pytest.mark.parametrize(("mode", "expected"), [("NextStep", [0, 6, 0, 0, 2]), ("SameStep", [0, 6, 0, 2, 0])])
def test_the_count_starts_again_with_the_episode(line, mode, expected):
    assert rewards(DelayReward(line(mode=mode), 2), (3, 3, 1, 1, 1)) == expected


def test_what_an_abandoned_episode_is_owed_is_dropped(line):
    envs = DelayReward(line(2))
    envs.reset(seed=0)
    envs.step([1, 1])
    envs.reset(options={"reset_mask": np.array([True, False])})
    for _ in range(3):
        _, reward, *_ = envs.step([0, 1])
    assert reward.tolist() == [0.0, 4.0]


@pytest.mark.parametrize(
    ("arguments", "actions", "expected"),
    [
        (dict(unit=2), (1, 2, 0, 1), [0, 2, 0, 2]),
        (dict(unit=2.5), (1, 2, 0, 1), [0, 2.5, 0, 1.5]),  # the rest at the end
        (dict(unit=1), (3, 3), [3, 3]),
        (dict(threshold=4), (1, 2, 0, 1), [0, 0, 0, 1]),
        (dict(threshold=4.5), (1, 2, 0, 1), [0, 0, 0, 0]),
        (dict(threshold=4), (3, 3), [0, 1]),
    ],
)
def test_coins_and_thresholds(line, arguments, actions, expected):
    assert rewards(SparseReward(line(), **arguments), actions) == expected


def test_bad_arguments_are_refused(line):
    with pytest.raises(ValueError, match="every must be a positive integer or None, got 0"):
        DelayReward(line(), 0)
    for arguments in ({}, dict(unit=1, threshold=1)):
        with pytest.raises(ValueError, match="give either unit or threshold"):
            SparseReward(line(), **arguments)
    with pytest.raises(ValueError, match="unit must be a positive number, got -1"):
        SparseReward(line(), unit=-1)
    with pytest.raises(ValueError, match="threshold must be a finite number, got nan"):
        SparseReward(line(), threshold=float("nan"))
