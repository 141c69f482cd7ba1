"""Causal language models of Hugging Face behind the interface of the small one, and the small one as one of theirs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explore_gym.agents.common.errors import UsageError
from explore_gym.agents.common.generation import Drawing, draw_rows
from explore_gym.agents.common.language_model import GPT, LanguageModel

PROBE = 8  # tokens with which a model is tried when it is loaded


class HuggingFaceTokenizer:
    """A tokenizer of transformers with the methods of ours."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.vocab_size, self.bos, self.eos = len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id
        self.pad = self.eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


class HuggingFaceModel(LanguageModel):
    """A causal transformer from a local folder, in float32 (on a GPU its layers compute in bfloat16), without dropout.

    Raises:
        UsageError: transformers is missing, the folder holds no causal language model with a tokenizer that has an eos, or the
            model does more to its last hidden states than multiply them by its output embeddings.
    """

    def __init__(self, folder: Path, value_head: bool = False):
        super().__init__()
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError:
            raise UsageError('Hugging Face models need transformers: pip install "explore-gym[llm]"') from None
        if not (folder / "config.json").is_file():
            raise UsageError(f"model must name a folder with a Hugging Face model, but there is no {folder / 'config.json'}")
        try:
            self.network = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
            self.tokenizer = HuggingFaceTokenizer(AutoTokenizer.from_pretrained(folder, local_files_only=True))
        except Exception as error:  # whatever a file in the folder makes a loader raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(f"{folder} cannot be loaded as a causal language model: {reason}") from error
        if self.tokenizer.eos is None:
            raise UsageError(f"the tokenizer in {folder} has no eos token")
        self.d_model = self.network.get_output_embeddings().weight.shape[1]
        self.context = getattr(self.network.config, "max_position_embeddings", None) or 2**30
        self.takes_positions = "position_ids" in inspect.signature(self.network.forward).parameters
        self.value_head = nn.Linear(self.d_model, 1) if value_head else None
        if self.value_head is not None:
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)
        self.train()
        with torch.no_grad():
            probe = torch.arange(min(PROBE, self.tokenizer.vocab_size)).unsqueeze(0)
            if not torch.allclose(self.logits(self.hidden(probe)), self.network(probe).logits, atol=1e-4):
                raise UsageError(
                    f"the model in {folder} changes its logits after the output embeddings, which agents don't know"
                )

    def train(self, mode: bool = True) -> HuggingFaceModel:
        """Dropout stays off: log-probs in training are those of sampling."""
        super().train(mode)
        self.network.eval()
        return self

    def autocast(self) -> torch.autocast:
        return torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda")

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.shape[1] > self.context:
            raise ValueError(f"sequences must have at most {self.context} tokens, the context, got {tokens.shape[1]}")
        with self.autocast():
            return self.network.base_model(input_ids=tokens, use_cache=False).last_hidden_state

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        with self.autocast():
            return self.network.get_output_embeddings()(hidden).float()

    @torch.inference_mode()
    def draw(self, prompts: list[list[int]], owners: torch.Tensor, uniforms: torch.Tensor, drawing: Drawing):
        """Prompts are padded on the left, as these models expect; responses to one prompt share its computation."""
        longest, pad, device = max(map(len, prompts)), self.tokenizer.pad, owners.device
        tokens = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        seen = (torch.arange(longest, device=device) >= longest - lengths.unsqueeze(1)).long()
        positions = (seen.cumsum(1) - 1).clamp(min=0)
        logits, cache = self.forward_last(tokens, seen, positions, None)
        cache.batch_select_indices(owners)
        lengths, seen = lengths[owners], seen[owners]

        def advance(step, token, kept):
            nonlocal lengths, seen
            if kept is not None:
                cache.batch_select_indices(kept)
                lengths, seen = lengths[kept], seen[kept]
            seen = torch.cat([seen, torch.ones_like(seen[:, :1])], 1)
            return self.forward_last(token.unsqueeze(1), seen, (lengths + step).unsqueeze(1), cache)[0]

        return draw_rows(logits[owners], advance, uniforms, drawing)

    def forward_last(self, tokens, seen, positions, cache):
        """Logits after the last token of each row, and the cache with the keys and values of all."""
        extra = {"position_ids": positions} if self.takes_positions else {}
        with self.autocast():
            out = self.network(
                input_ids=tokens, attention_mask=seen, past_key_values=cache, use_cache=True, logits_to_keep=1, **extra
            )
        return out.logits[:, -1].float(), out.past_key_values


@torch.no_grad()
def as_hugging_face(model: GPT) -> Any:
    """The same function as a model of transformers: GPT-NeoX with rope, GPT-2 with learned positions; biases are 0."""
    from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

    config, tokenizer = model.config, model.tokenizer
    ids = {"bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eos, "pad_token_id": tokenizer.pad}
    common = {"vocab_size": config.vocab_size, "tie_word_embeddings": True, **ids}
    if config.positions == "learned":
        theirs = GPT2LMHeadModel(
            GPT2Config(
                n_positions=config.context,
                n_embd=config.d_model,
                n_layer=config.num_layers,
                n_head=config.num_heads,
                activation_function="gelu",
                **common,
            )
        )
        trunk = theirs.transformer
        trunk.wpe.weight.copy_(model.positions.weight)
        embedding, norm, layers = trunk.wte, trunk.ln_f, trunk.h
    else:
        theirs = GPTNeoXForCausalLM(
            GPTNeoXConfig(
                max_position_embeddings=config.context,
                hidden_size=config.d_model,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                intermediate_size=4 * config.d_model,
                hidden_act="gelu",
                use_parallel_residual=False,
                rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0},
                **common,
            )
        )
        trunk = theirs.gpt_neox
        embedding, norm, layers = trunk.embed_in, trunk.final_layer_norm, trunk.layers
    for name, parameter in theirs.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
    embedding.weight.copy_(model.embedding.weight)
    norm.weight.copy_(model.norm.weight)
    for ours, layer in zip(model.blocks, layers):
        if config.positions == "learned":  # their matrices are transposed
            layer.ln_1.weight.copy_(ours.norm_in.weight)
            layer.ln_2.weight.copy_(ours.norm_mid.weight)
            layer.attn.c_attn.weight.copy_(ours.qkv.weight.t())
            layer.attn.c_proj.weight.copy_(ours.output.weight.t())
            layer.mlp.c_fc.weight.copy_(ours.up.weight.t())
            layer.mlp.c_proj.weight.copy_(ours.down.weight.t())
        else:  # their rows are (head, query | key | value), ours (query | key | value, head)
            by_head = ours.qkv.weight.unflatten(0, (3, config.num_heads, -1)).transpose(0, 1).flatten(0, 2)
            layer.input_layernorm.weight.copy_(ours.norm_in.weight)
            layer.post_attention_layernorm.weight.copy_(ours.norm_mid.weight)
            layer.attention.query_key_value.weight.copy_(by_head)
            layer.attention.dense.weight.copy_(ours.output.weight)
            layer.mlp.dense_h_to_4h.weight.copy_(ours.up.weight)
            layer.mlp.dense_4h_to_h.weight.copy_(ours.down.weight)
    return theirs.eval()
