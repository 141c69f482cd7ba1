import copy
import math

import numpy as np
import pytest
import torch
from letters import EOS, PAD, Letters

from explore_gym.agents import common
from explore_gym.agents.common import generation
from explore_gym.agents.common.generation import Drawing, GPUDecoder, choose, draw_on_cpu
from explore_gym.agents.common.language_model import GPT, GPTConfig, load_model, pass_at_k

PROMPTS = [[1, 3, 4, 5], [1], [1, 9, 8, 7, 6, 5, 4, 3], [1, 10, 11]]
COUNTS = [3, 1, 4, 12]


def make(positions="rope", value_head=False, seed=0):
    """A small model, far enough from uniform that what it draws depends on what it reads."""
    torch.manual_seed(seed)
    config = GPTConfig(19, context=40, num_layers=2, d_model=32, num_heads=2, positions=positions, value_head=value_head)
    model = GPT(config, Letters())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8.0)
        model.embedding.weight.mul_(1.5)
    return model


@pytest.fixture(params=["rope", "learned"])
def model(request):
    return make(request.param)


@pytest.mark.parametrize("how", [{}, {"temperature": 0.7}, {"temperature": 1.5, "top_k": 5, "top_p": 0.8}])
def test_log_probs_of_a_full_forward_are_those_of_sampling(model, how):
    samples = model.sample(PROMPTS, COUNTS, max_new_tokens=24, **how)
    assert samples.ended.any() and not samples.ended.all()
    logprobs, _ = model.logprobs(model.hidden(samples.tokens), samples.tokens, how.get("temperature", 1.0))
    assert torch.allclose(logprobs[samples.written], samples.logprobs[samples.written], atol=1e-5)
    assert (samples.logprobs[~samples.written] == 0).all()
    assert samples.logprobs[samples.written].std() > 0.5


def test_a_response_depends_neither_on_the_other_rows_nor_on_padding(model):
    owners = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))
    uniforms, drawing = torch.rand(20, 24), Drawing(1.0, 0, 1.0, (EOS,))
    tokens, logprobs, lengths = draw_on_cpu(model, PROMPTS, owners, uniforms, drawing)
    assert len(set(lengths.tolist())) > 4  # rows left at different times
    for row, owner in enumerate(owners.tolist()):
        alone = draw_on_cpu(model, [PROMPTS[owner]], torch.tensor([0]), uniforms[row : row + 1], drawing)
        n = int(alone[2])
        assert lengths[row] == n
        assert torch.equal(tokens[row, :n], alone[0][0, :n])
        assert torch.allclose(logprobs[row, :n], alone[1][0, :n], atol=1e-5)


def test_hidden_states_depend_neither_on_the_other_rows_nor_on_padding(model):
    samples = model.sample(PROMPTS, COUNTS, max_new_tokens=24)
    hidden = model.hidden(samples.tokens)
    for row, written in enumerate(samples.written):
        length = int(written.nonzero().max()) + 1
        alone = model.hidden(samples.tokens[row : row + 1, :length])
        assert torch.allclose(hidden[row, :length], alone[0], atol=1e-5)


def test_the_recorded_steps_of_a_gpu_draw_what_the_cpu_draws(model):
    owners = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))
    drawing = Drawing(1.0, 0, 1.0, (EOS,))
    decoder = GPUDecoder(model, rows=24, longest=16, num_steps=24, drawing=drawing)
    for seed in (0, 1):  # nothing stays of the first draw
        uniforms = torch.rand(20, 24, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            model.embedding.weight.mul_(0.9)  # the decoder follows training
        expected = draw_on_cpu(model, PROMPTS, owners, uniforms, drawing)
        tokens, logprobs, lengths = decoder.draw(model, PROMPTS, owners, uniforms)
        assert torch.equal(lengths, expected[2])
        real = torch.arange(tokens.shape[1]) < lengths.unsqueeze(1)
        assert torch.equal(tokens[real], expected[0][real])
        assert torch.allclose(logprobs[real], expected[1][real], atol=1e-5)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_from_the_same_distribution():
    model = make().cuda()
    samples = model.sample(PROMPTS, COUNTS, max_new_tokens=24)
    with torch.no_grad():
        logprobs, _ = model.logprobs(model.hidden(samples.tokens), samples.tokens)
    assert torch.allclose(logprobs[samples.written], samples.logprobs[samples.written], atol=0.1)
    exact = copy.deepcopy(model).cpu()
    with torch.no_grad():
        expected, _ = exact.logprobs(exact.hidden(samples.tokens.cpu()), samples.tokens.cpu())
    assert torch.allclose(expected[samples.written.cpu()], logprobs[samples.written].cpu(), atol=0.2)


def test_rows_hold_prompt_response_and_padding_and_say_who_wrote_what():
    model = make()
    samples = model.sample(PROMPTS, [2, 0, 3, 4], max_new_tokens=24)
    assert samples.prompts.tolist() == [0, 0, 2, 2, 2, 3, 3, 3, 3]
    responses, texts = samples.responses(), model.texts(samples)
    for row, owner in enumerate(samples.prompts.tolist()):
        prompt, response = PROMPTS[owner], responses[row]
        end = len(prompt) + len(response)
        assert samples.tokens[row, :end].tolist() == prompt + response
        assert (samples.tokens[row, end:] == PAD).all()
        assert samples.written[row].nonzero().squeeze(1).tolist() == list(range(len(prompt), end))
        assert samples.ended[row] == (response[-1] == EOS) and EOS not in response[:-1]
        assert samples.ended[row] or len(response) == 24
        assert texts[row] == Letters().decode([i for i in response if i != EOS])
    assert samples.tokens.shape[1] == max(len(PROMPTS[o]) + len(r) for o, r in zip(samples.prompts, responses))


def test_stop_tokens_end_a_response_too():
    samples = make().sample([[1, 3]], 40, max_new_tokens=20, stop=(5, 6))
    lasts = {response[-1] for response, ended in zip(samples.responses(), samples.ended) if ended}
    assert lasts == {EOS, 5, 6}
    assert not any(set(response[:-1]) & {EOS, 5, 6} for response in samples.responses())


def test_temperature_zero_takes_the_most_likely_token_of_a_full_forward(model):
    samples = model.sample(PROMPTS, max_new_tokens=8, temperature=0)
    for prompt, response in zip(PROMPTS, samples.responses()):
        tokens = list(prompt)
        for token in response:
            assert token == model.logits(model.hidden(torch.tensor([tokens])))[0, -1].argmax()
            tokens.append(token)


def test_tokens_are_chosen_by_cumulative_probability():
    logits = torch.tensor([0.3, 0.5, 0.2]).log().repeat(5, 1)
    uniforms = torch.tensor([0.0, 0.29, 0.31, 0.79, 0.81])
    token, logprob = choose(logits, uniforms, Drawing(1.0, 0, 1.0, ()))
    assert token.tolist() == [0, 0, 1, 1, 2]
    assert logprob.exp().tolist() == pytest.approx([0.3, 0.3, 0.5, 0.5, 0.2])
    uniforms = torch.tensor([0.0, 0.37, 0.38, 0.9, 0.999])
    for how in (Drawing(1.0, 2, 1.0, ()), Drawing(1.0, 0, 0.6, ()), Drawing(1.0, 2, 0.7, ())):  # 0.375 and 0.625 are left
        token, logprob = choose(logits, uniforms, how)
        assert token.tolist() == [0, 0, 1, 1, 1]
        assert logprob.exp().tolist() == pytest.approx([0.3, 0.3, 0.5, 0.5, 0.5])
    for how in (Drawing(1.0, 1, 1.0, ()), Drawing(1.0, 0, 0.5, ()), Drawing(1.0, 3, 0.4, ()), Drawing(0.0, 0, 1.0, ())):
        assert choose(logits, uniforms, how)[0].tolist() == [1] * 5
    token, logprob = choose(logits, torch.tensor([0.0, 0.23, 0.24, 0.89, 0.9]), Drawing(0.5, 0, 1.0, ()))
    assert token.tolist() == [0, 0, 1, 1, 2]  # 0.09, 0.25 and 0.04 of 0.38: up to 0.237, 0.895, 1
    assert logprob.exp().tolist() == pytest.approx([0.09 / 0.38] * 2 + [0.25 / 0.38] * 2 + [0.04 / 0.38])


def test_impossible_tokens_are_never_chosen():
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf])
    largest = 1 - 2**-24  # of the numbers that torch.rand draws
    token, _ = choose(logits.repeat(4, 1), torch.tensor([0.0, 0.49, 0.5, largest]), Drawing(1.0, 0, 1.0, ()))
    assert token.tolist() == [1, 1, 3, 3]


def test_first_tokens_are_as_frequent_as_they_are_likely():
    model, draws = make(), 20_000
    samples = model.sample([[1, 7]], draws, max_new_tokens=1, generator=torch.Generator().manual_seed(0))
    expected = model.logits(model.hidden(torch.tensor([[1, 7]])))[0, -1].softmax(-1).detach().numpy()
    observed = np.bincount(samples.tokens[:, 2].numpy(), minlength=19) / draws
    assert np.abs(observed - expected).max() < 4 * math.sqrt(0.25 / draws)
    assert np.count_nonzero(expected > 0.02) > 3


def test_the_seed_and_not_the_rows_drawn_at_once_decides_what_is_drawn(monkeypatch):
    model = make()
    draws = []
    for rows in (256, 7):
        monkeypatch.setattr(GPT, "cpu_rows", rows)
        monkeypatch.setattr(generation, "ENCODED_TOKENS", rows)
        draws.append(model.sample(PROMPTS, COUNTS, max_new_tokens=24, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(draws[0].tokens, draws[1].tokens)
    assert torch.equal(draws[0].written, draws[1].written)
    assert torch.allclose(draws[0].logprobs, draws[1].logprobs, atol=1e-5)
    torch.manual_seed(3)
    assert torch.equal(model.sample(PROMPTS, COUNTS, max_new_tokens=24).tokens, draws[0].tokens)


def test_threads_share_the_rows():
    model, threads = make(), torch.get_num_threads()
    rows = [50] * 4  # more than the least that a thread takes
    alone = model.sample(PROMPTS, rows, max_new_tokens=24, generator=torch.Generator().manual_seed(0))
    try:
        torch.set_num_threads(2)
        shared = model.sample(PROMPTS, rows, max_new_tokens=24, generator=torch.Generator().manual_seed(0))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(alone.tokens, shared.tokens)
    assert torch.allclose(alone.logprobs, shared.logprobs, atol=1e-5)


def test_log_probs_and_entropies_of_a_model_that_knows_nothing_are_those_of_a_uniform_draw():
    model = make()
    with torch.no_grad():
        model.embedding.weight.zero_()
    tokens = torch.randint(0, 19, (3, 6))
    logprobs, entropies = model.logprobs(model.hidden(tokens), tokens)
    assert torch.allclose(logprobs[:, 1:], torch.full((3, 5), -math.log(19)))
    assert torch.allclose(entropies[:, 1:], torch.full((3, 5), math.log(19)))
    assert (logprobs[:, 0] == 0).all() and (entropies[:, 0] == 0).all()


def test_only_written_tokens_are_looked_at_and_learnt_from():
    model = make()
    tokens = torch.randint(3, 19, (4, 9))
    written = torch.rand(4, 9) < 0.4
    assert written[:, 0].any()  # a first token has no log-prob, whoever wrote it
    gradients = []
    for given in (None, written):
        logprobs, entropies = model.logprobs(model.hidden(tokens), tokens, 0.8, given)
        model.zero_grad()
        ((logprobs + entropies.square()) * written).sum().backward()
        gradients.append((logprobs * written, entropies * written, [p.grad.clone() for p in model.parameters()]))
        if given is not None:
            assert (logprobs[~written] == 0).all() and (entropies[~written] == 0).all()
    assert torch.allclose(gradients[0][0], gradients[1][0], atol=1e-6)
    assert torch.allclose(gradients[0][1], gradients[1][1], atol=1e-6)
    for p, q in zip(gradients[0][2], gradients[1][2]):
        assert torch.allclose(p, q, atol=1e-5)


def test_values_come_from_their_own_head():
    model = make(value_head=True)
    hidden = model.hidden(torch.tensor([[1, 5, 6]]))
    with torch.no_grad():
        model.value_head.weight.zero_()
        model.value_head.weight[0, 4] = 2.0
        model.value_head.bias.fill_(0.5)
    assert torch.allclose(model.values(hidden), 2 * hidden[..., 4] + 0.5)
    assert (GPT(model.config, Letters()).values(hidden) == 0).all()  # before training
    with pytest.raises(ValueError, match="no value head"):
        make().values(hidden)


def test_the_default_model_has_the_size_of_the_papers_substrate():
    model = load_model("gpt", Letters())
    layer = 12 * 128**2 + 2 * 128  # qkv 3, output 1, up 4, down 4 squares; two norms
    assert sum(p.numel() for p in model.parameters()) == 4 * layer + 128 + 19 * 128
    assert model.prompt("ab") == [1, 3, 4]


def test_a_copy_is_a_reference_that_stays_behind():
    model = make()
    tokens = torch.randint(3, 19, (2, 7))
    model.sample([[1]], max_new_tokens=2)
    reference = copy.deepcopy(model)
    before = reference.logprobs(reference.hidden(tokens), tokens)[0]
    with torch.no_grad():
        model.embedding.weight.add_(1.0)
    assert torch.equal(reference.logprobs(reference.hidden(tokens), tokens)[0], before)


@pytest.mark.slow
def test_a_loss_can_be_compiled():
    model = make()

    def loss(batch):
        logprobs, entropies = model.logprobs(model.hidden(batch["tokens"]), batch["tokens"])
        total = ((logprobs + 0.1 * entropies) * batch["weights"]).sum()
        return torch.cat([x.flatten() for x in torch.autograd.grad(total, list(model.parameters()))])

    batch = {"tokens": torch.randint(0, 19, (4, 12)), "weights": torch.randn(4, 12)}
    assert torch.allclose(common.compiled(loss, model)(batch), loss(batch), atol=1e-4)


def test_bad_arguments_are_named():
    model = make()
    for match, arguments in {
        "number 1 has none": {"prompts": [[1], []]},
        r"39 tokens\) and max_new_tokens \(2\).* 40 tokens": {"prompts": [[1] * 39], "max_new_tokens": 2},
        "max_new_tokens must be at least 1, got 0": {"max_new_tokens": 0},
        "each of the 1 prompts, got \\[1, 2\\]": {"n": [1, 2]},
        "got 0": {"n": 0},
        "temperature must be at least 0, got -1": {"temperature": -1},
        "temperature must be at least 0, got nan": {"temperature": math.nan},
        "top_k must be at least 0 .*got -2": {"top_k": -2},
        r"top_p must lie in \(0, 1\], got 0": {"top_p": 0},
    }.items():
        with pytest.raises(ValueError, match=match):
            model.sample(**{"prompts": [[1]], "max_new_tokens": 4, **arguments})
    with pytest.raises(ValueError, match="at most 40 tokens, the context, got 41"):
        model.hidden(torch.ones(1, 41, dtype=torch.long))


def test_bad_configs_and_names_are_named():
    for match, arguments in {
        "num_layers must be at least 1, got 0": {"num_layers": 0},
        r"d_model must be a multiple of 2 \* num_heads = 8, got 12": {"d_model": 12},
        "positions must be rope or learned, got 'alibi'": {"positions": "alibi"},
    }.items():
        with pytest.raises(common.UsageError, match=match):
            GPTConfig(19, **arguments)
    with pytest.raises(common.UsageError, match="at least the tokenizer's 19, got 18"):
        GPT(GPTConfig(18), Letters())
    for name, tokenizer in (("gpt", None), ("gpt2", Letters())):
        with pytest.raises(common.UsageError, match=f'"hf:<folder>", got {name!r}'):
            load_model(name, tokenizer)


def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample():
    assert pass_at_k(4, 2, 2) == pytest.approx(5 / 6)  # one of the six pairs has none of the two right ones
    assert pass_at_k(8, 3, 1) == pytest.approx(3 / 8)
    assert pass_at_k([8, 8, 8], [0, 8, 5], 4).tolist() == pytest.approx([0.0, 1.0, 1.0])
    for n, c, k in ((256, 3, 32), (100, 60, 30), (10, 1, 10)):
        assert pass_at_k(n, c, k) == pytest.approx(1 - math.comb(n - c, k) / math.comb(n, k))
    with pytest.raises(ValueError, match=r"k must lie in \[1, 4\], the number of samples, got 5"):
        pass_at_k([8, 4], [1, 1], 5)
    with pytest.raises(ValueError, match="between 0 and num_samples"):
        pass_at_k(4, 5, 1)
