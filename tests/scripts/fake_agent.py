"""A run directory as agents write it, in no time: metric `score` is --level + seed / 100 + step / 1e6.

--fail-once makes the first start exit with code 3; --wait makes it hang before the last row until a file `go` is there.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--level", type=float)
parser.add_argument("--total-timesteps", type=int)
parser.add_argument("--seed", type=int)
parser.add_argument("--run-dir", type=Path)
parser.add_argument("--fail-once", type=Path)
parser.add_argument("--wait", type=Path)
parser.add_argument("--resume", action="store_true")
parser.add_argument("--quiet", action="store_true")
args = parser.parse_args()
started = time.monotonic()

args.run_dir.mkdir(parents=True, exist_ok=True)
config = {"level": args.level, "total_timesteps": args.total_timesteps, "seed": args.seed}
for name in ("fail_once", "wait"):
    if getattr(args, name):
        config[name] = str(getattr(args, name))
(args.run_dir / "config.json").write_text(json.dumps({"args": config, "versions": {"python": sys.version.split()[0]}}))
metrics = args.run_dir / "metrics.jsonl"
done = len(metrics.read_text().splitlines()) if metrics.exists() else 0
with open(args.run_dir / "starts", "a") as file:
    file.write("x")
if args.fail_once and not args.fail_once.exists():
    args.fail_once.touch()
    print("the fuse has blown")
    sys.exit(3)
with open(metrics, "a", buffering=1) as file:
    for step in range(100, args.total_timesteps + 100, 100)[done:]:
        while args.wait and step == args.total_timesteps and not args.wait.exists():
            assert time.monotonic() - started < 120, "nobody said go"
            time.sleep(0.02)
        row = {"step": step, "time": step / 1000, "score": args.level + args.seed / 100 + step / 1e6}
        file.write(json.dumps(row) + "\n")
np.savez(args.run_dir / "arrays.npz", ids=np.arange(9), counts=np.arange(9), bonuses=1 / np.arange(1, 10))
(args.run_dir / "summary.json").write_text(json.dumps({"step": args.total_timesteps, "time": 1.5}))
