"""An algorithm of a user's, in no time: ten rows with episode_return --level + seed / 100, also as a function `train`.

--fail-once makes the first start exit with code 3; --wait makes it hang before the last row until the file is there;
--stop-early writes only half of the rows; --bad replaces the last row.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path


def train(env, env_kwargs, seed, total_timesteps, run_dir, level=0.4, wait=None, stop_early=False, bad=None):
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with open(run_dir / "starts", "a") as file:
        file.write("x")
    started = time.monotonic()
    seen = {"env": env, "env_kwargs": env_kwargs, "seed": seed, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}
    (run_dir / "seen.json").write_text(json.dumps(seen))
    with open(run_dir / "metrics.jsonl", "w", buffering=1) as file:
        for k in range(1, 6 if stop_early else 11):
            while wait and k == 10 and not wait.exists():
                assert time.monotonic() - started < 120, "nobody said go"
                time.sleep(0.02)
            row = {"step": k * total_timesteps // 10, "time": k / 10, "episode_return": level + seed / 100}
            file.write((bad if bad and k == 10 else json.dumps(row)) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--env")
    parser.add_argument("--env-kwargs", type=json.loads, default={})
    parser.add_argument("--seed", type=int)
    parser.add_argument("--total-timesteps", type=int)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--level", type=float, default=0.4)
    parser.add_argument("--fail-once", type=Path)
    parser.add_argument("--wait", type=Path)
    parser.add_argument("--stop-early", action="store_true")
    parser.add_argument("--bad")
    args = vars(parser.parse_args())
    fuse = args.pop("fail_once")
    if fuse and not fuse.exists():
        fuse.touch()
        print("the fuse has blown")
        sys.exit(3)
    train(**args)
