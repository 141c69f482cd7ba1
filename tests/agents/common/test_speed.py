import copy

import pytest
import torch
from torch import nn

from explore_gym.agents import common


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def test_parameters_become_views_of_one_vector_in_their_order():
    module = network()
    expected = torch.cat([p.detach().flatten() for p in module.parameters()])
    vector = common.Adam(module, learning_rate=0.1).vector
    assert torch.equal(vector, expected)
    assert len(vector) == 3 * 4 + 4 + 4 * 2 + 2
    vector[12:16] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert module[0].bias.tolist() == [1.0, 2.0, 3.0, 4.0]
    other = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    module.load_state_dict(other.state_dict())
    assert torch.equal(vector, torch.cat([p.detach().flatten() for p in other.parameters()]))


def gradient(module, x):
    return torch.cat([g.flatten() for g in torch.autograd.grad(module(x).square().sum(), list(module.parameters()))])


def test_adam_of_the_vector_is_that_of_every_parameter_and_continues_from_its_state():
    module, flat = network(), network()
    theirs, ours = torch.optim.Adam(module.parameters(), lr=0.1, eps=1e-5), common.Adam(flat, 0.1, eps=1e-5)
    for step in range(6):
        x = torch.randn(5, 3)
        if step == 3:  # a resumed run has new objects
            state, flat = (copy.deepcopy(m.state_dict()) for m in (ours, flat)), network()
            ours = common.Adam(flat, 0.7, eps=1e-5)
            for m, saved in zip((ours, flat), state):
                m.load_state_dict(saved)
        if step == 4:
            theirs.param_groups[0]["lr"] = 0.05
            ours.learning_rate.fill_(0.05)
        module.zero_grad()
        module(x).square().sum().backward()
        theirs.step()
        ours.step(gradient(flat, x))
        for p, q in zip(module.parameters(), flat.parameters()):
            assert torch.allclose(p, q, atol=1e-5)


@pytest.mark.slow
def test_a_compiled_step_of_adam_is_the_eager_one_up_to_rounding():
    module = network()
    optimizer = common.Adam(module, 0.1, eps=1e-5)
    before = copy.deepcopy((module, optimizer.state_dict()))

    def learn(x):
        grad = gradient(module, x)
        optimizer.step(grad)
        return grad.norm()

    compiled = common.compiled(learn, module, optimizer)
    inputs, results = torch.randn(4, 5, 3), []
    for function in (learn, compiled):
        module.load_state_dict(before[0].state_dict())
        optimizer.load_state_dict(before[1])
        norms = []
        for i, x in enumerate(inputs):
            optimizer.learning_rate.fill_(0.1 / (i + 1))
            norms.append(function(x).item())
        results.append((norms, optimizer.vector.clone(), optimizer.num_steps.item()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-6)
    assert results[0][2] == results[1][2] == 4.0


@pytest.mark.slow
def test_a_compiled_function_follows_parameters_and_buffers_and_new_shapes():
    module = network()
    module.register_buffer("offset", torch.zeros(2))
    compiled = common.compiled(lambda x, y: ({"y": module(x["a"]) + module.offset, "z": x["b"] * 2}, -y), module)
    for rows in (5, 5, 3):
        x = {"a": torch.randn(rows, 3), "b": torch.arange(rows)}
        out, minus = compiled(x, torch.ones(rows))
        assert torch.allclose(out["y"], module(x["a"]) + module.offset, atol=1e-6)
        assert torch.equal(out["z"], x["b"] * 2)
        assert minus.tolist() == [-1.0] * rows
        with torch.no_grad():
            module[0].weight.mul_(1.5)
            module.offset += 1.0
