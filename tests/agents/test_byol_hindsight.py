import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from explore_gym.agents import byol_hindsight as bh
from explore_gym.agents import common


def test_reconstruction_error_of_unit_vectors():
    w = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]])
    prediction = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.8, -0.6]])
    assert bh.reconstruction_error(prediction, w).tolist() == pytest.approx([0, 4, 2])  # 2 - 2 cos


def test_invariance_keeps_the_past_and_varies_the_code():
    scores = torch.tensor([[[2.0, 0.0], [1.0, 3.0]]])  # row i: past i with codes 0 and 1
    first = math.log(math.exp(2) / ((math.exp(2) + 1) / 2))
    second = math.log(math.exp(3) / ((math.exp(1) + math.exp(3)) / 2))
    assert bh.invariance(scores)[0].tolist() == pytest.approx([first, second])
    assert bh.invariance(torch.zeros(1, 5, 5)).abs().max().item() == pytest.approx(0, abs=1e-6)
    perfect = bh.invariance(20 * torch.eye(8).unsqueeze(0))
    assert perfect.tolist()[0] == pytest.approx([math.log(8)] * 8, abs=1e-6)  # no bound beyond log of the group's size


def test_invariance_of_a_single_sample_may_be_negative():
    scores = torch.tensor([[[-1.0, 1.0], [0.0, 0.0]]])
    assert bh.invariance(scores)[0, 0].item() == pytest.approx(-1 - math.log((math.exp(-1) + math.exp(1)) / 2))


def test_critic_is_bounded_and_ignores_what_a_row_has_in_common():
    torch.manual_seed(0)
    critic = bh.Critic(3, bh.Args(code_dim=4))
    past, z = 30 * torch.randn(2, 6, 3), torch.rand(2, 6, 4) * 2 - 1
    scores = critic(past, z)
    assert scores.shape == (2, 6, 6)
    assert 4 < scores.abs().max() <= 5
    same_code = critic(past, z[:, :1].expand(2, 6, 4))
    assert same_code.abs().max().item() == pytest.approx(0, abs=1e-4)
