"""What the small language model computes on a CPU: products by oneDNN, and a token's attention compiled by numba.

torch multiplies float32 matrices by MKL there, which takes twice oneDNN's time on processors of AMD.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from torch import nn

LN_2, LOG2_E = np.float32(np.log(2.0)), np.float32(np.log2(np.e))
SERIES = tuple(np.float32(1 / n) for n in (5040, 720, 120, 24, 6, 2, 1, 1))  # of exp, the highest power first

ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(x: torch.Tensor, weight: torch.Tensor, activation: str = "none") -> torch.Tensor:
    """x (..., inputs) times weight (outputs, inputs), then "none" or "gelu"; without a gradient."""
    if ONEDNN and x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu" and x.numel():
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, activation, [], "none")
    y = F.linear(x, weight)
    return F.gelu(y) if activation == "gelu" else y


@torch.library.custom_op("explore_gym::product", mutates_args=())
def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`linear` as an operation that can be differentiated, by products of the same kind, and compiled."""
    return linear(x, weight)


def remember(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs)


def differentiate(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    x, weight = ctx.saved_tensors
    to_x, to_weight = ctx.needs_input_grad
    rows, inputs = grad.flatten(0, -2), x.flatten(0, -2)
    return product(grad, weight.t()) if to_x else None, product(rows.t(), inputs.t()) if to_weight else None


product.register_fake(lambda x, weight: x.new_empty(*x.shape[:-1], len(weight)))
product.register_autograd(differentiate, setup_context=remember)


class Linear(nn.Linear):
    """A linear layer without a bias."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight) if x.is_cuda else product(x, self.weight)


def compiled(function: Any) -> Any:
    return njit(nogil=True, cache=True, fastmath=True, error_model="numpy")(function)


@compiled
def compare(q, keys, scores, first):
    """scores[head, first + t] of a query (heads, size) and keys (tokens, heads, size)."""
    for t in range(keys.shape[0]):
        for head in range(q.shape[0]):
            score = np.float32(0.0)
            for i in range(q.shape[1]):
                score += q[head, i] * keys[t, head, i]
            scores[head, first + t] = score


@compiled
def softmax(scores):
    """In place, of scores (tokens,). The exponential is a polynomial, which a processor computes for many scores at once."""
    highest, total = scores[0], np.float32(0.0)
    for t in range(1, len(scores)):
        highest = max(highest, scores[t])
    for t in range(len(scores)):
        x = max(scores[t] - highest, np.float32(-87.0))
        power = np.floor(x * LOG2_E + np.float32(0.5))
        x -= power * LN_2
        series = np.float32(0.0)
        for coefficient in SERIES:
            series = series * x + coefficient
        scores[t] = series * np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)
        total += scores[t]
    for t in range(len(scores)):
        scores[t] *= np.float32(1.0) / total


@compiled
def weigh(scores, first, values, total):
    """Adds values (tokens, heads, size), weighed by scores[head, first + t], to total (heads, size)."""
    for t in range(values.shape[0]):
        for head in range(total.shape[0]):
            weight = scores[head, first + t]
            for i in range(total.shape[1]):
                total[head, i] += weight * values[t, head, i]


@compiled
def attend(qkv, cos, sin, slots, owners, lengths, step, past_keys, past_values, keys, values, out):
    """What the newest token of each response sees in one layer: its prompt, and the response so far.

    Memory that isn't in the processor's cache decides about the time, so it is read in order, and prompts that several
    responses have in common are stored once.

    Args:
        qkv: float32 (rows, 3, heads, size), queries, already scaled, keys and values of the newest tokens.
        cos, sin: float32 (context, size / 2), of the angles by which queries and keys turn at each position.
        slots: int64 (rows,), places of the responses in keys and values.
        owners: int64 (responses,), numbers of their prompts.
        lengths: int64 (prompts,), in tokens.
        step: int, tokens of the responses before this one.
        past_keys, past_values: float32 (prompts, longest, heads, size), keys already turned.
        keys, values: float32 (responses, steps, heads, size); the newest token's are written.
        out: float32 (rows, heads, size), written.
    """
    heads, size = keys.shape[2], keys.shape[3]
    half = size // 2
    scores = np.empty((heads, past_keys.shape[1] + step + 1), np.float32)
    q = np.empty((heads, size), np.float32)
    for row in range(len(slots)):
        slot = slots[row]
        owner = owners[slot]
        length = lengths[owner]
        position, count = length + step, length + step + 1
        for head in range(heads):
            for i in range(half):
                c, s, j = cos[position, i], sin[position, i], i + half
                a, b = qkv[row, 0, head, i], qkv[row, 0, head, j]
                q[head, i], q[head, j] = a * c - b * s, b * c + a * s
                a, b = qkv[row, 1, head, i], qkv[row, 1, head, j]
                keys[slot, step, head, i], keys[slot, step, head, j] = a * c - b * s, b * c + a * s
            for i in range(size):
                values[slot, step, head, i] = qkv[row, 2, head, i]
                out[row, head, i] = 0.0
        compare(q, past_keys[owner, :length], scores, 0)
        compare(q, keys[slot, : step + 1], scores, length)
        for head in range(heads):
            softmax(scores[head, :count])
        weigh(scores, 0, past_values[owner, :length], out[row])
        weigh(scores, length, values[slot, : step + 1], out[row])
