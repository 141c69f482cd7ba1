import json

import pytest
import torch
from letters import EOS, Letters

from explore_gym.agents import common
from explore_gym.agents.common.generation import Drawing, draw_on_cpu
from explore_gym.agents.common.language_model import GPT, GPTConfig, load_model

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from explore_gym.agents.common.hf import as_hugging_face  # noqa: E402

PROMPTS = [[1, 3, 4, 5], [1], [1, 9, 8, 7, 6, 5, 4, 3], [1, 10, 11]]
COUNTS = [3, 1, 4, 8]
LETTERS = "abcdefghijklmnop"


def save(network, folder, **special):
    """A folder as Hugging Face has them: config, weights, and a tokenizer of letters."""
    vocabulary = {token: i for i, token in enumerate(("<pad>", "<bos>", "<eos>", *LETTERS))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = tokenizers.decoders.Fuse()
    special = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", **special}
    special = {key: token for key, token in special.items() if token}
    network.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return f"hf:{folder}"


def sharpen(network):
    """Random weights draw almost uniformly; these less so."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8.0)
    return network


def gpt(positions):
    torch.manual_seed(0)
    return sharpen(GPT(GPTConfig(19, context=40, num_layers=2, d_model=32, num_heads=2, positions=positions), Letters()))


def llama():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=24,  # more than the tokenizer's, as many have
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=40,
    )
    return sharpen(transformers.LlamaForCausalLM(config))


@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_the_small_model_is_the_same_function_in_transformers(positions):
    model, tokens = gpt(positions), torch.randint(0, 19, (5, 30))
    expected = as_hugging_face(model)(tokens).logits
    assert torch.allclose(model.logits(model.hidden(tokens)), expected, atol=1e-4)
    assert expected.std() > 0.5


@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_a_saved_model_draws_what_the_small_one_draws(tmp_path, positions):
    model = gpt(positions)
    theirs = load_model(save(as_hugging_face(model), tmp_path))
    owners = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))
    uniforms, drawing = torch.rand(16, 24), Drawing(1.0, 0, 1.0, (EOS,))
    tokens, logprobs, lengths = theirs.draw(PROMPTS, owners, uniforms, drawing)
    expected = draw_on_cpu(model, PROMPTS, owners, uniforms, drawing)
    assert torch.equal(lengths, expected[2]) and len(set(lengths.tolist())) > 3
    real = torch.arange(tokens.shape[1]) < lengths.unsqueeze(1)
    assert torch.equal(tokens[real], expected[0][real])
    assert torch.allclose(logprobs[real], expected[1][real], atol=1e-4)


def test_a_llama_has_the_interface_of_the_small_model(tmp_path):
    model = load_model(save(llama(), tmp_path), config=GPTConfig(19, value_head=True))
    assert (model.context, model.d_model, model.tokenizer.vocab_size) == (40, 32, 19)
    assert model.prompt("abp") == [1, 3, 4, 18]
    assert model.tokenizer.decode([3, 4, 18]) == "abp"
    samples = model.sample(PROMPTS, COUNTS, max_new_tokens=24, temperature=0.9)
    assert samples.ended.any() and len(model.texts(samples)) == 16
    hidden = model.hidden(samples.tokens)
    logprobs, _ = model.logprobs(hidden, samples.tokens, 0.9, samples.written)
    assert torch.allclose(logprobs, samples.logprobs, atol=1e-4)
    assert (model.values(hidden) == 0).all()
    for row in (0, 5):  # alone, without padding
        length = int(samples.written[row].nonzero().max()) + 1
        assert torch.allclose(model.hidden(samples.tokens[row : row + 1, :length])[0], hidden[row, :length], atol=1e-4)
    logprobs.sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "value_head" not in name)
    with pytest.raises(ValueError, match="at most 40 tokens, the context, got 41"):
        model.hidden(torch.ones(1, 41, dtype=torch.long))


def test_dropout_is_off_in_training(tmp_path):
    network = as_hugging_face(gpt("learned"))
    assert network.config.resid_pdrop > 0
    model = load_model(save(network, tmp_path)).train()
    tokens = torch.randint(0, 19, (2, 10))
    assert torch.equal(model.hidden(tokens), model.hidden(tokens))
    assert model.training


def test_without_a_bos_prompts_begin_with_their_text(tmp_path):
    assert load_model(save(llama(), tmp_path, bos_token=None)).prompt("ab") == [3, 4]


def test_what_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(common.UsageError, match=r"there is no .*nowhere/config.json"):
        load_model(f"hf:{tmp_path}/nowhere")
    broken = tmp_path / "broken"
    save(llama(), broken)
    (broken / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(common.UsageError, match="broken cannot be loaded as a causal language model: "):
        load_model(f"hf:{broken}")
    (broken / "config.json").write_text(json.dumps({"model_type": "unheard of"}))
    with pytest.raises(common.UsageError, match="broken cannot be loaded as a causal language model: "):
        load_model(f"hf:{broken}")
    with pytest.raises(common.UsageError, match=r"the tokenizer in .* has no eos token"):
        load_model(save(llama(), tmp_path / "endless", eos_token=None))


def test_a_model_that_caps_its_logits_is_refused(tmp_path):
    config = transformers.Gemma2Config(
        vocab_size=19,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        final_logit_softcapping=0.5,
    )
    with pytest.raises(common.UsageError, match="changes its logits after the output embeddings"):
        load_model(save(sharpen(transformers.Gemma2ForCausalLM(config)), tmp_path))
