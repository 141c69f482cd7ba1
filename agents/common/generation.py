"""Drawing responses token by token: on a CPU by compiled attention, on a GPU as one recorded step replayed.

Each row's random numbers are drawn in advance, one per token, so that a response depends neither on how many rows are drawn at
once nor on when others end.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from explore_gym.agents.common.kernels import attend, linear

if TYPE_CHECKING:
    from explore_gym.agents.common.language_model import GPT, LanguageModel

GPU_ROWS = 4096  # that are drawn at once
CPU_MEMORY = 2**26  # bytes of keys and values that a CPU's core holds at once
LEAVE = 0.75  # rows that have ended leave once fewer than this share goes on: leaving copies what the others remember
ENCODED_TOKENS = 1024  # of prompts at once, on a CPU: few enough for its cache
GPU_DECODERS = 8  # recorded steps that a model keeps
CHECK_EVERY = 8  # steps of a GPU, after which the CPU asks whether all rows have ended


@dataclass(frozen=True)
class Drawing:
    """How tokens are drawn, and which end a response.

    Raises:
        ValueError: a number is out of range.
    """

    temperature: float
    top_k: int
    top_p: float
    ends: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be at least 0, got {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be at least 0 (0: all tokens), got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")


@dataclass
class Samples:
    """Prompts and responses as rows: each a prompt, its response, and padding.

    Attributes:
        tokens: int64 (rows, length).
        written: bool (rows, length), tokens that the model drew, the end token included.
        logprobs: float32 (rows, length), of the tokens that the model drew, as they were drawn; elsewhere 0.
        ended: bool (rows,), responses with an end; the others were cut off.
        prompts: int64 (rows,), number of the prompt that a row answers.
    """

    tokens: torch.Tensor
    written: torch.Tensor
    logprobs: torch.Tensor
    ended: torch.Tensor
    prompts: torch.Tensor

    def responses(self) -> list[list[int]]:
        """The tokens of each response, the end token included."""
        drawn = self.tokens[self.written].tolist()
        stops = self.written.sum(1).cumsum(0).tolist()
        return [drawn[start:stop] for start, stop in zip([0, *stops], stops)]


def draw_samples(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    counts: Sequence[int],
    max_new_tokens: int,
    drawing: Drawing,
    generator: torch.Generator | None,
) -> Samples:
    """Draws counts[i] responses to prompts[i], so many rows at once that they fit into memory."""
    device = model.device
    owners = torch.repeat_interleave(torch.arange(len(prompts)), torch.tensor(counts))
    rows = len(owners)
    uniforms = torch.rand(rows, max_new_tokens, generator=generator, device=device)
    pieces = []
    for mine, numbers in zip(*(x.split(GPU_ROWS if device.type == "cuda" else model.cpu_rows) for x in (owners, uniforms))):
        first, last = int(mine[0]), int(mine[-1])
        texts = [list(prompt) for prompt in prompts[first : last + 1]]
        pieces.append(model.draw(texts, (mine - first).to(device), numbers, drawing))

    widest = max(tokens.shape[1] for tokens, _, _ in pieces)
    drawn, logprobs = (torch.cat([F.pad(p[i], (0, widest - p[i].shape[1])) for p in pieces]) for i in (0, 1))
    num_drawn = torch.cat([lengths for _, _, lengths in pieces])
    lengths = torch.tensor([len(prompt) for prompt in prompts])[owners].to(device)
    text = padded(prompts, model.tokenizer.pad)[owners].to(device)
    length = int((lengths + num_drawn).max())
    padding = text.new_full((rows, widest), model.tokenizer.pad)
    tokens = torch.cat([text, padding], 1)
    columns = lengths.unsqueeze(1) + torch.arange(widest, device=device)
    real = torch.arange(widest, device=device) < num_drawn.unsqueeze(1)
    tokens.scatter_(1, columns, drawn.where(real, tokens.new_tensor(model.tokenizer.pad)))
    written = torch.zeros_like(tokens, dtype=torch.bool).scatter_(1, columns, real)
    all_logprobs = torch.zeros_like(tokens, dtype=torch.float32).scatter_(1, columns, logprobs.where(real, 0.0))
    last = drawn.gather(1, num_drawn.unsqueeze(1) - 1)
    ended = (last == last.new_tensor(drawing.ends)).any(1)
    return Samples(tokens[:, :length], written[:, :length], all_logprobs[:, :length], ended, owners.to(device))


def padded(sequences: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    """Token sequences as rows of one tensor, int64 (number, longest), padded on the right."""
    rows = np.full((len(sequences), max(map(len, sequences))), pad, np.int64)
    for row, sequence in zip(rows, sequences):
        row[: len(sequence)] = sequence
    return torch.from_numpy(rows)


def choose(logits: torch.Tensor, uniforms: torch.Tensor, drawing: Drawing) -> tuple[torch.Tensor, torch.Tensor]:
    """A token and its log-prob for each row, (rows,), from logits (rows, vocab_size) and numbers in [0, 1) (rows,).

    The token is the first whose cumulative probability exceeds the number: one draw of a row, where others draw one of each
    token. In float64, for sums that a GPU rounds differently from token to token would let impossible tokens through.
    """
    logprobs = (logits / (drawing.temperature or 1.0)).log_softmax(-1)
    if drawing.temperature == 0:
        token = logprobs.argmax(-1)
    else:
        sums = likely(logprobs, drawing).exp().double().cumsum(-1)
        token = (sums <= uniforms.unsqueeze(-1) * sums[:, -1:]).sum(-1)
    return token, logprobs.gather(-1, token.unsqueeze(-1)).squeeze(-1)


def likely(logprobs: torch.Tensor, drawing: Drawing) -> torch.Tensor:
    """Log-probs (rows, vocab_size), -inf but for the top_k most likely tokens, and of these the fewest that make up top_p."""
    if 0 < drawing.top_k < logprobs.shape[-1]:
        kept = logprobs.topk(drawing.top_k, -1)
        logprobs = torch.full_like(logprobs, -torch.inf).scatter(-1, kept.indices, kept.values)
    if drawing.top_p < 1:
        ordered, order = logprobs.sort(-1, descending=True)
        probs = ordered.softmax(-1)
        before = probs.cumsum(-1) - probs
        logprobs = logprobs.scatter(-1, order, ordered.masked_fill(before >= drawing.top_p, -torch.inf))
    return logprobs


def draw_rows(
    logits: torch.Tensor,
    advance: Callable[[int, torch.Tensor, torch.Tensor | None], torch.Tensor],
    uniforms: torch.Tensor,
    drawing: Drawing,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draws a response for each row, given the logits (rows, vocab_size) of its first token.

    advance(step, token, kept) returns the logits after the tokens that this step drew; if `kept` is given, only those rows
    are left. Returns tokens and logprobs (rows, longest response), and lengths (rows,), beyond which they mean nothing.
    """
    rows, num_steps = uniforms.shape
    tokens = torch.zeros(rows, num_steps, dtype=torch.long, device=logits.device)
    logprobs = torch.zeros(rows, num_steps, device=logits.device)
    lengths = torch.full((rows,), num_steps, device=logits.device)
    ends = torch.tensor(drawing.ends, device=logits.device)
    held = torch.arange(rows, device=logits.device)
    going = torch.ones(rows, dtype=torch.bool, device=logits.device)  # of the rows held
    for step in range(num_steps):
        token, logprob = choose(logits, uniforms[held, step], drawing)
        tokens[held, step], logprobs[held, step] = token, logprob
        end = going & torch.isin(token, ends)
        lengths[held[end]] = step + 1
        going &= ~end
        num_going = int(going.sum())
        if num_going == 0 or step == num_steps - 1:
            break
        kept = None
        if num_going < LEAVE * len(held):
            kept = going.nonzero().squeeze(1)
            held, going, token = held[kept], going[kept], token[kept]
        logits = advance(step, token, kept)
    return tokens[:, : step + 1], logprobs[:, : step + 1], lengths


def rotate(x, cos, sin):
    """Turns the pairs (i, i + head_dim / 2) of x (..., head_dim) by angles (..., head_dim / 2) (Su et al., 2021, eq. 34)."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def draw_on_cpu(model: GPT, prompts: list[list[int]], owners: torch.Tensor, uniforms: torch.Tensor, drawing: Drawing):
    """`LanguageModel.draw` of a GPT, a piece of the rows on each of torch's threads."""
    (rows, num_steps), threads = uniforms.shape, torch.get_num_threads()
    fitting = CPU_MEMORY // (8 * model.config.num_layers * model.config.d_model * num_steps)
    piece = max(32, min(-(-rows // threads), fitting))
    pieces = [
        (prompts[mine[0] : mine[-1] + 1], mine - mine[0], numbers, drawing)
        for mine, numbers in zip(owners.split(piece), uniforms.split(piece))
    ]
    if threads == 1 or len(pieces) == 1:
        drawn = [draw_piece(model, *piece) for piece in pieces]
    else:
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                drawn = list(pool.map(lambda piece: draw_piece(model, *piece), pieces))
        finally:
            torch.set_num_threads(threads)  # the workers' setting isn't theirs alone
    longest = max(tokens.shape[1] for tokens, _, _ in drawn)
    tokens, logprobs = (torch.cat([F.pad(x[i], (0, longest - x[i].shape[1])) for x in drawn]) for i in (0, 1))
    return tokens, logprobs, torch.cat([lengths for _, _, lengths in drawn])


@torch.inference_mode()
def draw_piece(model: GPT, prompts: list[list[int]], owners: torch.Tensor, uniforms: torch.Tensor, drawing: Drawing):
    """Draws a response for each row; responses to one prompt share its forward pass, its keys and its values."""
    config, (rows, num_steps) = model.config, uniforms.shape
    heads, size = config.num_heads, config.d_model // config.num_heads
    tokens, lengths = padded(prompts, model.tokenizer.pad), torch.tensor([len(prompt) for prompt in prompts])
    hidden = torch.empty(len(prompts), config.d_model)
    past = np.empty((config.num_layers, 2, *tokens.shape, heads, size), np.float32)  # numpy takes large pages where it can
    memory = np.empty((config.num_layers, 2, rows, num_steps, heads, size), np.float32)
    at_once = max(1, ENCODED_TOKENS // tokens.shape[1])
    for mine in (slice(i, i + at_once) for i in range(0, len(prompts), at_once)):
        states, *encoded = model.encode(tokens[mine])
        hidden[mine] = states[torch.arange(len(states)), lengths[mine] - 1]
        for layer, *both in zip(past, *encoded):
            for i, x in enumerate(both):
                layer[i, mine] = x.transpose(1, 2).numpy()
    tables = model.cos.numpy(), model.sin.numpy()
    positions, whose = lengths[owners], (owners.numpy(), lengths.numpy())
    layers = [(block, scaled(block), *known, *own) for block, known, own in zip(model.blocks, past, memory)]
    slots = torch.arange(rows)

    def advance(step, token, kept):
        nonlocal slots
        slots = slots if kept is None else slots[kept]
        x = model.embed(token, positions[slots] + step)
        seen = torch.empty_like(x)
        for block, to_qkv, *known in layers:
            qkv = linear(block.norm_in(x), to_qkv).view(-1, 3, heads, size).numpy()
            attend(qkv, *tables, slots.numpy(), *whose, step, *known, seen.view(-1, heads, size).numpy())
            x += linear(seen, block.output.weight)
            x += linear(linear(block.norm_mid(x), block.up.weight, "gelu"), block.down.weight)
        return model.logits(model.norm(x))

    return draw_rows(model.logits(hidden)[owners], advance, uniforms, drawing)


def scaled(block: nn.Module) -> torch.Tensor:
    """The weights (3 * d_model, d_model) of queries, which scale the scores, keys and values."""
    q, k, v = block.qkv.weight.chunk(3)
    return torch.cat([q * (len(q) // block.num_heads) ** -0.5, k, v])


class GPUDecoder:
    """Draws responses of a GPT in steps whose shapes and addresses never change: a CUDA graph is recorded once and replayed.

    Prompts take `longest` columns of the cache, padded on the right, responses the `num_steps` columns behind; columns that are
    padding or still to come are masked. The weights are copies in the precision in which they are used. On a CPU, where
    nothing can be recorded, the same steps run one by one.
    """

    @torch.inference_mode()
    def __init__(self, model: GPT, rows: int, longest: int, num_steps: int, drawing: Drawing):
        device, config = model.device, model.config
        self.dtype = torch.bfloat16 if config.bf16 and device.type == "cuda" else torch.float32
        self.model, self.drawing, self.longest, self.num_steps = copy.deepcopy(model), drawing, longest, num_steps
        for module in self.model.blocks.modules():
            if isinstance(module, nn.Linear):
                module.to(self.dtype)
        self.model.requires_grad_(False)
        heads, capacity = config.num_heads, longest + num_steps
        shape = (config.num_layers, 2, rows, heads, capacity, config.d_model // heads)
        self.cache = torch.zeros(shape, dtype=self.dtype, device=device)
        self.mask = torch.zeros(rows, 1, 1, capacity, dtype=torch.bool, device=device)  # True: may be looked at
        self.logits = torch.zeros(rows, config.vocab_size, device=device)
        self.uniforms = torch.zeros(rows, num_steps, device=device)
        self.lengths, self.num_drawn = torch.zeros(2, rows, dtype=torch.long, device=device)
        self.tokens = torch.zeros(rows, num_steps, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(rows, num_steps, device=device)
        self.going = torch.zeros(rows, dtype=torch.bool, device=device)
        self.now = torch.zeros(1, dtype=torch.long, device=device)
        self.ends = torch.tensor(drawing.ends, device=device)
        self.replay = self.record() if device.type == "cuda" else self.step

    def record(self) -> Callable[[], None]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries set themselves up in the first calls, which can't be recorded
            for _ in range(2):
                self.now.zero_()
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        self.now.zero_()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.step()
        return self.graph.replay

    def step(self) -> None:
        """Draws a token in each row and computes the logits of the next; in rows that have ended nobody looks at them."""
        token, logprob = choose(self.logits, self.uniforms.index_select(1, self.now).squeeze(1), self.drawing)
        self.tokens.index_copy_(1, self.now, token.unsqueeze(1))
        self.logprobs.index_copy_(1, self.now, logprob.unsqueeze(1))
        self.num_drawn.add_(self.going)
        self.going.logical_and_((token.unsqueeze(1) != self.ends).all(1))
        column = self.now + self.longest
        self.mask.index_fill_(3, column, True)
        position = self.lengths + self.now
        x = self.model.embed(token, position).unsqueeze(1)
        cos, sin = (table[position].view(-1, 1, 1, table.shape[1]) for table in (self.model.cos, self.model.sin))
        for block, (keys, values) in zip(self.model.blocks, self.cache):
            x = self.layer(block, x, cos, sin, keys, values, column)
        self.logits.copy_(self.model.logits(self.model.norm(x)).squeeze(1))
        self.now.add_(1)

    def layer(self, block, x, cos, sin, keys, values, column):
        """A block's forward for one token x (rows, 1, d_model); the stream x stays in float32."""
        normed = block.norm_in(x).to(self.dtype)
        q, k, v = block.qkv(normed).unflatten(-1, (3, block.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if block.rope:
            q, k = rotate(q, cos, sin).to(self.dtype), rotate(k, cos, sin)
        keys.index_copy_(2, column, k.to(self.dtype))
        values.index_copy_(2, column, v)
        attended = F.scaled_dot_product_attention(q, keys, values, attn_mask=self.mask)
        x = x + block.output(attended.transpose(1, 2).flatten(2))
        return x + block.down(F.gelu(block.up(block.norm_mid(x).to(self.dtype))))

    @torch.inference_mode()
    def draw(self, model, prompts, owners, uniforms):
        """`LanguageModel.draw` with the present weights of the model, for at most as many rows as the decoder has."""
        rows = len(owners)
        for mine, now in zip(self.model.parameters(), model.parameters()):
            mine.copy_(now)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=owners.device)
        hidden, *past = model.encode(padded(prompts, model.tokenizer.pad).to(owners.device))
        width = past[0][0].shape[2]
        for i, layer in enumerate(zip(*past)):
            for kept, x in zip(self.cache[i], layer):
                kept[:rows, :, :width] = x[owners]
        self.logits[:rows] = model.logits(hidden[torch.arange(len(prompts)), lengths - 1])[owners]
        self.lengths.fill_(1)
        self.lengths[:rows] = lengths[owners]
        self.mask.fill_(False)
        self.mask[:, 0, 0, : self.longest] = torch.arange(self.longest, device=owners.device) < self.lengths.unsqueeze(1)
        self.uniforms[:rows] = uniforms
        self.num_drawn.zero_()
        self.going.fill_(False)
        self.going[:rows] = True
        self.now.zero_()
        for step in range(self.num_steps):
            self.replay()
            if step % CHECK_EVERY == CHECK_EVERY - 1 and not self.going.any():
                break
        lengths = self.num_drawn[:rows].clone()
        longest = int(lengths.max())
        return self.tokens[:rows, :longest].clone(), self.logprobs[:rows, :longest].clone(), lengths


decoders: weakref.WeakKeyDictionary[nn.Module, dict] = weakref.WeakKeyDictionary()


def draw_on_gpu(model: GPT, prompts: list[list[int]], owners: torch.Tensor, uniforms: torch.Tensor, drawing: Drawing):
    """`LanguageModel.draw` of a GPT: decoders are made for round numbers of rows and columns, and kept."""
    known = decoders.setdefault(model, {})
    num_steps = uniforms.shape[1]
    rows = -(-len(owners) // 64) * 64
    longest = min(-(-max(map(len, prompts)) // 16) * 16, model.context - num_steps)
    key = rows, longest, num_steps, drawing, model.device
    if key in known:
        known[key] = known.pop(key)  # the newest last
    else:
        if len(known) == GPU_DECODERS:
            del known[next(iter(known))]
        known[key] = GPUDecoder(model, rows, longest, num_steps, drawing)
    return known[key].draw(model, prompts, owners, uniforms)
