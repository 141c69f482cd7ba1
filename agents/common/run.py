"""One training run: its arguments, its directory, metrics, checkpoints, progress bar and clean ends."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import random
import shlex
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import torch

from explore_gym.agents.common.device_envs import DeviceVectorEnv, device_for_envs
from explore_gym.agents.common.distributed import RANK, WORLD_SIZE, any_true, join, wait
from explore_gym.agents.common.envs import TorchVectorEnv, make_vec
from explore_gym.agents.common.errors import UsageError

# Arguments that may differ between a run and its continuation, because no number depends on them.
FREE = ("run_dir", "resume", "track", "checkpoint_interval", "quiet")


@dataclass(kw_only=True)
class Args:
    env: str = "Explore/FourRooms-v0"  # any registered id
    env_kwargs: str = "{}"  # JSON object with the environment's arguments
    autoreset_mode: Literal["SameStep", "NextStep", "Disabled"] = "SameStep"
    num_envs: int = 32
    total_timesteps: int = 1_000_000  # environment steps, rounded up to whole iterations
    seed: int = 1
    device: str = "auto"  # auto (cuda if there is one), cpu, cuda, cuda:1 ...
    threads: int = 1  # torch threads for one operation
    compile: bool = False  # compile what runs most: up to a minute of start-up, faster small minibatches
    run_dir: str = ""  # default: runs/<agent>__<env>__<seed>
    resume: bool = False  # continue the run in run_dir; start it if there is none
    checkpoint_interval: float = 60.0  # seconds
    eval_episodes: int = 0  # episodes of the trained policy after training
    track: bool = False  # send metrics to Weights & Biases as well
    quiet: bool = False  # no progress bar

    def __post_init__(self) -> None:
        for name in ("num_envs", "total_timesteps", "threads"):
            at_least(self, name, 1)
        at_least(self, "seed", 0)
        at_least(self, "eval_episodes", 0)
        if not self.checkpoint_interval > 0:
            raise UsageError(f"checkpoint_interval must be a positive number of seconds, got {self.checkpoint_interval}")
        if self.autoreset_mode not in ("SameStep", "NextStep", "Disabled"):
            raise UsageError(f"autoreset_mode must be SameStep, NextStep or Disabled, got {self.autoreset_mode!r}")
        try:
            is_object = isinstance(json.loads(self.env_kwargs), dict)
        except json.JSONDecodeError:
            is_object = False
        if not is_object:
            raise UsageError(f"env_kwargs must be a JSON object such as '{{\"size\": 9}}', got {self.env_kwargs!r}")


def at_least(args: Args, name: str, low: float) -> None:
    """Raises UsageError where args.name < low."""
    if not getattr(args, name) >= low:
        raise UsageError(f"{name} must be at least {low}, got {getattr(args, name)}")


def within(args: Args, name: str, low: float, high: float) -> None:
    """Raises UsageError where args.name lies outside [low, high]."""
    if not low <= getattr(args, name) <= high:
        raise UsageError(f"{name} must lie in [{low}, {high}], got {getattr(args, name)}")


def main(train: Callable[[Any], Any], args_class: type[Args]) -> None:
    """Parses the command line and trains; a UsageError becomes one line on stderr and exit code 2."""
    import tyro

    try:
        train(tyro.cli(args_class))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def choose_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def start(args: Args, agent_file: str, parallel: bool = False) -> Run:
    """Seeds everything, opens the run directory and returns the Run; parallel: whether the agent can be one of several.

    Raises:
        UsageError: the device cannot be used, the run directory belongs to another run, or torchrun has started several
            processes of an agent that runs in one.
    """
    agent = Path(agent_file).stem
    if WORLD_SIZE > 1 and not parallel:
        raise UsageError(f"agents/{agent}.py trains in one process, got {WORLD_SIZE}: start it without torchrun")
    if WORLD_SIZE > 1 and args.compile:
        raise UsageError("compile must be off in several processes: their exchange is no part of a compiled graph")
    return Run(args, agent)


class Run:
    """What `start` returns: directory, device, seeds, logger, progress bar and checkpoints of one training run.

    Use: `make_envs`, `persist` what has a state, iterate over `steps`, `log` in it, `close`.
    """

    def __init__(self, args: Args, agent: str):
        self.args, self.agent = args, agent
        self.device = choose_device(args.device)
        join(self.device)
        torch.set_num_threads(args.threads)
        torch.set_float32_matmul_precision("high")
        seeds = np.random.SeedSequence(args.seed, spawn_key=(RANK,) if RANK else ())  # each process has lanes of its own
        env_seed, eval_seed, torch_seed = seeds.generate_state(3)
        self.env_seed, self.eval_seed = int(env_seed), int(eval_seed)  # neighbouring seeds share no lane
        torch.manual_seed(int(torch_seed))
        np.random.seed(int(torch_seed))
        random.seed(int(torch_seed))

        self.dir = Path(args.run_dir or f"runs/{agent}__{args.env.replace('/', '-').replace(':', '-')}__{args.seed}")
        self.dir /= f"process{RANK}" if RANK else ""
        self.metrics_file, self.checkpoint_file = self.dir / "metrics.jsonl", self.dir / "checkpoint.pt"
        self.step, self.seconds = 0, 0.0  # environment steps so far; seconds of training, summed over resumes
        self.last: dict[str, float] = {}  # the newest value of every metric
        self.summary: dict[str, Any] = {}  # goes to summary.json beside the newest metrics
        self._stateful: dict[str, Any] = {}
        if RANK:
            wait()
        self._open_dir()  # first of all the first process's, which holds those of the others
        if not RANK:
            wait()
        self._tensorboard: Any = None
        self._progress: Any = None
        self._signalled = False

    def _open_dir(self) -> None:
        config = {"agent": self.agent, **dataclasses.asdict(self.args)}
        path = self.dir / "config.json"
        if path.exists():
            if not self.args.resume:
                raise UsageError(f"{self.dir} already holds a run: pass --resume, or another --run-dir")
            old = json.loads(path.read_text())["args"]
            differing = [
                f"{key} {old.get(key)!r} -> {config.get(key)!r}"
                for key in sorted(old.keys() | config.keys())
                if key not in FREE and old.get(key) != json.loads(json.dumps(config.get(key)))
            ]
            if differing:
                raise UsageError(f"{self.dir} holds a run with another configuration: {', '.join(differing)}")
            return
        if self.dir.exists() and any(self.dir.iterdir()):
            raise UsageError(f"{self.dir} is not empty and holds no run (no config.json): pass another --run-dir")
        self.dir.mkdir(parents=True, exist_ok=True)
        versions = {
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "gymnasium": gymnasium.__version__,
            "numpy": np.__version__,
        }
        path.write_text(json.dumps({"args": config, "versions": versions}, indent=2) + "\n")

    def make_envs(self, num_envs: int, on_device: bool = False) -> Any:
        """Makes the environment of the arguments, `num_envs` of it at once, a `TorchVectorEnv`.

        on_device: whether a `DeviceVectorEnv` will do, too; it is one if the run is on a GPU, where the environment and the
        mode allow it and numba-cuda is installed.

        Raises:
            UsageError: unknown id or arguments, or spaces no agent here can handle.
        """
        device = device_for_envs(self.device) if on_device else None
        envs = make_vec(self.args.env, num_envs, json.loads(self.args.env_kwargs), self.args.autoreset_mode, device)
        return DeviceVectorEnv(envs) if hasattr(envs.unwrapped, "device") else TorchVectorEnv(envs, self.device)

    def persist(self, **stateful: Any) -> None:
        """Puts objects with state_dict and load_state_dict into every checkpoint, and restores them on resume.

        Raises:
            UsageError: the checkpoint is damaged.
        """
        self._stateful = stateful
        if self.args.resume and self.checkpoint_file.exists():
            self.load()
        self._open_logs()

    def save(self) -> None:
        """Writes a checkpoint, replacing the last one in one move."""
        state = {
            "step": self.step,
            "seconds": self._now(),
            "last": self.last,
            "summary": json.dumps(self.summary),
            "metrics_size": self.metrics_file.stat().st_size,
            "rng": {
                "torch": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
                "numpy": [np.asarray(x).tolist() for x in np.random.get_state()],
                "python": random.getstate(),
            },
            **{f"state/{name}": x.state_dict() for name, x in self._stateful.items()},
        }
        temporary = self.checkpoint_file.with_suffix(".tmp")
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.checkpoint_file)

    def load(self) -> None:
        """Restores the run from its checkpoint and cuts the metrics back to it."""
        state = read_checkpoint(self.checkpoint_file)
        try:
            for name, x in self._stateful.items():
                x.load_state_dict(state[f"state/{name}"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise UsageError(f"{self.checkpoint_file} does not fit this program: {error}") from error
        self.step, self.seconds, self.last = state["step"], state["seconds"], state["last"]
        self.summary = json.loads(state["summary"])
        torch.set_rng_state(state["rng"]["torch"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["rng"]["cuda"])
        np.random.set_state(tuple(state["rng"]["numpy"]))
        random.setstate(state["rng"]["python"])
        if not self.metrics_file.exists() or self.metrics_file.stat().st_size < state["metrics_size"]:
            raise UsageError(f"{self.metrics_file} is shorter than {self.checkpoint_file.name} remembers it")
        os.truncate(self.metrics_file, state["metrics_size"])

    def _open_logs(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self.step == 0:
            self.metrics_file.write_text("")
        self._tensorboard = SummaryWriter(str(self.dir), purge_step=self.step + 1 if self.step else None)
        if self.args.track:
            try:
                import wandb
            except ImportError:
                raise UsageError("--track needs Weights & Biases: pip install wandb") from None

            self._wandb = wandb.init(
                project="explore-gym",
                name=self.dir.name,
                dir=str(self.dir),
                config=dataclasses.asdict(self.args),
                id=self.dir.name.replace("/", "-"),
                resume="allow",
            )
        self._started = time.perf_counter()
        self._mark = (self.step, self._started)

    def _now(self) -> float:
        return self.seconds + time.perf_counter() - self._started

    def steps(self, steps_per_iteration: int) -> Iterator[int]:
        """Yields the number of environment steps at the end of each iteration, until total_timesteps are reached.

        Between iterations it writes a checkpoint when checkpoint_interval has passed. After Ctrl-C or SIGTERM it
        finishes the iteration, writes a checkpoint, prints how to resume and leaves; a second Ctrl-C leaves at once.
        """
        saved, first = time.perf_counter(), True
        handlers = self._catch_signals()
        self._open_progress()
        try:
            while self.step < self.args.total_timesteps:
                self.step += steps_per_iteration
                yield self.step
                if first:
                    gc.freeze()  # Python's collector needn't look again at what imports and compilation have left
                    first = False
                due = time.perf_counter() - saved > self.args.checkpoint_interval
                signalled, due = any_true([self._signalled, due], self.device)  # processes save and leave together
                if signalled:
                    self.save()
                    self._leave()
                if due:
                    self.save()
                    saved = time.perf_counter()
            self.save()
        finally:
            gc.unfreeze()
            if self._progress:
                self._progress.stop()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _catch_signals(self) -> dict:
        if threading.current_thread() is not threading.main_thread():
            return {}

        def on_signal(number: int, frame: Any) -> None:
            if self._signalled:
                raise KeyboardInterrupt
            self._signalled = True

        return {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}

    def _leave(self) -> None:
        if self._progress:
            self._progress.stop()
        self._close_logs()
        command = [a for a in sys.argv if a != "--resume"] + ["--resume"]
        start = "python" if WORLD_SIZE == 1 else f"torchrun --nproc-per-node {WORLD_SIZE}"
        if RANK == 0:
            print(f"\nstopped at step {self.step:,}, checkpoint written; continue with\n  {start} {shlex.join(command)}")
        sys.exit(130)

    def _open_progress(self) -> None:
        if self.args.quiet or RANK or not sys.stdout.isatty():
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[sps]:>9,.0f} steps/s  return {task.fields[score]}"),
            TimeRemainingColumn(),
            refresh_per_second=2,
        )
        self._progress.start()
        self._bar = self._progress.add_task(
            self.dir.name, total=self.args.total_timesteps, completed=self.step, sps=0, score="-"
        )

    def log(self, step: int, metrics: dict[str, Any]) -> None:
        """Writes one row of metrics (floats or one-element tensors) with step, time and sps.

        Raises:
            FloatingPointError: a metric is not finite, i.e. training has diverged.
        """
        row = {key: float(value) for key, value in metrics.items()}
        for key, value in row.items():
            if not np.isfinite(value):
                raise FloatingPointError(f"{key} is {value} at step {step}: training has diverged")
        now = time.perf_counter()
        row["sps"] = (step - self._mark[0]) / (now - self._mark[1])
        self._mark = (step, now)
        self.last.update(row)
        with open(self.metrics_file, "a") as file:
            file.write(json.dumps({"step": step, "time": round(self._now(), 3), **row}) + "\n")
        for key, value in row.items():
            self._tensorboard.add_scalar(key, value, step)
        if self.args.track:
            self._wandb.log(row, step=step)
        if self._progress:
            score = self.last.get("episode_return")
            shown = "-" if score is None else f"{score:.3g}"
            self._progress.update(self._bar, completed=step, sps=row["sps"], score=shown)

    def _close_logs(self) -> None:
        if self._tensorboard:
            self._tensorboard.close()
        if self.args.track:
            self._wandb.finish()

    def close(self) -> None:
        """Writes summary.json, whose presence means that the run is complete, and learning_curve.png."""
        from explore_gym.agents.common.plots import learning_curve

        self._close_logs()
        if "episode_return" in self.last:
            learning_curve([self.dir], "episode_return", self.dir / "learning_curve.png")
        summary = {"step": self.step, "time": round(self._now(), 3), **self.last, **self.summary}
        temporary = self.dir / "summary.tmp"
        temporary.write_text(json.dumps(summary, indent=2) + "\n")
        os.replace(temporary, self.dir / "summary.json")


def read_checkpoint(path: Path) -> dict:
    """Reads a checkpoint file without running any code in it.

    Raises:
        UsageError: the file is missing, damaged or no checkpoint.
    """
    if not path.exists():
        raise UsageError(f"there is no checkpoint {path}")
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself checks no checksum
            if broken := archive.testzip():
                raise zipfile.BadZipFile(f"bad checksum of {broken}")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different kind for every way in which the file can be damaged
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path} is damaged ({reason}); delete it to start this run again") from error


def read_metrics(path: Path) -> list[dict]:
    """Rows of a metrics.jsonl, without a last line that was cut short."""
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1] if line]
