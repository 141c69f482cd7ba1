"""What an algorithm of your own needs to go through the test bed: its arguments, its metrics file, and a start for functions.

    args = external.arguments()                      # env, env_kwargs, seed, total_timesteps, run_dir
    log = external.Logger(args.run_dir)              # the first of two lines
    log(step, episode_return=1.0)                    # the second: whenever episodes have ended

Nothing heavy is imported here. `python -m explore_gym.scripts.external module:function --env ...` calls a function with
the arguments as keywords; the test bed does so where it is given `module:function`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

METRICS_FILE = "metrics.jsonl"


class Logger:
    """Writes metrics.jsonl: one JSON object per line with `step`, `time` and the metrics of one call.

    Args:
        run_dir: made if need be; a metrics file from before is replaced.
        resume_step: keep the rows up to this environment step, for a program that continues from a checkpoint of its own.
    """

    def __init__(self, run_dir: Path | str, resume_step: int = 0):
        self._path = Path(run_dir) / METRICS_FILE
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = self._path.read_text().split("\n")[:-1] if resume_step and self._path.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= resume_step]
        self._path.write_text("".join(f"{line}\n" for line in kept))
        self._started = time.monotonic() - (json.loads(kept[-1])["time"] if kept else 0.0)
        self._step = resume_step

    def __call__(self, step: int, episode_return: float | None = None, **metrics: float) -> None:
        """Writes one row.

        Args:
            step: environment steps so far, summed over the environments of a batch; never less than in the row before.
            episode_return: return of the episode that has ended, or the mean of those that have ended since the last row.
            metrics: anything else, e.g. success=1.0.

        Raises:
            ValueError: step goes back, or a metric is not a finite number.
        """
        if step < self._step:
            raise ValueError(f"step must not go back, got {step} after {self._step}")
        if episode_return is not None:
            metrics = {"episode_return": episode_return, **metrics}
        for key, value in metrics.items():
            if not math.isfinite(value):
                raise ValueError(f"{key} must be a finite number, got {value} at step {step}")
        self._step = int(step)
        row = {"step": self._step, "time": round(time.monotonic() - self._started, 3)}
        with open(self._path, "a") as file:
            file.write(json.dumps({**row, **{key: float(value) for key, value in metrics.items()}}) + "\n")


def arguments(argv: Sequence[str] | None = None, parser: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """Parses what the test bed appends to a command line; pass a parser that has options of your own to add to them."""
    parser = parser or argparse.ArgumentParser()
    parser.add_argument("--env", required=True, help="id of the environment")
    parser.add_argument("--env-kwargs", type=json.loads, default={}, help="its arguments, a JSON object")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, required=True, help="environment steps")
    parser.add_argument("--run-dir", type=Path, required=True, help="where metrics.jsonl goes")
    return parser.parse_args(argv)


def load(target: str) -> Any:
    """The function that `module:function` names.

    Raises:
        ValueError: there is no such module or function.
    """
    module, _, function = target.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot load {target!r}: {error}") from error


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", help="module:function")
    args = vars(arguments(argv, parser))
    load(args.pop("target"))(**args)


if __name__ == "__main__":
    main()
