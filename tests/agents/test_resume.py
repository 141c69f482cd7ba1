"""A run that is killed goes on to the numbers of one that wasn't."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest

AGENTS = pathlib.Path(__file__).parents[2] / "agents"
ARGUMENTS = (
    "--env", "Explore/DeepSea-v0", "--env-kwargs", '{"size": 5}', "--num-envs", "8", "--num-steps", "32",
    "--total-timesteps", "30720", "--checkpoint-interval", "0.001", "--device", "cpu", "--quiet",
)  # fmt: skip
ROWS = 120


def command(agent, folder, *more):
    return [sys.executable, str(AGENTS / f"{agent}.py"), *ARGUMENTS, "--run-dir", str(folder), *more]


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("time", "sps")} for line in lines]


@pytest.mark.slow
def test_kill_9_loses_nothing_but_time(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command("ppo", whole), check=True)
    assert len(rows(whole)) == ROWS

    process = subprocess.Popen(command("ppo", killed))
    deadline = time.monotonic() + 120
    while not ((killed / "checkpoint.pt").exists() and (killed / "metrics.jsonl").read_text().count("\n") > 10):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "summary.json").exists()
    subprocess.run(command("ppo", killed, "--resume"), check=True)
    assert rows(killed) == rows(whole)
