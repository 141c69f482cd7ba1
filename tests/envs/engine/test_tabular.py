"""`to_tabular`: exact models from the kernels themselves."""

import numpy as np
import pytest


def test_a_slippery_chain_by_hand(toy):
    env = toy.Chain(length=3, slip=0.25)
    env.reset(seed=0)
    env.set_state(cell=0)
    model = env.to_tabular()
    order = np.argsort(model.states["cell"])
    P, R, terminated = model.P[np.ix_(order, [0, 1], order)], model.R[order], model.terminated[order]
    assert model.states["cell"][order].tolist() == [0, 1]  # cell 2 ends the task, so it is no state
    assert P[0].tolist() == [[0.75, 0.25], [0.25, 0.75]]
    assert P[1].tolist() == [[0.75, 0.0], [0.25, 0.0]]
    assert R.tolist() == terminated.tolist() == [[0.0, 0.0], [0.25, 0.75]]
    assert model.optimal_values() == pytest.approx([1.0, 1.0])
    assert model.optimal_values(horizon=2)[order] == pytest.approx([0.75 * 0.75, 0.75 + 0.25 * 0.0])
    g = 0.9  # v1 = 0.75 + 0.25 g v0, v0 = g (0.75 v1 + 0.25 v0)
    v0 = 0.75 * 0.75 * g / (1 - 0.25 * g - 0.75 * 0.25 * g * g)
    assert model.optimal_values(gamma=g)[order] == pytest.approx([v0, 0.75 + 0.25 * g * v0])


def test_frequencies_of_the_compiled_kernel_agree(toy):
    env = toy.Chain(length=5, slip=0.3, max_steps=None)
    env.reset(seed=0)
    env.set_state(cell=2)
    model = env.to_tabular()
    envs = env.fork(20_000, seed=1)
    cells = envs.step(np.ones(20_000, int))[0]["cell"]
    row = model.P[0, 1]
    for state, probability in zip(model.states["cell"], row, strict=True):
        assert (cells == state).mean() == pytest.approx(probability, abs=4 * np.sqrt(0.25 / 20_000))


def test_metrics_are_no_part_of_the_state(toy):
    env = toy.Chain(length=9)
    env.reset(seed=0)
    assert len(env.to_tabular().states) == 8


def test_limits_and_divergence_are_named(toy):
    env = toy.Chain(length=9)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"more than 3 states \(max_states=3\)"):
        env.to_tabular(max_states=3)
    with pytest.raises(RuntimeError, match="tolerance 1e-10 in 5 sweeps"):
        env.to_tabular().optimal_values(gamma=0.99, max_sweeps=5)


def test_continuous_draws_are_refused(toy):
    from gymnasium import spaces

    from explore_gym.envs.engine import KernelEnv, kernel, state_dtype, uniform

    @kernel
    def reset(params, state):
        state.x = 0.0

    @kernel
    def step(params, state, action):
        state.x = uniform(state, 0.0, 1.0)
        return 0.0, False

    @kernel
    def observe(params, state, obs):
        obs[0] = state.x

    class Drift(KernelEnv):
        dynamics = (reset, step, observe)

        def __init__(self):
            space = spaces.Box(0.0, 1.0, (1,), np.float64)
            super().__init__(
                state=state_dtype(x=np.float64), params={}, observation_space=space, action_space=spaces.Discrete(1)
            )

    env = Drift()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="draw from a continuous range"):
        env.to_tabular()
