import numpy as np
import pytest

from explore_gym.envs.tabular import solvers
from explore_gym.envs.tabular.garnet import Garnet
from explore_gym.envs.tabular.river_swim import RiverSwim

RIVER = RiverSwim(size=3, max_steps=None)
COIN = np.array([[[0.5]]]), np.array([[1.0]])  # earns 1 and goes on with 1/2
CYCLE = np.array([[[0.0, 1.0]], [[1.0, 0.0]]])


def test_discounted_values_by_hand():
    values, policy = solvers.value_iteration([[[1.0], [1.0]]], [[1.0, 2.0]], gamma=0.9)
    assert values == pytest.approx([20.0])  # 2 / (1 - 0.9)
    assert policy.tolist() == [1]
    assert solvers.value_iteration(*COIN, gamma=1.0)[0] == pytest.approx([2.0])  # a geometric number of rewards
    assert solvers.value_iteration(*COIN, gamma=0.5)[0] == pytest.approx([4.0 / 3.0])


def test_without_discount_and_without_an_end_value_iteration_says_so():
    with pytest.raises(RuntimeError, match="tolerance 1e-10 in 50 sweeps"):
        solvers.value_iteration(CYCLE, [[0.0], [1.0]], gamma=1.0, max_sweeps=50)


def test_finite_horizon_by_hand():
    # two steps: stay and take 0.005 twice; three: swim, and on if at 1, else 0.01
    values, policy = solvers.finite_horizon(RIVER.P, RIVER.R, 3)
    assert values.shape == (4, 3) and policy.shape == (3, 3)
    assert values[1, 0] == pytest.approx(0.01)
    assert values[0, 0] == pytest.approx(0.4 * 0.01 + 0.6 * 0.35025)
    assert policy[:, 0].tolist() == [1, 0, 0]
    assert policy[1, 1] == 1
    assert (values[3] == 0.0).all()
    assert solvers.finite_horizon(*COIN, 2, gamma=0.5)[0][:, 0] == pytest.approx([1.25, 1.0, 0.0])


def test_policy_evaluation_by_hand():
    assert solvers.policy_evaluation(*COIN, [0]) == pytest.approx([2.0])
    uniform = np.full((3, 2), 0.5)
    # random twice: 0.0025 at once, then at 0 with (1 + 0.4) / 2
    assert solvers.policy_evaluation(RIVER.P, RIVER.R, uniform, horizon=2)[0] == pytest.approx(0.0025 + 0.7 * 0.0025)
    stay = solvers.policy_evaluation(RIVER.P, RIVER.R, np.zeros(3, int), gamma=0.9)
    assert stay == pytest.approx([0.05, 0.045, 0.0405])
    with pytest.raises(ValueError, match=r"no end from states \[0, 1\]"):
        solvers.policy_evaluation(CYCLE, [[0.0], [1.0]], [0, 0])


def test_the_best_policy_s_evaluation_is_the_optimal_value():
    env = Garnet(num_states=12, num_actions=3, branching=2, model_seed=3)
    values, policy = solvers.value_iteration(env.P, env.R, gamma=0.95)
    assert solvers.policy_evaluation(env.P, env.R, policy, gamma=0.95) == pytest.approx(values, abs=1e-6)


def test_shortest_paths_by_hand():
    # upstream: x1 = 1 + 0.05 x0 + 0.6 x1 and x0 = 1 + 0.4 x0 + 0.6 x1; downstream: one step a position
    x1 = (1.0 + 0.05 / 0.6) / 0.35
    assert solvers.shortest_path(RIVER.P, [2])[0] == pytest.approx([x1 + 1.0 / 0.6, x1, 0.0])
    values, policy = solvers.shortest_path(RIVER.P, [0])
    assert values == pytest.approx([0.0, 1.0, 2.0])
    assert policy[1:].tolist() == [0, 0]
    assert solvers.shortest_path(RIVER.P, [0, 2])[0] == pytest.approx([0.0, 1.0, 0.0])
    assert solvers.shortest_path(RIVER.P, np.array([True, False, True]))[0] == pytest.approx([0.0, 1.0, 0.0])
    assert solvers.diameter(RIVER.P) == pytest.approx(x1 + 1.0 / 0.6)


def test_a_shortest_path_avoids_what_may_never_arrive():
    # states: start, goal, trap; action 0 is fast but may end in the trap, action 1 is slow and sure
    P = np.zeros((3, 2, 3))
    P[0, 0] = 0.0, 0.9, 0.1
    P[0, 1] = 0.99, 0.01, 0.0
    P[1], P[2] = [0, 1, 0], [0, 0, 1]
    values, policy = solvers.shortest_path(P, [1])
    assert values == pytest.approx([100.0, 0.0, np.inf])
    assert policy[0] == 1
    assert solvers.diameter(P) == np.inf
    P[0, 1] = 0.0  # now it ends the task, which is not the goal
    assert solvers.shortest_path(P, [1])[0].tolist() == [np.inf, 0.0, np.inf]


def test_costs_decide_between_ways():
    P = np.zeros((3, 2, 3))
    P[0, 0, 2] = P[0, 1, 1] = P[1, :, 2] = P[2, :, 2] = 1.0
    assert solvers.shortest_path(P, [2])[0] == pytest.approx([1.0, 1.0, 0.0])
    values, policy = solvers.shortest_path(P, [2], costs=[[5.0, 1.0], [2.0, 3.0], [1.0, 1.0]])
    assert values == pytest.approx([3.0, 2.0, 0.0])
    assert policy[0] == 1


def test_shortest_paths_are_the_fixed_point_of_value_iteration():
    env = Garnet(num_states=15, num_actions=3, branching=2, model_seed=5)
    values = np.zeros(15)
    for _ in range(5000):
        values = 1.0 + (env.P @ values).min(1)
        values[4] = 0.0
    assert solvers.shortest_path(env.P, [4])[0] == pytest.approx(values, rel=1e-9)


def test_average_reward_by_hand():
    assert solvers.average_reward(CYCLE, [[0.0], [1.0]])[0] == pytest.approx(0.5)  # periodic
    # detailed balance of swimming right: 0.6 p0 = 0.05 p1 and 0.35 p1 = 0.4 p2, so p ~ (1, 12, 10.5), reward 1 at 2
    gain, bias, policy = solvers.average_reward(RIVER.P, RIVER.R)
    assert gain == pytest.approx(10.5 / 23.5, abs=1e-8)
    assert policy.tolist() == [1, 1, 1]
    assert bias[0] == 0.0
    assert (RIVER.R + RIVER.P @ bias).max(1) == pytest.approx(gain + bias, abs=1e-8)  # the optimality equation


def test_a_gain_that_depends_on_the_start_is_refused():
    with pytest.raises(RuntimeError, match="in 100 sweeps"):
        solvers.average_reward(np.eye(2)[:, None], [[0.0], [1.0]], max_sweeps=100)
    with pytest.raises(ValueError, match=r"sums to 0\.5"):
        solvers.average_reward(*COIN)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: solvers.diameter(np.ones((2, 1, 3))), r"P must have shape \(S, A, S\), got \(2, 1, 3\)"),
        (lambda: solvers.value_iteration([[[-0.5]]], [[0.0]], 0.9), r"P must be finite and >= 0, got -0\.5"),
        (lambda: solvers.value_iteration([[[1.5]]], [[0.0]], 0.9), r"at most 1, got 1\.5"),
        (lambda: solvers.value_iteration([[[0.5]]], [0.0], 0.9), r"R must have shape \(1, 1\).*got \(1,\)"),
        (lambda: solvers.value_iteration([[[0.5]]], [[np.nan]], 0.9), "R must be finite, got nan"),
        (lambda: solvers.value_iteration(*COIN, 1.5), r"gamma must lie in \[0, 1\], got 1\.5"),
        (lambda: solvers.finite_horizon(*COIN, -1), "horizon must be an integer >= 0, got -1"),
        (lambda: solvers.policy_evaluation(*COIN, [1]), r"actions of a policy must lie in \[0, 1\), got \[1\]"),
        (lambda: solvers.policy_evaluation(*COIN, [[0.5]]), r"probabilities \(1, 1\), got \[\[0\.5\]\]"),
        (lambda: solvers.shortest_path(CYCLE, [2]), r"goals must be states in \[0, 2\).*got \[2\]"),
        (lambda: solvers.shortest_path(CYCLE, [False, False]), "at least one state, got none"),
        (lambda: solvers.shortest_path(CYCLE, [0], [[1.0], [0.0]]), r"costs must be > 0, got 0\.0"),
    ],
)  # fmt: skip
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
