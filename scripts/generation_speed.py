"""Measure how fast the small language model draws, beside Hugging Face's `generate`: `python scripts/generation_speed.py`.

Both sides have the same weights in the same architecture (checked: their logits agree), draw with temperature 1 from the same
prompts, and never end early. They alternate, after a warm-up which isn't timed; the ratio is taken in each round, so that a
busy machine slows both, and the median ratio decides. A round of ours returns log-probs as well, theirs tokens alone.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import transformers
import tyro

from explore_gym.agents.common.hf import as_hugging_face
from explore_gym.agents.common.language_model import GPT, GPTConfig


@dataclass
class Args:
    batch: int = 256  # responses at once
    group: int = 1  # responses per prompt
    prompt_tokens: int = 16
    new_tokens: int = 64
    vocab_size: int = 136
    d_model: int = 128
    num_layers: int = 4
    num_heads: int = 4
    positions: Literal["rope", "learned"] = "rope"
    rounds: int = 5
    threads: int = 2  # torch threads of either side
    device: str = "cpu"
    output: Path | None = None  # JSON file of the results


class NoEnd:
    """Ids alone; the end token is one that no model draws."""

    def __init__(self, vocab_size):
        self.vocab_size, self.pad, self.bos, self.eos = vocab_size, 0, 1, vocab_size


def timed(function, device):
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main(args: Args) -> None:
    if args.batch % args.group:
        raise SystemExit(f"error: group must divide batch = {args.batch}, got {args.group}")
    transformers.logging.set_verbosity_error()  # it warns of ids that mean no end, which is intended
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)
    config = GPTConfig(
        args.vocab_size,
        args.prompt_tokens + args.new_tokens,
        args.num_layers,
        args.d_model,
        args.num_heads,
        args.positions,
    )
    model = GPT(config, NoEnd(args.vocab_size)).to(device)
    theirs = as_hugging_face(model).to(device)
    theirs.generation_config.eos_token_id = None
    prompts = torch.randint(1, args.vocab_size, (args.batch // args.group, args.prompt_tokens), device=device)
    with torch.inference_mode():
        gap = (theirs(prompts).logits - model.logits(model.hidden(prompts))).abs().max().item()
    if gap > (1e-4 if device.type == "cpu" else 0.1):
        raise SystemExit(f"error: the two models differ: their logits are {gap} apart")
    if device.type == "cuda":
        theirs = theirs.bfloat16()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters; logits agree to {gap:.1e}")

    def ours():
        return model.sample(prompts.tolist(), args.group, args.new_tokens)

    def generate():
        mask = torch.ones_like(prompts)
        how = dict(max_new_tokens=args.new_tokens, do_sample=True, top_k=0, num_return_sequences=args.group, pad_token_id=0)
        with torch.inference_mode():
            return theirs.generate(prompts, attention_mask=mask, **how)

    width = args.prompt_tokens + args.new_tokens
    assert ours().tokens.shape == generate().shape == (args.batch, width)
    rounds = []
    for i in range(args.rounds):
        seconds = {name: timed(function, device) for name, function in (("ours", ours), ("generate", generate))}
        rounds.append(seconds)
        speeds = {name: args.batch * args.new_tokens / s for name, s in seconds.items()}
        ratio = seconds["generate"] / seconds["ours"]
        print(f"round {i + 1}: ours {speeds['ours']:,.0f} tokens/s, generate {speeds['generate']:,.0f}, ratio {ratio:.2f}")
    ratios = [r["generate"] / r["ours"] for r in rounds]
    print(f"median ratio {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
    if args.output:
        settings = {key: str(x) if isinstance(x, Path) else x for key, x in dataclasses.asdict(args).items()}
        machine = {"machine": platform.machine(), "python": platform.python_version(), "torch": torch.__version__}
        args.output.write_text(json.dumps({**settings, **machine, "seconds": rounds, "ratios": ratios}, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
