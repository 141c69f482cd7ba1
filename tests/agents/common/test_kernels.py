import numpy as np
import pytest
import torch
import torch.nn.functional as F

from explore_gym.agents.common import kernels
from explore_gym.agents.common.generation import rotate
from explore_gym.agents.common.kernels import Linear, attend, linear, softmax


@pytest.fixture(params=[True, False])
def onednn(request, monkeypatch):
    if request.param and not kernels.ONEDNN:
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(kernels, "ONEDNN", request.param)


@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 5), (0, 5)])
def test_products_and_their_gradients_are_those_of_torch(onednn, shape):
    x, layer = torch.randn(shape, requires_grad=True), Linear(5, 4)
    weights = torch.randn(*shape[:-1], 4)
    found = torch.autograd.grad((layer(x) * weights).sum(), [x, layer.weight])
    expected = torch.autograd.grad((F.linear(x, layer.weight) * weights).sum(), [x, layer.weight])
    assert torch.allclose(layer(x), F.linear(x, layer.weight), atol=1e-6)
    for a, b in zip(found, expected):
        assert torch.allclose(a, b, atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(linear(x, layer.weight, "gelu"), F.gelu(F.linear(x, layer.weight)), atol=1e-6)


def test_what_needs_no_gradient_gets_none():
    x, layer = torch.randn(3, 5), Linear(5, 4).requires_grad_(False)
    assert not layer(x).requires_grad
    (grad,) = torch.autograd.grad(layer(x.requires_grad_()).sum(), [x])
    assert torch.allclose(grad, layer.weight.sum(0).expand(3, 5), atol=1e-6)


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("count", [1, 2, 17, 200])
def test_softmax_is_exact_up_to_rounding(count, spread):
    scores = (spread * np.random.default_rng(count).standard_normal(count)).astype(np.float32)
    exact = torch.from_numpy(scores).double().softmax(0).numpy()
    softmax(scores)
    assert np.allclose(scores, exact, rtol=1e-5, atol=1e-30)
    assert scores.sum() == pytest.approx(1.0, abs=1e-6)


def test_a_token_sees_its_prompt_and_the_response_so_far():
    """Beside torch's attention, for prompts of several lengths, of which one is answered twice, and a row that has left."""
    generator = np.random.default_rng(0)
    heads, size, longest, steps = 2, 6, 5, 4
    lengths, owners, slots = np.array([5, 2]), np.array([0, 0, 1]), np.array([1, 2])
    angles = generator.uniform(0, 6, (longest + steps, size // 2)).astype(np.float32)
    cos, sin = np.cos(angles), np.sin(angles)

    def draw(*shape):
        return generator.standard_normal(shape).astype(np.float32)

    past_keys, past_values = draw(2, longest, heads, size), draw(2, longest, heads, size)
    keys, values, qkv = draw(3, steps, heads, size), draw(3, steps, heads, size), draw(2, 3, heads, size) * 3
    unseen, out, step = keys.copy(), np.empty((2, heads, size), np.float32), 2
    attend(qkv, cos, sin, slots, owners, lengths, step, past_keys, past_values, keys, values, out)
    for row, slot in enumerate(slots):
        length = lengths[owners[slot]]
        position = length + step
        turned = rotate(torch.from_numpy(qkv[row, :2]), torch.from_numpy(cos[position]), torch.from_numpy(sin[position]))
        assert np.allclose(keys[slot, step], turned[1], atol=1e-6)
        assert (values[slot, step] == qkv[row, 2]).all()
        known, said = (
            np.concatenate([past[owners[slot], :length], own[slot, : step + 1]]).swapaxes(0, 1)
            for past, own in ((past_keys, keys), (past_values, values))
        )
        expected = F.scaled_dot_product_attention(
            turned[0].unsqueeze(1), torch.from_numpy(known), torch.from_numpy(said), scale=1.0
        )
        assert np.allclose(out[row], expected.squeeze(1), atol=1e-5)
    untouched = np.ones_like(keys, bool)
    untouched[slots, step] = False
    assert (keys == unseen)[untouched].all()
