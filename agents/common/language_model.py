"""The small language model that agents train, behind an interface which a Hugging Face model has as well.

    model = load_model("gpt", tokenizer, GPTConfig(tokenizer.vocab_size))      # or load_model("hf:folder")
    samples = model.sample([model.prompt(text) for text in prompts], n=8, max_new_tokens=32)
    rewards = [verify(text) for text in model.texts(samples)]                  # n in a row for each prompt
    hidden = model.hidden(samples.tokens)                                      # with a gradient from here on
    logprobs, entropies = model.logprobs(hidden, samples.tokens, written=samples.written)

Sequences are rows of token ids, padded on the right. A model is causal, so what stands behind a token changes nothing about it:
no mask is needed, and a row means the same in every batch. Column t of `logprobs` and `entropies` is about drawing token t,
column t of `hidden` and `values` about the state after token t; column 0 of the former is 0, as nothing draws a first token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from explore_gym.agents.common.errors import UsageError
from explore_gym.agents.common.generation import Drawing, Samples, draw_on_cpu, draw_on_gpu, draw_samples, rotate
from explore_gym.agents.common.kernels import Linear


class Tokenizer(Protocol):
    vocab_size: int
    pad: int
    bos: int
    eos: int

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class LanguageModel(nn.Module):
    """What agents use of a model; subclasses define `hidden`, `logits` and `draw`.

    Attributes:
        tokenizer: turns texts into ids and back.
        context: tokens in the longest sequence.
        d_model: width of the hidden states.
        value_head: hidden state -> value, if there is one.
        cpu_rows: responses that are drawn at once on a CPU.
    """

    tokenizer: Tokenizer
    context: int
    d_model: int
    value_head: nn.Linear | None
    cpu_rows: int = 256

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        """Last hidden states (batch, length, d_model), after the final norm, of tokens (batch, length)."""
        raise NotImplementedError

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores of the next token, float32 (..., vocab_size), in hidden states (..., d_model)."""
        raise NotImplementedError

    def draw(
        self, prompts: list[list[int]], owners: torch.Tensor, uniforms: torch.Tensor, drawing: Drawing
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draws a response of prompts[owners[i]] with the numbers uniforms[i] for each row i; owners ascend.

        Returns tokens and logprobs, (rows, longest response), and the lengths of the responses, (rows,), beyond which they
        mean nothing.
        """
        raise NotImplementedError

    def values(self, hidden: torch.Tensor) -> torch.Tensor:
        """Values, float32 (...,), of hidden states (..., d_model)."""
        if self.value_head is None:
            raise ValueError("this model has no value head: make it with value_head=True")
        return self.value_head(hidden.float()).squeeze(-1)

    def logprobs(
        self, hidden: torch.Tensor, tokens: torch.Tensor, temperature: float = 1.0, written: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs of tokens and entropies, in nats, of the distributions that they were drawn from.

        hidden (batch, length, d_model) and tokens (batch, length) give two float32 (batch, length). Where `written`, bool
        (batch, length), is given, only its tokens are looked at, the rest is 0: less work where vocabularies are large.
        """
        states, targets = hidden[:, :-1], tokens[:, 1:]
        if written is not None:
            states, targets = states[written[:, 1:]], targets[written[:, 1:]]
        all_logprobs = (self.logits(states) / temperature).log_softmax(-1)
        logprobs = all_logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        entropies = -(all_logprobs.exp() * all_logprobs).sum(-1)
        if written is None:
            return F.pad(logprobs, (1, 0)), F.pad(entropies, (1, 0))
        index = written.clone()
        index[:, 0] = False
        empty = logprobs.new_zeros(tokens.shape)
        return empty.masked_scatter(index, logprobs), empty.masked_scatter(index, entropies)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        n: int | Sequence[int] = 1,
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        stop: Sequence[int] = (),
        generator: torch.Generator | None = None,
    ) -> Samples:
        """Draws n responses to each prompt (n may differ between prompts), rows in the order of the prompts.

        A response ends with eos, a token of `stop`, or after max_new_tokens. Temperature 0 takes the most likely token. The
        log-probs are those of `logprobs` at this temperature (1 if it is 0), before top_k and top_p take tokens away.

        Raises:
            ValueError: an argument is out of range, or a prompt is empty or too long for the context.
        """
        counts = [n] * len(prompts) if isinstance(n, int) else list(n)
        drawing = Drawing(float(temperature), int(top_k), float(top_p), (self.tokenizer.eos, *stop))
        if len(counts) != len(prompts) or not counts or min(counts) < 0 or sum(counts) == 0:
            raise ValueError(f"n must be a number of responses, or one for each of the {len(prompts)} prompts, got {n}")
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
        lengths = [len(prompt) for prompt in prompts]
        if min(lengths) == 0:
            raise ValueError(f"prompts must have at least one token, number {lengths.index(0)} has none")
        if max(lengths) + max_new_tokens > self.context:
            raise ValueError(
                f"the longest prompt ({max(lengths)} tokens) and max_new_tokens ({max_new_tokens}) must fit into the context "
                f"of {self.context} tokens"
            )
        return draw_samples(self, prompts, counts, max_new_tokens, drawing, generator)

    def prompt(self, text: str) -> list[int]:
        """The ids of a prompt: bos, where the tokenizer has one, and those of the text."""
        return [*([] if self.tokenizer.bos is None else [self.tokenizer.bos]), *self.tokenizer.encode(text)]

    def texts(self, samples: Samples) -> list[str]:
        """What each response says, without eos."""
        eos = self.tokenizer.eos
        return [self.tokenizer.decode([i for i in ids if i != eos]) for ids in samples.responses()]

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


@dataclass(frozen=True)
class GPTConfig:
    vocab_size: int
    context: int = 128  # tokens in the longest sequence
    num_layers: int = 4
    d_model: int = 128
    num_heads: int = 4  # per layer
    positions: Literal["rope", "learned"] = "rope"  # rotated queries and keys, or an embedding for each position
    value_head: bool = False
    bf16: bool = True  # on a GPU: layers in bfloat16, weights, norms and the last layer in float32

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context", "num_layers", "d_model", "num_heads"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.d_model % (2 * self.num_heads):
            raise UsageError(f"d_model must be a multiple of 2 * num_heads = {2 * self.num_heads}, got {self.d_model}")
        if self.positions not in ("rope", "learned"):
            raise UsageError(f"positions must be rope or learned, got {self.positions!r}")


class Block(nn.Module):
    """Attention to what came before and a feed-forward layer, each on a norm and added to what comes in."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        d, self.num_heads, self.rope = config.d_model, config.num_heads, config.positions == "rope"
        self.norm_in, self.norm_mid = nn.LayerNorm(d, bias=False), nn.LayerNorm(d, bias=False)
        self.qkv, self.output = Linear(d, 3 * d), Linear(d, d)
        self.up, self.down = Linear(d, 4 * d), Linear(4 * d, d)

    def project(self, x, cos, sin):
        """Queries, keys and values, each (batch, heads, length, head_dim), of x (batch, length, d_model)."""
        q, k, v = self.qkv(self.norm_in(x)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return (rotate(q, cos, sin), rotate(k, cos, sin), v) if self.rope else (q, k, v)

    def mix(self, x, attended):
        """What leaves the block, from x (batch, length, d_model) and attended values (batch, heads, length, head_dim)."""
        x = x + self.output(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm_mid(x))))

    def forward(self, x, cos, sin):
        """x (batch, length, d_model) -> x, and keys and values (batch, heads, length, head_dim)."""
        q, k, v = self.project(x, cos, sin)
        return self.mix(x, F.scaled_dot_product_attention(q, k, v, is_causal=True)), k, v


class GPT(LanguageModel):
    """A pre-norm transformer without biases whose input and output embeddings are one (Radford et al., 2019)."""

    cos: torch.Tensor
    sin: torch.Tensor
    cpu_rows = 1024

    def __init__(self, config: GPTConfig, tokenizer: Tokenizer):
        super().__init__()
        if tokenizer.vocab_size > config.vocab_size:
            raise UsageError(f"vocab_size must be at least the tokenizer's {tokenizer.vocab_size}, got {config.vocab_size}")
        self.config, self.tokenizer, self.context, self.d_model = config, tokenizer, config.context, config.d_model
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = nn.Embedding(config.context, config.d_model) if config.positions == "learned" else None
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.num_layers)])
        self.norm = nn.LayerNorm(config.d_model, bias=False)
        self.value_head = nn.Linear(config.d_model, 1) if config.value_head else None
        half = config.d_model // config.num_heads // 2
        angles = torch.arange(config.context).unsqueeze(1) * 10_000 ** (-torch.arange(half) / half)
        if self.positions is not None:
            angles = torch.zeros_like(angles)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:  # what adds to the residual stream starts smaller, by the number of additions
                shrink = (2 * config.num_layers) ** -0.5 if name.endswith(("output.weight", "down.weight")) else 1.0
                nn.init.normal_(parameter, std=0.02 * shrink)
        if self.value_head is not None:
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)

    def embed(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Tokens and their positions, of equal or broadcast shape -> (..., d_model)."""
        x = F.embedding(tokens, self.embedding.weight)
        return x if self.positions is None else x + self.positions(positions)

    def encode(self, tokens: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
        """`hidden`, and the keys and values of each layer, (batch, heads, length, head_dim).

        Raises:
            ValueError: the sequences are longer than the context.
        """
        length = tokens.shape[1]
        if length > self.context:
            raise ValueError(f"sequences must have at most {self.context} tokens, the context, got {length}")
        x, keys, values = self.embed(tokens, torch.arange(length, device=tokens.device)), [], []
        with torch.autocast("cuda", torch.bfloat16, enabled=self.config.bf16 and tokens.is_cuda):
            for block in self.blocks:
                x, k, v = block(x, self.cos[:length], self.sin[:length])
                keys.append(k)
                values.append(v)
        return self.norm(x), keys, values

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.encode(tokens)[0]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.linear(hidden, self.embedding.weight)

    def draw(self, prompts, owners, uniforms, drawing):
        return (draw_on_gpu if owners.is_cuda else draw_on_cpu)(self, prompts, owners, uniforms, drawing)


def load_model(name: str, tokenizer: Tokenizer | None = None, config: GPTConfig | None = None) -> LanguageModel:
    """Makes the model that `--model` names: "gpt", untrained, of a tokenizer and a config, or "hf:<folder>".

    A Hugging Face model brings its own tokenizer; of the config only value_head counts.

    Raises:
        UsageError: the name has neither form, or the folder holds no causal language model.
    """
    if name == "gpt" and tokenizer is not None:
        return GPT(config or GPTConfig(tokenizer.vocab_size), tokenizer)
    if name.startswith("hf:"):
        from explore_gym.agents.common.hf import HuggingFaceModel

        return HuggingFaceModel(Path(name[3:]).expanduser(), value_head=bool(config and config.value_head))
    raise UsageError(f'model must be "gpt", together with a tokenizer, or "hf:<folder>", got {name!r}')


def pass_at_k(num_samples: Any, num_right: Any, k: int) -> np.ndarray:
    """Unbiased probability that one of k samples is right (Chen et al., 2021, arXiv:2107.03374, eq. 1).

    num_samples and num_right (...,) are drawn and right samples of each problem; float64 (...,).

    Raises:
        ValueError: fewer than k samples, or more right ones than samples.
    """
    samples, right = np.broadcast_arrays(np.asarray(num_samples), np.asarray(num_right))
    if k < 1 or (samples < k).any():
        raise ValueError(f"k must lie in [1, {samples.min()}], the number of samples, got {k}")
    if (right < 0).any() or (right > samples).any():
        raise ValueError("num_right must lie between 0 and num_samples")
    wrong = (samples - right)[..., None]
    drawn = np.arange(k)  # the samples drawn before, all wrong
    return 1.0 - np.prod(np.clip((wrong - drawn) / (samples[..., None] - drawn), 0.0, 1.0), -1)
