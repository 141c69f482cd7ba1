"""Base models: supervised training on a task's demonstrations, once per configuration and then read from disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from explore_gym.agents.common.errors import UsageError
from explore_gym.agents.common.generation import padded
from explore_gym.agents.common.language_model import GPT, GPTConfig, LanguageModel, Tokenizer

FORMAT = 1  # of the files; another training procedure or model code gets another number
FINGERPRINT = 64  # demonstrations in the key, so that a task which has changed gets another model


class Demonstrator(Protocol):
    def prompt(self, index: int) -> str: ...

    def demonstrate(self, index: int, rng: np.random.Generator) -> str: ...


@dataclass(frozen=True)
class SFTConfig:
    num_prompts: int = 4096  # the indices of the task below this number are demonstrated
    fixed: bool = False  # one demonstration per prompt, the same each time; otherwise a new one each time
    steps: int = 3000
    batch_size: int = 256  # demonstrations per step
    learning_rate: float = 3e-4  # after warm_up steps; from there to 0 as a cosine
    warm_up: int = 100  # steps
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_prompts", "steps", "batch_size", "warm_up"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")


def demonstrations(model: LanguageModel, task: Demonstrator, config: SFTConfig, rng: np.random.Generator):
    """A batch: tokens (batch_size, longest), and which of them were demonstrated, eos included, bool alike."""
    rows, starts = [], []
    for index in rng.integers(config.num_prompts, size=config.batch_size).tolist():
        source = np.random.default_rng((config.seed, index)) if config.fixed else rng
        prompt = model.prompt(task.prompt(index))
        answer = model.tokenizer.encode(task.demonstrate(index, source))
        rows.append([*prompt, *answer, model.tokenizer.eos])
        starts.append(len(prompt))
    tokens = padded(rows, model.tokenizer.pad)
    columns = torch.arange(tokens.shape[1])
    ends = torch.tensor([len(row) for row in rows])
    return tokens, (columns >= torch.tensor(starts).unsqueeze(1)) & (columns < ends.unsqueeze(1))


def fine_tune(
    model: LanguageModel, task: Demonstrator, config: SFTConfig, log: Callable[[int, dict[str, float]], Any] | None = None
) -> float:
    """Trains a model on demonstrations with AdamW: mean cross-entropy of demonstrated tokens, prompts left out.

    log(step, metrics) is called every 100 steps. Returns the mean loss of the last 100 steps, in nats per token.
    """
    rng = np.random.default_rng((config.seed, 1))
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    losses: list[torch.Tensor] = []
    for step in range(config.steps):
        progress = max(0, step - config.warm_up) / max(1, config.steps - config.warm_up)
        rate = min(1.0, (step + 1) / config.warm_up) * (1 + math.cos(math.pi * progress)) / 2
        optimizer.param_groups[0]["lr"] = rate * config.learning_rate
        tokens, written = (x.to(model.device) for x in demonstrations(model, task, config, rng))
        logprobs, _ = model.logprobs(model.hidden(tokens), tokens, written=written)
        loss = -logprobs.sum() / written.sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        losses.append(loss.detach())
        if log and step % 100 == 99:
            log(step + 1, {"loss/sft": float(torch.stack(losses[-100:]).mean())})
    return float(torch.stack(losses[-100:]).mean())


def base_model(
    tokenizer: Tokenizer,
    task: Demonstrator,
    description: dict[str, Any],
    config: GPTConfig,
    sft: SFTConfig,
    device: torch.device | str = "cpu",
    cache_dir: Path | str | None = None,
    log: Callable[[int, dict[str, float]], Any] | None = None,
) -> GPT:
    """A GPT trained on the demonstrations of a task, from the cache if it is there; torch's global random state stays.

    The key is a digest of description (what makes the task, JSON), both configs, and the tokens of some demonstrations. Any
    number of processes may ask at once: whoever finishes puts a whole file in place. cache_dir is by default
    explore_gym/models in the user's cache directory.

    Raises:
        UsageError: the file in the cache is damaged, or of another configuration.
    """
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(sft.seed)
        model = GPT(config, tokenizer).to(device)
        path, content = cached_file(model, task, description, sft, cache_dir)
        if path.exists():
            read_model(model, path, content)
            return model
        fine_tune(model, task, sft, log)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save({"content": content, "model": model.state_dict()}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return model


def cached_file(
    model: GPT, task: Demonstrator, description: dict[str, Any], sft: SFTConfig, cache_dir: Path | str | None
) -> tuple[Path, str]:
    """The file of a base model, and what it has to hold, as JSON."""
    probe = dataclasses.replace(sft, batch_size=FINGERPRINT)
    tokens, written = demonstrations(model, task, probe, np.random.default_rng(0))
    digest = hashlib.sha256(str((tokens.tolist(), written.tolist())).encode()).hexdigest()
    parts = {
        "format": FORMAT,
        "task": description,
        "demonstrations": digest,
        "model": dataclasses.asdict(model.config),
        "sft": dataclasses.asdict(sft),
    }
    content = json.dumps(parts, sort_keys=True)
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(cache_dir) if cache_dir else user_cache / "explore_gym" / "models"
    return folder / f"{hashlib.sha256(content.encode()).hexdigest()[:20]}.pt", content


def read_model(model: GPT, path: Path, content: str) -> None:
    """Loads the parameters in a file of the cache."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself checks no checksum
            if broken := archive.testzip():
                raise zipfile.BadZipFile(f"bad checksum of {broken}")
        saved = torch.load(path, map_location="cpu", weights_only=True)
        found = saved["content"]
        if found == content:
            model.load_state_dict(saved["model"])
    except Exception as error:  # torch raises a different kind for every way in which the file can be damaged
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path} is damaged ({reason}); delete it to train this model again") from error
    if found != content:
        raise UsageError(f"{path} holds a model of another configuration, {found}; delete it to train this one")
