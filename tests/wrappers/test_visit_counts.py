"""`VisitCounts`: counts and bonuses worked out by hand."""

import numpy as np
import pytest

from explore_gym.envs import testing
from explore_gym.wrappers import VisitCounts


def counts(info):
    return info["episodic_count"].tolist(), info["global_count"].tolist()


@pytest.mark.parametrize(
    ("bonus", "first", "again", "next_episode"),
    [("global", 1.0, 1 / 2**0.5, 1 / 3**0.5), ("episodic", 1.0, 0.0, 1.0), ("product", 1.0, 0.0, 1 / 3**0.5)],
)
def test_counts_and_bonuses_of_two_episodes(line, bonus, first, again, next_episode):
    envs = VisitCounts(line(), bonus=bonus, coef=2.0)
    _, info = envs.reset(seed=0)
    assert counts(info) == ([1], [1])
    for action, bonus_paid, expected in [(1, first, (1, 1)), (0, again, (2, 2)), (1, first, (1, 1)), (0, again, (2, 2))]:
        _, reward, _, truncated, info = envs.step([action])  # cells 1, 1, 2, 2
        assert reward == pytest.approx([action + 2 * bonus_paid]) and counts(info) == ([expected[0]], [expected[1]])
    assert truncated.tolist() == [True]
    assert counts(envs.reset(options={"reset_mask": np.array([True])})[1]) == ([1], [2])
    _, reward, _, _, info = envs.step([1])
    assert reward == pytest.approx([1 + 2 * next_episode]) and counts(info) == ([1], [3])


def test_without_a_bonus_the_reward_stays_as_it_is(line):
    envs = VisitCounts(line())
    envs.reset(seed=0)
    assert envs.step([2])[1].tolist() == [2.0]


def test_the_state_reached_is_in_final_info(line):
    envs = VisitCounts(line(2, "SameStep"), bonus="global")
    assert counts(envs.reset(seed=0)[1]) == ([1, 1], [2, 2])
    for _ in range(3):
        _, reward, _, _, info = envs.step([0, 1])
    assert counts(info) == ([4, 1], [5, 1]) and "final_info" not in info
    _, reward, _, truncated, info = envs.step([0, 3])  # cells 0 and 6, then both start in cell 0
    assert truncated.all() and counts(info["final_info"]) == ([5, 1], [6, 1]) and counts(info) == ([1, 1], [8, 8])
    assert reward == pytest.approx([1 / 6**0.5, 3 + 1])


def test_the_autoreset_step_pays_no_bonus_and_counts_the_start(line):
    envs = VisitCounts(line(mode="NextStep"), bonus="episodic")
    envs.reset(seed=0)
    envs.step([3]), envs.step([3])
    _, reward, _, _, info = envs.step([3])
    assert reward.tolist() == [0.0] and counts(info) == ([1], [2])


def test_lanes_share_global_counts_or_have_their_own(line):
    shared, apart = (VisitCounts(line(3), bonus="global", shared=shared) for shared in (True, False))
    shared.reset(seed=0), apart.reset(seed=0)
    _, reward, _, _, info = shared.step([1, 1, 2])  # the two arrivals in cell 1 are both counted
    assert counts(info) == ([1, 1, 1], [2, 2, 1]) and reward == pytest.approx([1 + 0.5**0.5, 1 + 0.5**0.5, 3])
    _, reward, _, _, info = apart.step([1, 1, 2])
    assert counts(info) == ([1, 1, 1], [1, 1, 1]) and reward.tolist() == [2.0, 2.0, 3.0]


def test_forget_clears_the_global_counts_alone(line):
    envs = VisitCounts(line())
    envs.reset(seed=0)
    envs.forget()
    assert counts(envs.step([0])[4]) == ([2], [1])


def test_a_seed_fixes_the_run_if_global_counts_are_forgotten(line):
    class Fresh(VisitCounts):
        def reset(self, **kwargs):
            if kwargs.get("seed") is not None:
                self.forget()
            return super().reset(**kwargs)

    testing.check_determinism(lambda num_envs: Fresh(line(num_envs), bonus="episodic"), num_steps=30)


def test_keys_are_whatever_a_function_makes_of_them(line):
    envs = VisitCounts(line(), key=lambda obs, info: obs[:, 0].astype(int) // 2)
    envs.reset(seed=0)
    assert counts(envs.step([1])[4]) == ([2], [2])  # cells 0 and 1 are one


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(bonus="sum"), r"bonus must be None or one of \['episodic', 'global', 'product'\], got 'sum'"),
        (dict(coef=np.inf), "coef must be a finite number, got inf"),
        (dict(key=3), "key must name an entry"),
    ],
)
def test_bad_arguments_are_refused(line, arguments, message):
    with pytest.raises(ValueError, match=message):
        VisitCounts(line(), **arguments)
