import sys

import numpy as np
import pytest

from explore_gym.scripts.random_networks import Args, Networks, main, measure


def test_a_network_worked_by_hand():
    networks = Networks(np.random.default_rng(0), 2, (3, 2, 1))
    networks.layers = [(np.ones((2, 3, 2)), np.array([[0.0], [1.0]])), (np.full((2, 2, 1), 0.5), np.zeros((2, 1)))]
    sigmoid = lambda x: 2 / (1 + np.exp(-x)) - 1
    expected = [[sigmoid(sigmoid(0.6))], [sigmoid(sigmoid(1.6))]]
    assert networks(np.full((2, 3), 0.2)) == pytest.approx(np.array(expected))


def test_ends_areas_and_steps_are_counted(monkeypatch):
    def drive(networks, obs):  # straight on, until a wall stops it; lanes differ in their speed
        return np.outer(np.linspace(0.2, 1.0, len(obs)), np.ones(2))

    monkeypatch.setattr(Networks, "__call__", drive)
    found = measure(Args(networks=3, draws=2, env_kwargs='{"steps": 20}'))
    assert found == {"cells": (3 / 2500, 0.0), "areas": (0.0, 0.0), "steps": (20.0, 0.0)}  # 16, 48 and 80 away: three cells


def test_an_arm_stops_early_and_the_same_seed_finds_the_same():
    first, again, other = (measure(Args("Explore/RedundantArm-v0", networks=20, draws=2, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert 5 < first["steps"][0] < 100
    assert 0 < first["cells"][0] <= 20 / 2500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--draws", "1"], "draws must be at least 2, got 1"),
        (["--env-kwargs", '{"maze": "none"}'], "maze must be"),
        (["--env", "Explore/Nowhere-v0"], "Nowhere"),
    ],
)
def test_bad_arguments_are_named(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["random_networks.py", *arguments])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert message in capsys.readouterr().err
