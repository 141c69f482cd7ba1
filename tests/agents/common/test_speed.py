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
    vector = common.flatten(module)
    assert torch.equal(vector, expected)
    assert len(vector) == 3 * 4 + 4 + 4 * 2 + 2
    with torch.no_grad():
        vector[12:16] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert module[0].bias.tolist() == [1.0, 2.0, 3.0, 4.0]
    other = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    module.load_state_dict(other.state_dict())
    assert torch.equal(vector, torch.cat([p.detach().flatten() for p in other.parameters()]))


def test_one_adam_step_of_the_vector_is_that_of_every_parameter():
    module, flat = network(), network()
    vector = common.flatten(flat)
    optimizers = [torch.optim.Adam(p, lr=0.1, eps=1e-5, fused=True) for p in (module.parameters(), [vector])]
    for _ in range(3):
        x = torch.randn(5, 3)
        module.zero_grad()
        module(x).square().sum().backward()
        grads = torch.autograd.grad(flat(x).square().sum(), list(flat.parameters()))
        vector.grad = torch.cat([g.flatten() for g in grads])
        for optimizer in optimizers:
            optimizer.step()
    for p, q in zip(module.parameters(), flat.parameters()):
        assert torch.equal(p, q)


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
